"""How a remote is to work: everything beside the URL of its source."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mirror.remotes.options import Options
from mirror.traffic import CONNECTIONS


@dataclass(frozen=True, slots=True)
class How:
    """What `mirror.remotes.open_remote` hands to the module of a kind of source."""

    deadline: float = 30.0
    """Seconds without a byte after which a request counts as stalled."""
    connections: int = CONNECTIONS
    """Most requests at once to one server; further ones wait for their turn."""
    trust_env: bool = False
    """Use the environment's proxies and CA file."""
    cache: Path | None = None
    """The folder of the cache that it is for, which no source may contain; None: nothing is cached."""
    options: Options = field(default_factory=Options)
    """What the user set for this source."""
