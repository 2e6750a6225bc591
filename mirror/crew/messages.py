"""What the processes of a crew say to each other."""

from __future__ import annotations

import json
from typing import Any

CALL = b"!"
"""To a helper: begin."""
END = b"."
"""To a helper: all is done, whoever did it."""

MOST = 64 * 1024
"""Bytes of a packet."""
LONGEST = 4 * 1024
"""Characters of a reason, or of a line for the log. Each takes at most six bytes of a packet; a path has as
many."""

Message = dict[str, Any]
"""From a helper, one JSON object in each packet: ``fetched``, ``came`` and ``under_way``, a number of files
and two of bytes; or ``failed``, a node, with ``path``, ``why``, and whether it is the ``origin`` that failed;
or ``level`` and ``says``, for the log; or ``ended``, when it does so by itself."""


def packed(message: Message) -> bytes:
    """One packet."""
    return json.dumps(message, separators=(",", ":")).encode("ascii")


def unpacked(packet: bytes) -> Message:
    """Read a packet that `packed` made."""
    message: Message = json.loads(packet)
    return message
