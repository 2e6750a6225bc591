"""What the processes of a crew say to each other: one JSON object in each packet of a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cache import CacheError
from mirror.errors import MirrorError, OriginFailed

MOST = 64 * 1024
"""Bytes of a packet."""
LONGEST_WHY = 8 * 1024
"""Characters of a reason: each takes at most six bytes of a packet."""

Message = dict[str, Any]
"""To a helper: ``node``, an id, and ``want`` (`FRESH` or `BYTES`); or ``end``.

From a helper: ``node`` with what came of it (of `FRESH` the id ``now``, of `BYTES` ``fetched`` and
``met``), or with ``failed`` and ``why``; or ``came`` and ``under_way``, in bytes; or ``level`` and ``says``,
for the log.
"""

FRESH = "fresh"
BYTES = "bytes"


def packed(message: Message) -> bytes:
    """One packet."""
    return json.dumps(message, separators=(",", ":")).encode("ascii")


def unpacked(packet: bytes) -> Message:
    """Read a packet that `packed` made."""
    message: Message = json.loads(packet)
    return message


def failure(exc: MirrorError | CacheError) -> Message:
    """Say an error."""
    return {"failed": type(exc).__name__, "why": str(exc)[:LONGEST_WHY]}


def error(message: Message) -> MirrorError | CacheError:
    """Return the error that `failure` said: of the same class, so that it is treated alike."""
    kind = _KINDS.get(message["failed"], OriginFailed)
    return kind(message["why"])


def _kinds(of: type[MirrorError | CacheError]) -> Iterator[type[MirrorError | CacheError]]:
    yield of
    for kind in of.__subclasses__():
        yield from _kinds(kind)


_KINDS = {kind.__name__: kind for base in (MirrorError, CacheError) for kind in _kinds(base)}
