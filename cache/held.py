"""An object that this process holds the lease of, from `Objects.fill` until the index knows of it."""

from __future__ import annotations

import threading
from enum import Enum, auto

from cache.errors import CacheError
from cache.extents import Extents
from cache.lease import Lease
from cache.model import Node
from cache.names import Paths


class HeldState(Enum):
    """Life of a held object. Changed only under `Held.lock`."""

    FILLING = auto()
    """A `Filler` writes to it."""
    CLOSED = auto()
    """The filler gave it back incomplete; the lease ends after a last checkpoint, or it is filled on."""
    COMPLETE = auto()
    """All bytes are written and it has its final name; the lease ends once it is sealed."""
    DISCARDED = auto()
    """Its bytes belong to no version: unlinked; the lease ends once its rows are deleted."""
    RELEASED = auto()
    """Not held any more."""


class Held:
    """What `Filler`, `Objects` and `Durability` share about one object."""

    __slots__ = (
        "digest",
        "durable",
        "failure",
        "lease",
        "lock",
        "next_checkpoint",
        "node",
        "paths",
        "present",
        "size",
        "state",
        "unsynced",
        "validator",
    )

    def __init__(self, node: Node, paths: Paths, lease: Lease, durable: Extents) -> None:
        self.node = node
        """As it was when the fill began."""
        self.paths = paths
        self.lease = lease
        self.lock = threading.Lock()
        self.state = HeldState.FILLING
        self.size = node.size
        """Length of the whole file; None until it is known."""
        self.validator = node.validator
        """Strong validator of the version; None until it is known."""
        self.digest: str | None = None
        """What the origin promises of the whole file and the bytes were found to have, as
        ``sha-256:HEX``; None: nothing was promised."""
        self.present = durable.copy()
        """What is written. Replaced ranges, not changed ones: may be read without the lock."""
        self.durable = durable
        """What the index says; of no interest but to checkpoints."""
        self.unsynced = 0
        """Bytes written since the last checkpoint began."""
        self.next_checkpoint: float | None = None
        """Monotonic seconds when the next one is due; None: nothing was written since the last."""
        self.failure: CacheError | None = None
        """The disk lost bytes that were written: nothing of this file can be trusted."""
