"""Remotes: where sources come from, one kind each behind the protocol of `mirror.remotes.base`.

`canonical` says whether a source string can mean anything, and gives it its one spelling, without any
I/O; `open_remote` makes the remote for it. A kind is a row in `KINDS`; its module is imported when a
source of that kind is opened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from mirror.errors import UsageError
from mirror.remotes.base import Remote

__all__ = ["KINDS", "SourceKind", "canonical", "open_remote"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")


class _Module(Protocol):
    """What the module of a kind of source provides."""

    def canonical(self, source: str) -> str:
        """Validate and normalise, scheme in lower case already. Raises `UsageError`."""

    def open_remote(self, url: str, *, deadline: float, connections: int, trust_env: bool) -> Remote:
        """Make the remote of a canonical source."""


@dataclass(frozen=True, slots=True)
class SourceKind:
    """The sources of one scheme."""

    example: str
    """How such a source is written, for messages."""
    module: str

    def load(self) -> _Module:
        """Import the module, and with it whatever this kind of source needs."""
        return cast("_Module", import_module(self.module))


KINDS: dict[str, SourceKind] = {
    "https": SourceKind("https://HOST/PATH/", "mirror.remotes.http"),
    "http": SourceKind("http://HOST/PATH/", "mirror.remotes.http"),
}
"""Every kind of source, by its scheme."""


def canonical(source: str) -> str:
    """Return the one spelling of a source.

    Raises:
        UsageError: it is malformed or of no known kind; one line that says what to write instead.
    """
    kind, normal = _kind(source)
    return kind.load().canonical(normal)


def open_remote(
    source: str, *, deadline: float = 30.0, connections: int = 16, trust_env: bool = False
) -> Remote:
    """Make the remote for a source. Nothing is sent yet; end it with ``aclose``.

    Args:
        source: in any spelling that `canonical` accepts.
        deadline: seconds without a byte after which a request counts as stalled.
        connections: most requests at once.
        trust_env: let the environment name proxies and certificate authorities.

    Raises:
        UsageError: as `canonical`.
        SetupError: credentials for it are there but cannot be read.
    """
    kind, normal = _kind(source)
    module = kind.load()
    return module.open_remote(
        module.canonical(normal), deadline=deadline, connections=connections, trust_env=trust_env
    )


def _kind(source: str) -> tuple[SourceKind, str]:
    found = _SCHEME.match(source)
    known = " or ".join(kind.example for kind in KINDS.values())
    # A word before a colon may also be a host with its port, or a user whose password follows.
    if found is None or found[2] is None:
        shown = source if "@" not in source else "…" + source.rpartition("@")[2]
        raise UsageError(f"{shown!a} is not a source; write {known}")
    scheme = found[1].lower()
    if (kind := KINDS.get(scheme)) is None:
        raise UsageError(f"{scheme}: is not a kind of source that is known; write {known}")
    return kind, scheme + source[len(scheme) :]
