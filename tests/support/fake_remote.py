"""A source in memory whose faults and timing a test decides.

Only for what a real server cannot be made to show: the exact moment of a change, a failure at a
given byte, an answer that waits for the test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import trio

from cache import Entry, Kind
from cache.digests import Digest
from mirror.errors import MirrorError, NotFound, Transient, VersionChanged
from mirror.remotes.base import Asked, Listing, NotModified

MTIME = 1_700_000_000_000_000_000


@dataclass
class Source:
    """One file of the source."""

    data: bytes
    validator: str | None = 'etag:"1"'
    mtime_ns: int | None = MTIME
    size_listed: bool = True
    digest: Digest | None = None
    """What every answer promises of the file."""


@dataclass(frozen=True)
class Request:
    """One request that arrived."""

    kind: str
    path: str
    start: int = 0
    stop: int | None = None


@dataclass
class FakePart:
    """The body of one answer, delivered in chunks of the test's size."""

    remote: FakeRemote
    source: Source
    entry: Entry
    start: int
    stop: int | None
    size: int | None
    ranges: bool
    digest: Digest | None = None
    damaged: bool = False

    def __post_init__(self) -> None:
        self.at = self.start

    def __aiter__(self) -> FakePart:
        return self

    async def __anext__(self) -> bytes:
        end = len(self.source.data) if self.stop is None else self.stop
        if self.at >= end:
            raise StopAsyncIteration
        await trio.lowlevel.checkpoint()
        if self.at >= self.remote.gate_from:
            await self.remote.gate.wait()
        if self.remote.break_at is not None and self.at >= self.remote.break_at:
            self.remote.break_at = None
            raise Transient("the connection broke")
        chunk = self.source.data[self.at : min(end, self.at + self.remote.chunk)]
        if self.damaged and self.at == self.start:
            chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
        self.at += len(chunk)
        self.remote.delivered += len(chunk)
        return chunk


@dataclass
class FakeRemote:
    """Implements `mirror.remotes.base.Remote` over a dictionary."""

    files: dict[str, Source] = field(default_factory=dict)
    url: str = "fake://source/"
    ranges: bool = True
    lengths: bool = True
    chunk: int = 65536
    fault: MirrorError | None = None
    """Raised by every request while set."""
    gate_from: int = 0
    """Bodies wait for the gate from this byte of the file on."""
    break_at: int | None = None
    """The first body that reaches this byte breaks there, once."""
    damage: int = 0
    """So many of the bodies to come have their first byte changed on the way."""
    promise: Callable[[Request], Digest | None] | None = None
    """What an answer promises of the whole file; None: what its source says."""

    def __post_init__(self) -> None:
        self.seen: list[Request] = []
        self.delivered = 0
        self.gate = trio.Event()
        self.gate.set()

    @property
    def requests(self) -> int:
        return len(self.seen)

    def count(self, kind: str) -> int:
        return sum(request.kind == kind for request in self.seen)

    def _note(self, request: Request) -> None:
        self.seen.append(request)
        if self.fault is not None:
            raise self.fault

    async def list(self, path: str, validator: str | None = None) -> Listing | NotModified:
        self._note(Request("list", path))
        await trio.lowlevel.checkpoint()
        prefix = f"{path}/" if path else ""
        entries: dict[str, Entry] = {}
        for name, source in sorted(self.files.items()):
            if not name.startswith(prefix):
                continue
            first, slash, _ = name[len(prefix) :].partition("/")
            if slash:
                entries[first] = Entry(first, Kind.FOLDER)
            else:
                size = len(source.data) if source.size_listed else None
                entries[first] = Entry(first, Kind.FILE, size, source.mtime_ns)
        if not entries and path:
            raise NotFound(path)
        return Listing(list(entries.values()))

    async def stat(self, path: str) -> Entry:
        self._note(Request("stat", path))
        await trio.lowlevel.checkpoint()
        return self._entry(path)

    def _entry(self, path: str) -> Entry:
        source = self.files.get(path)
        if source is None:
            raise NotFound(path)
        size = len(source.data) if self.lengths else None
        return Entry(path.rpartition("/")[2], Kind.FILE, size, source.mtime_ns, validator=source.validator)

    @asynccontextmanager
    async def open_part(
        self, path: str, start: int = 0, stop: int | None = None, *, validator: str | None = None
    ) -> AsyncIterator[FakePart]:
        request = Request("part", path, start, stop)
        self._note(request)
        async with self.answered(request, validator) as part:
            yield part

    @asynccontextmanager
    async def answered(self, request: Request, validator: str | None) -> AsyncIterator[FakePart]:
        """The answer to a request that has arrived."""
        path, start, stop = request.path, request.start, request.stop
        await trio.lowlevel.checkpoint()
        entry = self._entry(path)
        source = self.files[path]
        if validator is not None and source.validator is not None and validator != source.validator:
            raise VersionChanged(path)
        if not self.ranges:
            start, stop = 0, None
        if stop is None and self.lengths:
            stop = len(source.data)
        digest = source.digest if self.promise is None else self.promise(request)
        damaged, self.damage = self.damage > 0, max(0, self.damage - 1)
        yield FakePart(self, source, entry, start, stop, entry.size, self.ranges, digest, damaged)

    async def aclose(self) -> None:
        """Nothing to close."""


class BulkRemote(FakeRemote):
    """The same, of which small files can be asked for with nobody waiting, as long as nothing is wrong."""

    async def begin(self, path: str, validator: str | None, told: Callable[[Asked], None]) -> Asked | None:
        """See `mirror.remotes.base.Bulk.begin`."""
        well = self.gate.is_set() and self.fault is None and self.break_at is None and not self.damage
        if not well or path not in self.files or not self.lengths:
            return None
        self._note(Request("part", path))
        asked = _Asked(self, path, validator)
        trio.lowlevel.current_trio_token().run_sync_soon(told, asked)
        return asked


class _Asked:
    def __init__(self, remote: FakeRemote, path: str, validator: str | None) -> None:
        self._remote = remote
        self._path = path
        self._validator = validator
        self._source = remote.files[path]

    def cancel(self) -> None:
        """It is told of at once anyway."""

    def plain(self) -> tuple[FakePart, memoryview] | None:
        source, remote = self._source, self._remote
        if remote.files.get(self._path) is not source or self._validator not in (None, source.validator):
            return None
        size = len(source.data)
        request = Request("part", self._path)
        digest = source.digest if remote.promise is None else remote.promise(request)
        name = self._path.rpartition("/")[2]
        entry = Entry(name, Kind.FILE, size, source.mtime_ns, validator=source.validator)
        return FakePart(remote, source, entry, 0, size, size, remote.ranges, digest), memoryview(source.data)

    def close(self) -> None:
        self._remote.delivered += len(self._source.data)

    def open(self) -> AbstractAsyncContextManager[FakePart]:
        return self._remote.answered(Request("part", self._path), self._validator)
