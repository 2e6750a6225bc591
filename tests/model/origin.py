"""The origin of the model's sequences: a `FakeRemote` whose state comes from outside with every operation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import trio

import mirror.errors
from cache import Entry
from mirror.errors import MirrorError, Transient, VersionChanged
from mirror.remotes.base import Listing, NotModified
from tests.model.reference import Version
from tests.support.fake_remote import FakePart, FakeRemote, Request, Source

UNSIZED = "unsized"
"""The path whose size no listing states."""


@dataclass(frozen=True)
class State:
    """What the origin has and does, sent along with every operation."""

    files: dict[str, Version] = field(default_factory=dict)
    fault: str | None = None
    """Name of the error class that every request raises."""
    part_fault: str | None = None
    """The same for the requests of bytes only."""
    breaks_every: int | None = None
    """Each body breaks after so many bytes."""
    ranges: bool = True
    lengths: bool = True
    lie: int = 0
    """Bytes by which bodies of no stated length are longer (shorter, below 0) than the file."""
    others: dict[str, Version] = field(default_factory=dict)
    """Versions that requests of bytes are answered with instead."""
    budget: int | None = None
    """Bytes that bodies may still deliver before they stall."""

    @property
    def faulty(self) -> bool:
        """Some requests may fail."""
        return any((self.fault, self.part_fault, self.breaks_every, self.lie, self.others))


@dataclass(frozen=True)
class Later:
    """What happens to the origin in the middle of an operation."""

    after: int
    """Bytes that the origin delivers before."""
    state: State


def error(name: str) -> MirrorError:
    kind: type[MirrorError] = getattr(mirror.errors, name)
    return kind("as the test wants it")


def source(version: Version) -> Source:
    return Source(version.content, version.validator, version.mtime_ns, size_listed=version.path != UNSIZED)


class Origin(FakeRemote):
    """In the process under test."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.state = State()
        self.later: Later | None = None
        self.told: set[tuple[str, str]] = set()
        """Listings and answers to stat since `become`: kind and path."""
        self.since = 0
        """Bytes delivered since `become`."""
        self.bodies = 0
        self.stalled = 0
        """Bodies that are open, and those of them that wait."""

    def become(self, state: State, later: Later | None) -> None:
        """Be in a state from now on."""
        self.later = later
        self.told = set()
        self.since = 0
        self._enter(state)
        self._pass_time()

    def _enter(self, state: State) -> None:
        self.state = state
        self.files = {path: source(version) for path, version in state.files.items()}
        self.fault = None if state.fault is None else error(state.fault)
        self.ranges, self.lengths = state.ranges, state.lengths
        old, self.gate = self.gate, trio.Event()
        if self.left is None or self.left > 0:
            self.gate.set()
        old.set()

    @property
    def left(self) -> int | None:
        return None if self.state.budget is None else self.state.budget - self.since

    def _pass_time(self) -> None:
        if self.later is not None and self.since >= self.later.after:
            state, self.later = self.later.state, None
            self._enter(state)

    def finish(self) -> None:
        """The operation has ended: what was to happen in it has happened."""
        if self.later is not None:
            state, self.later = self.later.state, None
            self._enter(state)

    def delivers(self, count: int) -> None:
        self.since += count
        self._pass_time()
        if self.left is not None and self.left <= 0:
            self.gate = trio.Event()

    async def list(self, path: str, validator: str | None = None) -> Listing | NotModified:
        answer = await super().list(path, validator)
        self.told.add(("list", path))
        return answer

    async def stat(self, path: str) -> Entry:
        entry = await super().stat(path)
        if self.state.lie:  # somebody has to state a length, or any would be right
            entry = replace(entry, size=len(self.files[path].data))
        self.told.add(("stat", path))
        return entry

    @asynccontextmanager
    async def open_part(
        self, path: str, start: int = 0, stop: int | None = None, *, validator: str | None = None
    ) -> AsyncIterator[FakePart]:
        self._note(Request("part", path, start, stop))
        await trio.lowlevel.checkpoint()
        if self.state.part_fault is not None:
            raise error(self.state.part_fault)
        entry = self._entry(path)
        served = self.files[path]
        if path in self.state.others:
            served = source(self.state.others[path])
            size = len(served.data) if self.lengths else None
            entry = Entry(entry.name, entry.kind, size, served.mtime_ns, validator=served.validator)
        if validator is not None and served.validator is not None and validator != served.validator:
            raise VersionChanged(path)
        if not self.ranges:
            start, stop = 0, None
        elif start > len(served.data) or (start and start == len(served.data)):
            raise VersionChanged(f"416 for {path}")  # as `mirror.http.answers` has it
        if not self.lengths and path != UNSIZED:
            data = served.data + b"\xff" * max(0, self.state.lie)
            served = Source(data[: len(data) + min(0, self.state.lie)], served.validator, served.mtime_ns)
        if self.lengths:
            stop = len(served.data) if stop is None else min(stop, len(served.data))
        self.bodies += 1
        try:
            yield Body(self, served, entry, start, stop, entry.size, self.ranges)
        finally:
            self.bodies -= 1


class Body(FakePart):
    """A body that stalls and breaks as the origin's state wants it."""

    remote: Origin

    def __post_init__(self) -> None:
        super().__post_init__()
        self.delivered = 0

    async def __anext__(self) -> bytes:
        origin = self.remote
        end = len(self.source.data) if self.stop is None else self.stop
        if self.at >= end:
            raise StopAsyncIteration
        await trio.lowlevel.checkpoint()
        while not origin.gate.is_set():
            origin.stalled += 1
            try:
                await origin.gate.wait()
            finally:
                origin.stalled -= 1
        if origin.fault is not None:
            raise Transient("the connection broke")
        limit = origin.state.breaks_every
        if limit is not None and self.delivered >= limit:
            raise Transient("the connection broke")
        size = min(origin.chunk, end - self.at)
        if limit is not None:
            size = min(size, limit - self.delivered)
        if origin.left is not None:
            size = min(size, max(1, origin.left))
        if origin.later is not None:
            size = min(size, max(1, origin.later.after - origin.since))
        chunk = self.source.data[self.at : self.at + size]
        self.at += size
        self.delivered += size
        origin.delivers(size)
        return chunk
