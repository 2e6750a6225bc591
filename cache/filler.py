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

from cache import _files, errors
from cache.durability import Durability
from cache.errors import CacheBroken, CacheError
from cache.extents import Extents
from cache.file_thread import Job, done, file_thread
from cache.held import Held, HeldState
from cache.model import Arrival
from cache.names import unlink
from cache.space import Space
from cache.sums import BLOCK, Run


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
        size = sum(len(chunk) for chunk in chunks)
        self._wrote_some(offset, size, self._piece(offset, list(chunks), size).run())

    async def put(self, offset: int, chunks: list[bytes | bytearray | memoryview], size: int) -> None:
        """`write` all of ``chunks``, ``size`` bytes that have room, not blocking the event loop."""
        job = self._piece(offset, chunks, size)
        await file_thread(large=True).do(job)
        self._wrote_some(offset, size, job)

    def _piece(self, offset: int, chunks: list[bytes | bytearray | memoryview], size: int) -> Job:
        self._may_be_written(self.held.present.total + size)
        return self._job(offset, chunks)

    def _wrote_some(self, offset: int, size: int, job: Job) -> None:
        held = self.held
        with held.lock:
            self._wrote(offset, size, job)
            self._durability.wrote(held, size)

    async def store(self, chunks: list[bytes | bytearray | memoryview]) -> int:
        """`write` all of a file at once and `complete` it, not blocking the event loop. Raises as they do.

        After `CacheFull` it may be tried again.
        """
        self._may_be_written(size := sum(len(chunk) for chunk in chunks))
        job = await done(self._job(0, chunks, size), waits=self._durability.syncing)
        return self._given(self.stored(size, job))

    def storing(self, data: memoryview, *, wanted: bool) -> Job:
        """What `store` has to do with all of a file that has room (`Objects.allot`); see `stored`."""
        return self._job(0, [data], len(data), wanted=wanted)

    def stored(self, size: int, job: Job) -> int | None:
        """What `store` does when the job is done; None: no descriptor was wanted."""
        with self.held.lock:
            self._wrote(0, size, job)  # no checkpoint is due for what is sealed as it is
        return self._named(job)

    def _may_be_written(self, size: int) -> None:
        """Make sure of the room for ``size`` bytes; nothing is written any more once the disk has failed."""
        if self.held.failure is not None:
            raise self.held.failure
        self._space.need(self.held, size)

    def _job(
        self,
        at: int,
        chunks: list[bytes | bytearray | memoryview],
        size: int | None = None,
        *,
        wanted: bool = True,
    ) -> Job:
        """Work that writes; with the ``size`` of the whole file it is given its name as well.

        ``wanted``: it is opened for readers then.
        """
        held = self.held
        if size is None:
            return _files.store(self._fd, at, BLOCK, chunks)
        final, inode = held.paths.final, held.lease.inode
        return _files.store(self._fd, at, BLOCK, chunks, held.paths.part, final, inode, size, wanted)

    def _wrote(self, offset: int, size: int, job: Job) -> None:
        """Note what a job has written; with ``held.lock``."""
        held = self.held
        if job.stage == "write":
            raise _failed(job, f"write {size} bytes of {held.node.name} to the cache")
        for run in job.runs:
            held.sums.add(Run(*run))
        held.present.add(offset, offset + size)

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
        return self._given(self._named(self._job(0, [], held.size).run()))

    def _named(self, job: Job) -> int | None:
        held = self.held
        if job.closed:
            self._fd = -1
        if job.error or job.changed:
            self.discard()
            if job.changed:
                raise CacheBroken(f"the object of {self.node.name} was changed while it was written")
            raise _failed(job, f"name the object of {held.node.name}")
        fd, copy = job.named()
        with held.lock:
            if copy >= 0:
                held.given_out.append(copy)
            held.state = HeldState.COMPLETE
        self._durability.seal(held)
        return fd if fd >= 0 else None

    @staticmethod
    def _given(fd: int | None) -> int:
        assert fd is not None, "it was wanted"
        return fd

    def discard(self) -> None:
        """The bytes belong to no version that exists: remove them."""
        self._close_writer()
        held = self.held
        with held.lock:
            held.state = HeldState.DISCARDED
        self._durability.forget(held)
        try:
            unlink(held.paths.part)
        finally:
            self._space.finished(held)  # not before: until then its note says that there may be bytes
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


def _failed(job: Job, what: str) -> CacheError:
    exc = OSError(job.error, os.strerror(job.error))
    error = errors.of_os(exc, what)
    error.__cause__ = exc
    return error
