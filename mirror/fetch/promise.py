"""What the origin promised of one version, and whether the bytes that came keep it.

Every answer may state a digest of the whole file. They are gathered while a fill runs, and before its
object is completed the bytes are held against the strongest: from then on the kernel serves them, so
nothing may be completed that the origin itself calls wrong.

Small files are held against it in memory (`Promise.check`), all others as the cache gives them back
(:mod:`mirror.fetch.hashing`), so a disk that returns other bytes than were written is found as well.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from cache.digests import Algorithm, Digest, Hasher, hasher
from mirror.errors import BrokenPromise

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
        return self.kept(promised, hashing)

    def kept(self, promised: Digest, hashing: Hasher) -> Digest:
        """Hold what was hashed against one of the promises, and return that.

        Raises:
            BrokenPromise: it is something else.
        """
        if hashing.digest() != promised.value:
            raise BrokenPromise(
                f"{self._path} does not match the {promised.algorithm.label} that the origin itself promises"
            )
        return promised


def _update(hashing: Hasher, chunks: Iterable[bytes | bytearray | memoryview]) -> None:
    for chunk in chunks:
        hashing.update(chunk)
