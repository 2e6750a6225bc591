"""The process under test: a cache and a source over it, told what to do over a pipe.

`main` runs in a process that only forks: everything is imported, no thread was
started, and each connection that it receives becomes a child that serves it. So a new process under
test takes a few milliseconds, and can be killed like any other.

Sizes are made small here, so that a file of 50 KB is fetched like one of 500 MB, in parts, runs and
checkpoints.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

import trio

import cache.verification
from cache import Cache, CacheError, Node, Objects, State, durability, eviction, sums
from cache.errors import CacheFull
from cache.held import HeldState
from cache.limits import Amount, Limits
from mirror import namespace as namespace_module
from mirror.background import background
from mirror.config import OpenMode
from mirror.errors import MirrorError, VersionChanged
from mirror.fetch import Fetcher, Priority, fill, open_fetcher, plan
from mirror.fetch.descriptors import Descriptors
from mirror.fetch.fill import FillState
from mirror.filesystem import FileSystem
from mirror.namespace import Namespace
from mirror.retry import Schedule
from tests.cache.crash import arm
from tests.model.origin import Later, Origin
from tests.model.origin import State as OriginState

KIB = 1024
SCHEDULE = Schedule(first=0.0001, longest=0.0005, tries=3, deadline=10.0)
WAIT_BYTES = 24 * KIB
"""Larger files are opened before they are complete."""
LOOKS = 8
"""So many looks in a row at an origin that delivers nothing more, and an operation is given up."""
WAITING = ("lookup", "list", "open", "read", "warm")
"""Operations that may wait for the origin."""


@dataclass(frozen=True)
class Shown:
    """What a look-up says of a node."""

    id: int
    size: int | None
    mtime_ns: int
    validator: str | None
    complete: bool

    @classmethod
    def of(cls, node: Node, complete: bool) -> Shown:
        return cls(node.id, node.size, node.mtime_ns or 0, node.validator, complete)


@dataclass(frozen=True)
class Ask:
    """One operation, and the world it happens in."""

    name: str
    args: tuple[Any, ...]
    now: float
    origin: OriginState
    later: Later | None = None


@dataclass
class Answer:
    """What became of it."""

    value: Any = None
    error: str | None = None
    """Name of the class of an expected error."""
    message: str = ""
    bug: str | None = None
    """A traceback, or a message that was logged as an error."""
    blocked: bool = False
    """It waited for an origin that had stalled, and was given up."""
    told: set[tuple[str, str]] = field(default_factory=set)
    complete: set[int] = field(default_factory=set)
    """Nodes whose objects are complete now, sealed or not."""
    sealed: set[int] = field(default_factory=set)
    filling: set[int] = field(default_factory=set)
    """Nodes whose objects are being filled by this process, with room for them."""
    current: set[int] = field(default_factory=set)
    linked: dict[int, bool] = field(default_factory=dict)
    """Kept handles, and whether their objects have their names still."""
    occupied: int = 0
    claimed: int = 0
    wrong: list[str] = field(default_factory=list)
    """What the index contradicts itself in."""


class Mounted(Descriptors):
    """The keeper's part: objects open because they may be read again, let go of when their room is wanted."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects)
        self.backing: dict[int, int] = {}
        self.closed = False
        objects.eviction.holders.append(self.let_go)

    def register(self, node: Node, fd: int) -> None:
        if node.id not in self.backing and not self.closed:
            self.backing[node.id] = os.dup(fd)

    def close(self) -> None:
        super().close()
        self.closed = True
        while self.backing:
            os.close(self.backing.popitem()[1])

    async def let_go(self, nodes: Sequence[int]) -> set[int]:
        for node in nodes:
            fd = self.backing.pop(node, None)
            if fd is not None:
                os.close(fd)
            descriptor = self._open.pop(node, None)
            if descriptor is not None:
                descriptor.close()
        return set()


