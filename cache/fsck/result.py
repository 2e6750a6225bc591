"""What a check of a cache found, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class Verdict(IntEnum):
    """How a check ended. The values are the exit codes of ``mirror fsck``."""

    CLEAN = 0
    """Nothing had to be changed."""
    REPAIRED = 1
    """Something was wrong, and is right now (of a dry run: would be)."""
    CANNOT = 2
    """Something is wrong still."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was wrong."""

    kind: str
    """One word or two, to count by: ``object``, ``partial object``, ``file``, ``index``…"""
    what: str
    """What it was, in one line."""
    done: str
    """What was done about it (of a dry run: would be), or why nothing could be."""
    fixed: bool = True


@dataclass(slots=True)
class Result:
    """What a check found."""

    dry_run: bool
    findings: list[Finding] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    """Paths of what is none of the cache's files: harmless, and somebody else's."""
    objects: int = 0
    """Complete ones, at the end."""
    bytes: int = 0
    """Of the complete ones."""
    partial: int = 0
    """Incomplete ones, at the end."""

    @property
    def verdict(self) -> Verdict:
        """How it ended."""
        if not self.findings:
            return Verdict.CLEAN
        return Verdict.REPAIRED if all(finding.fixed for finding in self.findings) else Verdict.CANNOT

    def add(self, kind: str, what: str, done: str, *, fixed: bool = True) -> None:
        """Note a finding."""
        self.findings.append(Finding(kind, what, done, fixed))
