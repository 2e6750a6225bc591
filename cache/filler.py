"""The hands of the one who fills an object.

A `Filler` exists where a lease is held, so there is one for an object in the whole world. It writes,
and says what is there; what is there is served at once, and becomes safe later (`Durability`).

Completing an object never waits for the disk: the writer's descriptor is closed, the file is opened
for reading, *that* descriptor is checked and handed out, and the file gets its final name. What the
caller registers is what was checked, and nobody can write to it any more.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from cache import errors
from cache.durability import Durability
from cache.errors import CacheBroken
from cache.extents import Extents
from cache.held import Held, HeldState
from cache.model import Arrival
from cache.names import open_read, trustworthy, unlink
from cache.space import Space
from cache.sums import runs_of

IOV_MAX = 1024
"""Buffers that one system call takes at most."""


class Filler:
    """Made by `Objects.fill`. `write` may be called by several threads for disjoint ranges.

    It ends with `complete`, `discard` or `close`, which must not be called while a `write` is under way;
    after it has ended only `node` and `present` may be used.
    """

    def __init__(
        self,
        held: Held,
        fd: int,
        durability: Durability,
        space: Space,
        forget_rows: Callable[[Held], None],
    ) -> None:
        self.node = held.node
        self.held = held
        """For the other modules of this package."""
        self._fd = fd
        self._durability = durability
        self._space = space
        self._forget_rows = forget_rows

    @property
    def present(self) -> Extents:
        """What is written, also what is not yet safely on disk. Live: it grows with every `write`."""
        return self.held.present

    def write(self, offset: int, *chunks: bytes | bytearray | memoryview) -> None:
        """Write all of ``chunks`` one behind the other, beginning at ``offset``. Blocks.

        Room that was not reserved (`Objects.reserve`) is claimed here; nothing is evicted for it.

        Raises:
            CacheFull: no space is left; nothing of this write counts.
            CacheBroken: the disk failed.
        """
        held = self.held
        if held.failure is not None:
            raise held.failure
        size = sum(len(chunk) for chunk in chunks)
        self._space.need(held, held.present.total + size)
        # Of the bytes as they came: what the disk makes of them is what the sums are there to find.
        runs = runs_of(offset, chunks)
        try:
            self._write_all(offset, list(chunks))
        except OSError as exc:
            raise errors.of_os(exc, f"write {size} bytes of {held.node.name} to the cache") from exc
        with held.lock:
            for run in runs:
                held.sums.add(run)
            held.present.add(offset, offset + size)
            self._durability.wrote(held, size)

    def _write_all(self, at: int, left: list[bytes | bytearray | memoryview]) -> None:
        while left:
            done = os.pwritev(self._fd, left[:IOV_MAX], at)
            at += done
            while left and done >= len(left[0]):
                done -= len(left.pop(0))
            if done:  # cut short, at a full disk or by a signal
                left[0] = memoryview(left[0])[done:]

    def read(self, offset: int, size: int) -> bytes:
        """Bytes that are `present`. Raises `CacheBroken` when they cannot be read."""
        try:
            data = os.pread(self.held.lease.fd, size, offset)
        except OSError as exc:
            raise errors.of_os(exc, f"read {self.node.name} from the cache") from exc
        if len(data) != size:
            raise CacheBroken(f"the object of {self.node.name} is shorter than what was written to it")
        return data

    def set_size(self, size: int) -> None:
        """Note the length of the whole file, once the origin has told it.

        Raises:
            ValueError: another one was known, or more is present.
        """
        held = self.held
        if held.size not in (None, size) or size < held.present.stop:
            raise ValueError(f"{self.node.name} cannot have {size} bytes")
        held.size = size

    def learn(self, validator: str) -> None:
        """Note the version's strong validator, once the origin has told it.

        It reaches the index together with the bytes that were fetched under it, so whoever resumes
        them can ask for the rest of the same version.
        """
        self.held.validator = validator

    def alone(self) -> None:
        """Note that nothing tells whether another answer continues these bytes: they are never resumed."""
        self.held.alone = True

    def arrives(self, *, opened: bool, wanted: bool = False) -> None:
        """Note why this is fetched: somebody opens it now, or a user wants it here before that."""
        self.held.arrival = Arrival(opened, wanted)

    def promise(self, digest: str) -> None:
        """Note a digest that the origin states of the whole file, once all bytes were found to have it.

        ``digest`` is written ``sha-256:HEX``.
        """
        self.held.digest = digest

    def complete(self) -> int:
        """Give the object its final name; returns a descriptor for reading, which the caller owns.

        Raises:
            ValueError: not all is present.
            CacheBroken: the file is not what was written to it; it is discarded.
        """
        held = self.held
        if held.size is None or not held.present.covers(0, held.size):
            raise ValueError(f"{self.node.name} is not complete: {held.present} of {held.size} bytes")
        if held.failure is not None:
            self.discard()
            raise held.failure
        self._close_writer()
        fd = open_read(held.paths.part)
        if fd is None or not _is_whole(fd, held):
            if fd is not None:
                os.close(fd)
            self.discard()
            raise CacheBroken(f"the object of {self.node.name} was changed while it was written")
        try:
            os.rename(held.paths.part, held.paths.final)  # noqa: PTH104 - once for every file of an epoch
        except OSError as exc:
            os.close(fd)
            self.discard()
            raise errors.of_os(exc, f"name the object of {self.node.name}") from exc
        with held.lock:
            held.given_out.append(os.dup(fd))
            held.state = HeldState.COMPLETE
        self._durability.seal(held)
        return fd

    def discard(self) -> None:
        """The bytes belong to no version that exists: remove them."""
        self._close_writer()
        held = self.held
        with held.lock:
            held.state = HeldState.DISCARDED
        self._durability.forget(held)
        self._space.finished(held)
        try:
            unlink(held.paths.part)
        finally:
            self._forget_rows(held)

    def close(self) -> None:
        """Give the lease back, once what is there is safe; `Objects.fill` of this process need not wait."""
        held = self.held
        if not held.present or held.alone:
            self.discard()
            return
        self._close_writer()
        with held.lock:
            held.state = HeldState.CLOSED
            self._durability.closed(held)

    def _close_writer(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def _is_whole(fd: int, held: Held) -> bool:
    status = os.fstat(fd)
    return status.st_ino == held.lease.inode and status.st_size == held.size and trustworthy(status)
