"""How much room a cache may take: what a user sets, and what that means on the disk of this moment. Pure.

The limits belong to the cache, not to one mount: they are kept in its index, and every process that
uses it keeps to them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

DEFAULT_MIN_FREE = "5%"
"""What is left to others unless it is set: a full disk harms more than a smaller cache."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Bytes, or a share of the file system."""

    bytes: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> Amount:
        """Read ``"1073741824"`` or ``"20%"``, the forms of the index.

        Raises:
            ValueError: it is neither, or below 0, or above 100%.
        """
        if text.endswith("%"):
            percent = float(text[:-1])
            if not 0 <= percent <= 100:
                raise ValueError(f"{text}: a share is between 0% and 100%")
            return cls(percent=percent)
        amount = int(text)
        if amount < 0:
            raise ValueError(f"{text}: an amount of bytes is not below 0")
        return cls(bytes=amount)

    def of(self, total: int) -> int:
        """Bytes, on a file system of ``total`` bytes."""
        return self.bytes if self.bytes is not None else int(total * (self.percent or 0.0) / 100)

    def __str__(self) -> str:
        return f"{self.percent:g}%" if self.bytes is None else str(self.bytes)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is set for one cache."""

    cache_size: Amount | None = None
    """Most bytes that objects may take; None: no limit but the disk."""
    min_free: Amount | None = None
    """Least bytes that stay free on the file system; None: `DEFAULT_MIN_FREE`."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system of a cache at one moment, in bytes."""

    total: int
    free: int
    """Free for this user."""

    @classmethod
    def of(cls, folder: str) -> Disk:
        """Ask the kernel. Raises OSError."""
        status = os.statvfs(folder)
        return cls(status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize)


@dataclass(frozen=True, slots=True)
class Room:
    """What the limits mean now. All in bytes."""

    occupied: int
    """By all objects."""
    claimed: int
    """Taken ahead by all processes, for what is being written."""
    capacity: int
    """Most that objects may take together: the cache's size where one is set, else what the disk has."""
    left: int
    """What may be claimed now; below 0: the limits were lowered, or others filled the disk."""
    disk_is_short: bool
    """It is ``min_free`` that leaves no more, not ``cache_size``."""


def room(limits: Limits, disk: Disk, occupied: int, claimed: int) -> Room:
    """Work out what is left.

    What is claimed may be written already or not, so it is counted as if none of it were: never too
    little is left free.
    """
    min_free = (limits.min_free or Amount.parse(DEFAULT_MIN_FREE)).of(disk.total)
    by_disk = disk.free - claimed - min_free
    on_disk = occupied + max(0, by_disk) + claimed
    if limits.cache_size is None:
        return Room(occupied, claimed, on_disk, by_disk, disk_is_short=True)
    size = limits.cache_size.of(disk.total)
    by_size = size - occupied - claimed
    return Room(occupied, claimed, min(size, max(on_disk, 0)), min(by_size, by_disk), by_disk < by_size)