class System:
    """The operations. Each method is one; what it returns is the answer's value."""

    def __init__(
        self, home: Path, cache: Cache, origin: Origin, fs: FileSystem, fetcher: Fetcher, mounted: Mounted
    ) -> None:
        self.home = home
        self.cache = cache
        self.origin = origin
        self.fs = fs
        self.fetcher = fetcher
        self.mounted = mounted
        self.handles: dict[int, int] = {}

    # -- names and bytes ---------------------------------------------------------------------

    async def _node(self, path: str) -> Node:
        node = self.fs.root
        for name in path.split("/"):
            node = await self.fs.lookup(node.id, name)
        return node

    def _shown(self, node: Node) -> Shown:
        return Shown.of(node, self.cache.objects.state(node).complete)

    async def lookup(self, path: str) -> Shown:
        return self._shown(await self._node(path))

    async def list(self, path: str) -> list[tuple[str, Shown]]:
        node = await self._node(path) if path else self.fs.root
        nodes = await self.fs.list_folder(node.id, 0, 1000)
        return [(f"{path}/{n.name}" if path else n.name, self._shown(n)) for n in nodes if n.kind == 1]

    async def open(self, path: str) -> Shown:
        return await self._current(path, lambda node: self.fs.open(node.id))

    async def warm(self, path: str) -> Shown:
        return await self._current(path, lambda node: self.fetcher.whole(node, Priority.WARM))

    async def _current(self, path: str, work: Callable[[Node], Awaitable[None]]) -> Shown:
        """As the kernel does: what is stale in an open is looked up once more."""
        for last in (False, True):
            node = await self._node(path)
            shown = self._shown(node)
            try:
                await work(node)
            except VersionChanged:
                if last or shown.complete:
                    raise
            else:
                return shown
        raise AssertionError

    async def read(self, node: int, offset: int, size: int) -> tuple[bool, bytes | MirrorError]:
        complete = self.cache.objects.state(self.fs.namespace.node(node)).complete
        try:
            return complete, bytes(await self.fs.read(node, offset, size))
        except MirrorError as exc:
            return complete, exc

    async def hold(self, handle: int, node: int) -> int | None:
        """Keep a descriptor as the kernel keeps a backing file that is open; its length."""
        fd = self.cache.objects.open_complete(self.fs.namespace.node(node))
        if fd is None:
            return None
        self.handles[handle] = fd
        return os.fstat(fd).st_size

    async def read_held(self, handle: int, offset: int, size: int) -> bytes:
        return os.pread(self.handles[handle], size, offset)

    async def release(self, handle: int) -> None:
        os.close(self.handles.pop(handle))

    # -- the cache ---------------------------------------------------------------------------

    async def sync(self) -> None:
        await self.cache.objects.sync()

    async def free(self, size: int) -> int:
        return await self.cache.objects.free(size)

    async def drop(self, node: int) -> bool:
        """Whether nothing was being fetched: else it may be there again at once."""
        alone = not self.fetcher.running
        self.mounted.forget(node)
        await self.cache.objects.drop(self.fs.namespace.node(node))
        return alone

    async def pin(self, pattern: str) -> None:
        await self.cache.pins.add(self.fs.root.id, [pattern])

    async def unpin(self, pattern: str) -> None:
        await self.cache.pins.remove(self.fs.root.id, [pattern])

    async def limit(self, size: int | None) -> None:
        if size is None:
            await self.cache.space.unset_cache_size()
        else:
            await self.cache.space.set_limits(Limits(Amount(bytes=size)))

    async def verify(self, node: int, flip: int | None) -> tuple[str, bool, bool, int, int]:
        """Look at an object, after one of its bits was changed.

        Returns what was found, whether it was complete, whether a bit of known bytes was changed, the
        node that stands for it now, and its mode of life.
        """
        await self.cache.objects.sync()
        known = self.fs.namespace.node(node)
        state = self.cache.objects.state(known)
        flipped = False
        held = self.cache.objects.held(known) is not None
        ranges = list(state.extents)
        if flip is not None and ranges and not held:
            start, stop = ranges[flip % len(ranges)]
            if stop > start:
                at = start + flip % (stop - start)
                paths = self.cache.objects._names.of(known.key)
                with Path(paths.final if state.complete else paths.part).open("r+b", buffering=0) as file:
                    byte = os.pread(file.fileno(), 1, at)
                    os.pwrite(file.fileno(), bytes([byte[0] ^ 1 << flip % 8]), at)
                flipped = True
        finding = await self.cache.verification.check(known)
        if finding.state is State.BAD:
            # As the worker does when it is told that an object is bad.
            await self.mounted.let_go([node])
        return finding.state.name, state.complete, flipped, finding.node.id, len(ranges)

    async def arm(self, function: str, at: int, after: bool) -> None:
        arm(function, at, after=after)

    async def nothing(self) -> None:
        pass

    # -- after each --------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether all that is fetched waits for an origin that has stalled, or for the other process."""
        fills = self.fetcher._fills.values()
        follows = any(fill.state is FillState.FOLLOWING for fill in fills)
        return self.origin.bodies == self.origin.stalled and (follows or self.origin.stalled > 0)

    async def stalled(self) -> None:
        """Return once there is nothing more to come."""
        looks = 0
        while looks < LOOKS:
            looks = looks + 1 if self.waits else 0
            await trio.sleep(0.0005)

    async def settle(self) -> None:
        """Wait until what goes on in the background has ended, or waits for the origin."""
        looks = 0
        with trio.fail_after(20):
            while self.fetcher.running and looks < LOOKS:
                looks = looks + 1 if self.waits else 0
                await trio.sleep(0.0003)

    def look(self, answer: Answer) -> None:
        """Note what is here now, and what contradicts itself."""
        reader = self.cache.tree._reader
        sealed = reader.all("SELECT node FROM objects WHERE sealed_at IS NOT NULL")
        answer.sealed = {node for (node,) in sealed}
        helds = list(self.cache.objects._held.values())
        done = {held.node.id for held in helds if held.state is HeldState.COMPLETE}
        answer.complete = answer.sealed | done
        answer.filling = {held.node.id for held in helds if held.state is HeldState.FILLING}
        answer.current = {node for (node,) in reader.all("SELECT id FROM nodes WHERE current = 1")}
        answer.linked = {handle: os.fstat(fd).st_nlink > 0 for handle, fd in self.handles.items()}
        (answer.occupied, answer.claimed) = reader.one(
            "SELECT (SELECT sum(bytes) FROM queues), (SELECT coalesce(sum(bytes), 0) FROM claims)"
        ) or (0, 0)
        for what, sql in CHECKS.items():
            if rows := reader.all(sql):
                answer.wrong.append(f"{what}: {rows}")


