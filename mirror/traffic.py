"""How much may be asked of the network: what the user says, in one value."""

from __future__ import annotations

from dataclasses import dataclass

CONNECTIONS = 16
"""Connections to one server, unless the user says otherwise."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Limits on requests and bytes."""

    connections: int = CONNECTIONS
    """Most connections to one server."""
    bwlimit: str | None = None
    """Bytes a second for this process, as `mirror.http.throttle.read_table` takes it; None: any."""
