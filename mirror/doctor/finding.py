"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    """As it should be."""
    WARN = "warn"
    """Mounts work, with less than this project is for: slower, fewer files at once, for fewer users."""
    FAIL = "fail"
    """No mount can work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was seen, and what to do about it."""

    check: str
    """A short name that stays the same over releases: scripts may look for it."""
    verdict: Verdict
    seen: str
    """One clause."""
    advice: str | None = None
    """The next step, where there is one."""