CHECKS = {
    "foreign keys": "PRAGMA foreign_key_check",
    "queues": """
        SELECT * FROM (SELECT q.queue, q.objects AS n, q.bytes AS b,
            (SELECT count(*) FROM objects o WHERE o.queue = q.queue) AS n2,
            (SELECT coalesce(sum(occupied), 0) FROM objects o WHERE o.queue = q.queue) AS b2
        FROM queues q) WHERE n != n2 OR b != b2""",
    "extents of a sealed object": """
        SELECT node FROM objects JOIN extents USING (node) WHERE sealed_at IS NOT NULL""",
    "extents beyond the end": """
        SELECT node, stop, size FROM objects JOIN extents USING (node) WHERE stop > size""",
    "extents that overlap": """
        SELECT a.node, a.start, a.stop, b.start FROM extents a JOIN extents b ON a.node = b.node
        WHERE a.start < b.start AND b.start < a.stop""",
    "two nodes of one object": """
        SELECT object FROM nodes WHERE object IS NOT NULL GROUP BY object HAVING count(*) > 1""",
    "a node and its ghost": "SELECT node FROM ghosts JOIN objects USING (node)",
}
"""Queries that give no rows of a sound index."""


class _Errors(logging.Handler):
    """What is logged as an error is a bug here."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))


def make_small() -> None:
    """Make files of some KB what files of some hundred MB are."""
    sums.BLOCK = cache.verification.BLOCK = 16 * KIB
    fill.SMALL = 4 * KIB
    fill.FLUSH = 4 * KIB
    fill.FOLLOW_INTERVAL = 0.001
    fill.ROOM = 32 * KIB
    plan.NEAR = 4 * KIB
    plan.next_part.__defaults__ = (16 * KIB,)
    eviction.POLL_SECONDS = 0.001
    eviction.EXTRA = 16 * KIB
    # Nothing becomes safe by itself: the sequence says when, or the need for room does.
    durability.GATHER_SECONDS = durability.CHECKPOINT_SECONDS = durability.USED_SECONDS = 1e6
    namespace_module.REVALIDATION = Schedule(first=0.0001, longest=0.0005, tries=2, deadline=5.0)


async def serve(pipe: Connection, home: Path, ttl: float) -> None:
    """Do what the pipe says until it says ``close``."""
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    logging.getLogger().setLevel(logging.ERROR)
    clock = [1000.0]
    origin = Origin(chunk=3000)
    async with Cache.open(home) as opened:
        namespace = Namespace(
            opened.tree,
            origin,
            await opened.tree.root(origin.url),
            ttl=ttl,
            schedule=SCHEDULE,
            clock=lambda: clock[0],
        )
        mounted = Mounted(opened.objects)
        async with open_fetcher(
            opened.objects,
            origin,
            namespace,
            schedule=SCHEDULE,
            completed=mounted.register,
            delivery=mounted,
        ) as fetcher:
            fs = FileSystem(namespace, fetcher, open_mode=OpenMode.AUTO, open_wait_bytes=WAIT_BYTES)
            system = System(home, opened, origin, fs, fetcher, mounted)
            pipe.send(await _answer(system, errors, "nothing", system.nothing))
            while True:
                await trio.lowlevel.wait_readable(pipe.fileno())
                ask: Ask = pipe.recv()
                if ask.name == "close":
                    break
                clock[0] = ask.now
                origin.become(ask.origin, ask.later)
                work = partial(getattr(system, ask.name), *ask.args)
                pipe.send(await _answer(system, errors, ask.name, work))
    answer = Answer()
    if errors.seen:
        answer.bug = "\n".join(errors.seen)
    pipe.send(answer)


async def _answer(system: System, errors: _Errors, name: str, work: Any) -> Answer:
    answer = Answer()
    may_stall = name in WAITING and system.origin.state.budget is not None

    async def give_up(scope: trio.CancelScope) -> None:
        await system.stalled()
        scope.cancel()

    try:
        with trio.fail_after(30):
            async with background() as nursery:
                with trio.CancelScope() as scope:
                    if may_stall:
                        nursery.start_soon(give_up, scope)
                    answer.value = await work()
        answer.blocked = scope.cancelled_caught
        system.origin.finish()
        await system.settle()
    except (MirrorError, CacheError) as exc:
        answer.error, answer.message = type(exc).__name__, str(exc)
        if isinstance(exc, CacheFull) and "no room" not in str(exc):
            answer.bug = traceback.format_exc()
        system.origin.finish()
        await system.settle()
    except Exception:  # noqa: BLE001 - whatever it is, it is a finding
        answer.bug = traceback.format_exc()
    if errors.seen:
        answer.bug = "\n".join([answer.bug or "", *errors.seen])
        errors.seen.clear()
    answer.told = set(system.origin.told)
    system.look(answer)
    return answer


def child(fd: int) -> None:
    """Serve one connection; never returns."""
    pipe = Connection(fd)
    try:
        home, ttl = pipe.recv()
        trio.run(serve, pipe, home, ttl)
        os._exit(0)
    except EOFError:
        os._exit(0)  # whoever tests has gone
    except BaseException:  # noqa: BLE001 - what a fork must never do is return
        traceback.print_exc()
        os._exit(1)


def main() -> None:
    """Fork a child for each connection that arrives; answer ``reap`` with how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    pipe = Connection(control.detach())
    make_small()
    gc.freeze()
    while True:
        try:
            what = pipe.recv()
        except EOFError:
            return
        if what == "fork":
            fd = recv_handle(pipe)
            pid = os.fork()
            if pid == 0:
                pipe.close()
                child(fd)
            os.close(fd)
            pipe.send(pid)
        else:
            pipe.send(os.waitpid(what, 0)[1])
