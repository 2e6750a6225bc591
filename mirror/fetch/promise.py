"""What the origin promised of one version, and whether the bytes that came keep it.

Every answer may state a digest of the whole file. They are gathered while a fill runs, and before its
object is completed the bytes are held against the strongest: from then on the kernel serves them, so
nothing may be completed that the origin itself calls wrong.

Digests are computed of what is in memory, or of what the cache gives back, so a disk that returns
other bytes than were written is found as well.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from cache import Filler
from cache.digests import Algorithm, Digest, Hasher, hasher
from mirror.errors import BrokenPromise

PIECE = 1024 * 1024
"""Bytes read back and hashed at a time."""
VISIT = 64 * PIECE
"""Bytes hashed in one visit to a thread, which cannot be cancelled: some hundredths of a second."""
AT_ONCE = 128 * 1024
"""Up to so many bytes are hashed on the event loop: 0.2 ms at most, about what going to a thread takes."""


class Promise:
    """The promises of the answers to one attempt at one version."""

    def __init__(self, path: str) -> None:
        """``path`` is named in messages."""
        self._path = path
        self._stated: dict[Algorithm, Digest] = {}

    @property
    def strongest(self) -> Digest | None:
        """What the bytes will be held against; None: nothing was promised."""
        return max(self._stated.values(), key=lambda digest: digest.algorithm.strength, default=None)

    def heard(self, digest: Digest | None) -> None:
        """Note what an answer promises; None: nothing.

        Raises:
            BrokenPromise: another answer promised something else, so they are of two versions, or
                the origin does not know what it serves.
        """
        if digest is not None and self._stated.setdefault(digest.algorithm, digest) != digest:
            raise BrokenPromise(
                f"{self._path}: the origin promises another {digest.algorithm.label} than a moment ago"
            )

    async def check(self, chunks: Iterable[bytes | bytearray | memoryview], size: int) -> Digest | None:
        """Hold bytes in memory, ``size`` of them, against the promise.

        Returns:
            The digest that they have; None: nothing was promised.

        Raises:
            BrokenPromise: they are not what was promised.
        """
        if (promised := self.strongest) is None:
            return None
        hashing = hasher(promised.algorithm)
        if size <= AT_ONCE:
            _update(hashing, chunks)
        else:
            await trio.to_thread.run_sync(_update, hashing, chunks)
        return self._kept(promised, hashing)

    async def check_written(self, filler: Filler) -> Digest | None:
        """Hold everything that was written to an object against the promise; all has to be there.

        Returns and raises as `check` does, and `CacheBroken` when it cannot be read back.
        """
        if (promised := self.strongest) is None:
            return None
        hashing = hasher(promised.algorithm)
        size = filler.present.stop
        for start in range(0, size, VISIT):
            await trio.to_thread.run_sync(_update_written, hashing, filler, start, min(start + VISIT, size))
        return self._kept(promised, hashing)

    def _kept(self, promised: Digest, hashing: Hasher) -> Digest:
        if hashing.digest() != promised.value:
            raise BrokenPromise(
                f"{self._path} does not match the {promised.algorithm.label} that the origin itself promises"
            )
        return promised


def _update(hashing: Hasher, chunks: Iterable[bytes | bytearray | memoryview]) -> None:
    for chunk in chunks:
        hashing.update(chunk)


def _update_written(hashing: Hasher, filler: Filler, start: int, stop: int) -> None:
    for at in range(start, stop, PIECE):
        hashing.update(filler.read(at, min(PIECE, stop - at)))
