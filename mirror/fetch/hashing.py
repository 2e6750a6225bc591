"""What was written to an object, held against the promise: hashed while the rest still comes.

A digest takes longer than a near origin takes to bring the bytes (MD5 of 1 GiB: 1.5 s). So whatever is there
without a gap from the first byte on is read back and hashed already, and at the end only the rest is left.

What is read back so early comes from the page cache, whatever the disk made of it, and readers will have what
the disk says. So a CRC-32C is made beside the digest, and at the end the hashed bytes are read and summed
again, in a fifteenth of the time that MD5 takes. When they are not the same any more, all is hashed anew: a
disk that returns other bytes than were written is found as if nothing had been hashed before the end, but for
one damage in 4 billion, which a CRC-32C does not show. Where a CRC-32C is what was promised, this reading is
the check itself, and nothing is hashed ahead.

Nobody writes a byte twice (`storing.write` fills gaps only), so bytes that were hashed stay what they are as
long as the lease is held. Whoever takes it again begins with a new `Hashing`: in between, another process may
have begun the object anew.
"""

from __future__ import annotations

import os

import trio

from cache import Filler
from cache.digests import Algorithm, Digest, Hasher, hasher
from mirror.fetch.promise import Promise

PIECE = 1024 * 1024
"""Bytes read back and hashed at a time."""
VISIT = 64 * PIECE
"""Bytes hashed in one visit to a thread, which cannot be cancelled: a tenth of a second for MD5."""
WORTH = 16 * PIECE
"""Bytes that have to be there before they are hashed ahead of the end."""

_AHEAD = trio.CapacityLimiter(max(1, len(os.sched_getaffinity(0)) - 1))
"""Threads of this process that hash ahead: apart from those that everybody needs, and one CPU is left."""


class Hashing:
    """Of one object under one lease. One task at a time; after an error it is of no use."""

    def __init__(self, promise: Promise, filler: Filler) -> None:
        """``promise`` may still grow; which digest is made is decided by what was heard."""
        self._promise = promise
        self._filler = filler
        self._at = 0  # one past the last byte that was hashed, and summed
        self._begin(Algorithm.CRC32C)

    async def go_on(self) -> bool:
        """Hash what is there behind what was hashed; False: that is not worth a visit to a thread.

        Raises:
            CacheBroken: it cannot be read back.
        """
        promised = self._promise.strongest
        if promised is None or promised.algorithm is Algorithm.CRC32C:
            return False
        self._make(promised.algorithm)
        start, stop = self._at, min(self._front(), self._at + VISIT)
        if stop - start < WORTH:
            return False
        both = (self._hasher, self._sum)
        await trio.to_thread.run_sync(self._read, start, stop, *both, limiter=_AHEAD)
        self._at = stop
        return True

    async def check(self) -> Digest | None:
        """Hold everything against the promise; all has to be there.

        Returns:
            The digest that it has; None: nothing was promised.

        Raises:
            BrokenPromise: it is not what was promised.
            CacheBroken: it cannot be read back.
        """
        if (promised := self._promise.strongest) is None:
            return None
        self._make(promised.algorithm)
        again = hasher(Algorithm.CRC32C)
        await self._visit(0, self._at, again)
        if again.digest() != self._sum.digest():
            self._begin(promised.algorithm)
        await self._visit(self._at, self._filler.present.stop, self._hasher)
        return self._promise.kept(promised, self._hasher)

    def _make(self, algorithm: Algorithm) -> None:
        """Go on with this algorithm, or begin with it: a stronger one may have been heard of."""
        if algorithm is not self._algorithm:
            self._begin(algorithm)

    def _begin(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._hasher = hasher(algorithm)
        self._sum = hasher(Algorithm.CRC32C)
        self._at = 0

    def _front(self) -> int:
        """Where the first gap begins, or the end of what is there."""
        present = self._filler.present
        gap = present.first_gap(0, present.stop)
        return present.stop if gap is None else gap[0]

    async def _visit(self, start: int, stop: int, hashing: Hasher) -> None:
        for at in range(start, stop, VISIT):
            await trio.to_thread.run_sync(self._read, at, min(at + VISIT, stop), hashing)

    def _read(self, start: int, stop: int, *into: Hasher) -> None:
        for at in range(start, stop, PIECE):
            data = self._filler.read(at, min(PIECE, stop - at))
            for hashing in into:
                hashing.update(data)
