"""An object that this process holds the lease of, from `Objects.fill` until the index knows of it."""

from __future__ import annotations

import threading
from enum import Enum, auto

from cache.errors import CacheError
from cache.extents import Extents
from cache.lease import Lease
from cache.model import Arrival, Node
from cache.names import Paths
from cache.sums import Sums


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
        "allotted",
        "alone",
        "arrival",
        "counted",
        "digest",
        "durable",
        "failure",
        "given_out",
        "lease",
        "lock",
        "next_checkpoint",
        "node",
        "paths",
        "present",
        "size",
        "state",
        "sums",
        "unsynced",
        "validator",
    )

    def __init__(self, node: Node, paths: Paths, lease: Lease, durable: Sums, counted: int) -> None:
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
        self.alone = False
        """Its bytes can be joined to no others: the index hears of it when it is complete."""
        self.present = Extents((run.start, run.stop) for run in durable)
        """What is written. Replaced ranges, not changed ones: may be read without the lock."""
        self.sums = durable
        """The same with the checksums of what came."""
        self.durable = durable.copy()
        """What the index says; of no interest but to checkpoints."""
        self.counted = counted
        """Bytes of disk that its row in the index says. Of no interest but to `Space`, as the next."""
        self.allotted = counted
        """Bytes of disk that it may take."""
        self.digest: str | None = None
        """What the origin promises of the whole file and the bytes were found to have, as
        ``sha-256:HEX``; None: nothing was promised."""
        self.arrival = Arrival()
        """Why it is fetched."""
        self.given_out: list[int] = []
        """Copies of the descriptors that were given out and cannot say yet that it is in use."""
        self.unsynced = 0
        """Bytes written since the last checkpoint began."""
        self.next_checkpoint: float | None = None
        """Monotonic seconds when the next one is due; None: nothing was written since the last."""
        self.failure: CacheError | None = None
        """The disk lost bytes that were written: nothing of this file can be trusted."""
