"""What the processes of a crew say to each other: one JSON object in each packet of a socket."""

from __future__ import annotations

import json
from typing import Any

import cache.errors
import mirror.errors
from cache import CacheError
from mirror.errors import MirrorError

MOST = 64 * 1024
"""Bytes of a packet."""
LONGEST_WHY = 8 * 1024
"""Characters of a reason: each takes at most six bytes of a packet."""

Message = dict[str, Any]
"""To a helper: ``node``, an id, and ``want`` (`FRESH`, or `BYTES` with the ``path``); or ``end``.

From a helper: ``node`` with what came of it (of `FRESH` the id ``now``, of `BYTES` whether it was
``fetched``), or with ``failed`` and ``why``; or ``came`` and ``under_way``, in bytes; or ``level`` and
``says``, for the log; or at its end ``safe``.
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
    """Say an error, by the nearest class that everybody knows."""
    known = next(kind.__name__ for kind in type(exc).__mro__ if kind.__name__ in _KINDS)
    return {"failed": known, "why": str(exc)[:LONGEST_WHY]}


def error(message: Message) -> MirrorError | CacheError:
    """Return the error that `failure` said: of such a class that it is treated alike."""
    return _KINDS[message["failed"]](message["why"])


_KINDS: dict[str, type[MirrorError | CacheError]] = {
    kind.__name__: kind
    for kind in [*vars(cache.errors).values(), *vars(mirror.errors).values()]
    if isinstance(kind, type) and issubclass(kind, MirrorError | CacheError)
}
"""Of the two modules that say what can go wrong; other modules' own are kinds of these."""
