"""What is there from the first byte on is hashed while the rest comes, and the outcome is the same."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import trio
import trio.testing

from cache import CacheBroken, Extents, Filler
from cache.digests import Algorithm, Digest, Hasher, hasher
from mirror.config import FetchMode, OpenMode
from mirror.errors import BrokenPromise, VersionChanged
from mirror.fetch import Priority
from mirror.fetch.awaited import Awaited
from mirror.fetch.hashing import Hashing
from mirror.fetch.promise import Promise
from mirror.fetch.slots import Slots
from tests.support.data import MiB, noise
from tests.support.fake_remote import FakeRemote, Source
from tests.support.worlds import World, opened

Opener = Callable[..., AbstractAsyncContextManager[World]]

PIECE, VISIT, WORTH = 7, 64, 20
SIZE = 1000
DATA = noise("hashing", SIZE)


class FakeFiller(Filler):
    """An object in memory, which notes how often each byte was read."""

    def __init__(self, data: bytes = DATA) -> None:
        self.data = bytearray(data)
        self.reads: list[tuple[int, int]] = []
        self.failing = False
        self._present = Extents()

    @property
    def present(self) -> Extents:
        return self._present

    def has(self, start: int, stop: int) -> None:
        self._present.add(start, stop)

    def read(self, offset: int, size: int) -> bytes:
        assert self._present.covers(offset, offset + size)
        if self.failing:
            raise CacheBroken("the disk failed")
        self.reads.append((offset, offset + size))
        return bytes(self.data[offset : offset + size])


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files of some hundred bytes."""
    for name, value in {"PIECE": PIECE, "VISIT": VISIT, "WORTH": WORTH}.items():
        monkeypatch.setattr(f"mirror.fetch.hashing.{name}", value)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[Algorithm]:
    """The bytes that went into a digest of each algorithm."""
    counts: Counter[Algorithm] = Counter()

    class Counting:
        def __init__(self, algorithm: Algorithm) -> None:
            self._algorithm = algorithm
            self._hasher = hasher(algorithm)
            self.digest = self._hasher.digest

        def update(self, data: bytes | bytearray | memoryview, /) -> None:
            counts[self._algorithm] += len(data)
            self._hasher.update(data)

    def counting(algorithm: Algorithm) -> Hasher:
        return Counting(algorithm)

    monkeypatch.setattr("mirror.fetch.hashing.hasher", counting)
    return counts


def of(algorithm: Algorithm, data: bytes = DATA) -> Digest:
    hashing = hasher(algorithm)
    hashing.update(data)
    return Digest(algorithm, hashing.digest())


def promising(*digests: Digest) -> Promise:
    promise = Promise("a")
    for digest in digests:
        promise.heard(digest)
    return promise


def parts(chosen: random.Random) -> list[tuple[int, int]]:
    """All of the file, in any pieces and in any order."""
    edges = [0, *sorted(chosen.sample(range(1, SIZE), chosen.randrange(30))), SIZE]
    ranges = list(pairwise(edges))
    chosen.shuffle(ranges)
    return ranges


async def all_ahead(hashing: Hashing) -> None:
    while await hashing.go_on():
        pass


# -- the bytes of one object -----------------------------------------------------------------


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("seed", range(60))
async def test_parts_come_in_any_order_and_promises_at_any_time(seed: int) -> None:
    """The strongest that was heard is what the bytes are held against, as one wrong byte anywhere shows."""
    chosen = random.Random(seed)
    promised = chosen.sample(list(Algorithm), chosen.randrange(1, 4))
    wrong = chosen.randrange(SIZE) if seed % 2 else None
    filler, promise = FakeFiller(), Promise("a")
    if wrong is not None:
        filler.data[wrong] ^= 1 << chosen.randrange(8)
    hashing = Hashing(promise, filler)
    to_come = [*promised]
    for start, stop in parts(chosen):
        filler.has(start, stop)
        if to_come and chosen.random() < 0.3:
            promise.heard(of(to_come.pop()))
        if chosen.random() < 0.7:
            await all_ahead(hashing)
    for algorithm in to_come:
        promise.heard(of(algorithm))
    strongest = max(promised, key=lambda algorithm: algorithm.strength)
    if wrong is None:
        assert await hashing.check() == of(strongest)
    else:
        with pytest.raises(BrokenPromise, match=strongest.label):
            await hashing.check()


@pytest.mark.usefixtures("sizes")
async def test_at_the_end_only_the_rest_is_hashed(hashed: Counter[Algorithm]) -> None:
    """And what was hashed is summed again: no byte is hashed twice."""
    filler = FakeFiller()
    hashing = Hashing(promising(of(Algorithm.SHA256)), filler)
    filler.has(0, 300)
    filler.has(400, 900)
    await all_ahead(hashing)
    ahead = hashed[Algorithm.SHA256]
    assert 300 - WORTH < ahead <= 300
    assert sum(stop - start for start, stop in filler.reads) == ahead
    filler.has(300, 400)
    filler.has(900, SIZE)
    filler.reads.clear()
    await hashing.check()
    assert hashed == {Algorithm.SHA256: SIZE, Algorithm.CRC32C: 2 * ahead}
    assert sum(stop - start for start, stop in filler.reads) == SIZE


@pytest.mark.usefixtures("sizes")
async def test_nothing_is_read_when_nothing_is_promised() -> None:
    filler = FakeFiller()
    hashing = Hashing(Promise("a"), filler)
    filler.has(0, SIZE)
    await all_ahead(hashing)
    assert await hashing.check() is None
    assert filler.reads == []


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize(
    ("algorithm", "there"),
    [(Algorithm.SHA256, (1, SIZE)), (Algorithm.SHA256, (0, WORTH - 1)), (Algorithm.CRC32C, (0, SIZE))],
)
async def test_nothing_is_hashed_ahead_in_vain(algorithm: Algorithm, there: tuple[int, int]) -> None:
    """Neither behind a gap, nor a little, nor where reading once at the end is all that has to be done."""
    filler = FakeFiller()
    hashing = Hashing(promising(of(algorithm)), filler)
    filler.has(*there)
    await all_ahead(hashing)
    assert filler.reads == []
    filler.has(0, SIZE)
    assert await hashing.check() == of(algorithm)
    assert sum(stop - start for start, stop in filler.reads) == SIZE


@pytest.mark.usefixtures("sizes")
async def test_a_stronger_promise_begins_anew_and_a_weaker_one_does_not(hashed: Counter[Algorithm]) -> None:
    filler, promise = FakeFiller(), promising(of(Algorithm.MD5))
    hashing = Hashing(promise, filler)
    filler.has(0, 640)
    await all_ahead(hashing)
    promise.heard(of(Algorithm.SHA256))
    await all_ahead(hashing)
    promise.heard(of(Algorithm.SHA1))
    filler.has(640, SIZE)
    assert await hashing.check() == of(Algorithm.SHA256)
    assert (hashed[Algorithm.MD5], hashed[Algorithm.SHA256], hashed[Algorithm.SHA1]) == (640, SIZE, 0)


@pytest.mark.usefixtures("sizes")
async def test_a_disk_that_returns_other_bytes_later_is_found() -> None:
    """Although what was hashed was right: it is what the disk says in the end that counts."""
    filler = FakeFiller()
    hashing = Hashing(promising(of(Algorithm.MD5)), filler)
    filler.has(0, SIZE)
    await all_ahead(hashing)
    filler.data[17] ^= 1
    with pytest.raises(BrokenPromise):
        await hashing.check()


@pytest.mark.usefixtures("sizes")
async def test_a_disk_that_is_right_in_the_end_is_believed() -> None:
    filler = FakeFiller()
    hashing = Hashing(promising(of(Algorithm.MD5)), filler)
    filler.has(0, SIZE)
    filler.data[17] ^= 1
    await all_ahead(hashing)
    filler.data[17] ^= 1
    assert await hashing.check() == of(Algorithm.MD5)


@pytest.mark.usefixtures("sizes")
async def test_a_visit_that_is_cancelled_ends_before_its_task() -> None:
    """No thread goes on reading, and what it has read is not hashed again."""
    begun, release = trio.Event(), threading.Event()

    class Slow(FakeFiller):
        def read(self, offset: int, size: int) -> bytes:
            if not begun.is_set():
                trio.from_thread.run_sync(begun.set)
                assert release.wait(10)
            return super().read(offset, size)

    filler = Slow()
    filler.has(0, SIZE)
    hashing = Hashing(promising(of(Algorithm.SHA256)), filler)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(all_ahead, hashing)
        await begun.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            assert nursery.child_tasks
            release.set()
    assert filler.reads[-1][1] == VISIT
    assert await hashing.check() == of(Algorithm.SHA256)


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("ahead", [True, False])
async def test_what_cannot_be_read_back_is_an_error_of_the_disk(ahead: bool) -> None:
    filler = FakeFiller()
    filler.has(0, SIZE)
    hashing = Hashing(promising(of(Algorithm.SHA256)), filler)
    filler.failing = True
    with pytest.raises(CacheBroken):
        await (hashing.go_on() if ahead else hashing.check())


# -- in a fill -------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    monkeypatch.setattr("mirror.fetch.fill.TICK", 0.001)
    monkeypatch.setattr("mirror.fetch.hashing.WORTH", MiB)
    return partial(opened, tmp_path / "cache")


LARGE = noise("large", 40 * MiB)


def halting() -> FakeRemote:
    """It serves the first 30 MiB, and the rest once its gate is open."""
    digest = of(Algorithm.SHA256, LARGE)
    remote = FakeRemote({"a": Source(LARGE, digest=digest)}, chunk=MiB, gate_from=30 * MiB)
    remote.gate = trio.Event()
    return remote


class Watched:
    """What happens to fillers, in its order; a test may hold up the first read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, held: bool = False) -> None:
        self.seen: list[str] = []
        self.read = trio.Event()
        self.release = threading.Event()
        if not held:
            self.release.set()
        read, close, discard = Filler.read, Filler.close, Filler.discard

        def watched(filler: Filler, offset: int, size: int) -> bytes:
            if not self.seen:
                self.seen.append("begun")
                trio.from_thread.run_sync(self.read.set)
                assert self.release.wait(10)
            data = read(filler, offset, size)
            self.seen.append("read")
            return data

        def closed(filler: Filler) -> None:
            self.seen.append("closed")
            close(filler)

        def discarded(filler: Filler) -> None:
            self.seen.append("closed")
            discard(filler)

        monkeypatch.setattr("cache.Filler.read", watched)
        monkeypatch.setattr("cache.Filler.close", closed)
        monkeypatch.setattr("cache.Filler.discard", discarded)


async def test_bytes_are_hashed_while_others_come(world: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    remote = halting()
    async with world(remote, open_mode=OpenMode.WAIT) as w, trio.open_nursery() as nursery:
        node = await w.node("a")
        nursery.start_soon(w.fs.open, node.id)
        with trio.fail_after(20):
            await watched.read.wait()
        assert w.registered == []
        remote.gate.set()
        await w.fetcher.whole(node)
        assert await w.content(node) == LARGE


@pytest.mark.parametrize("end", ["cancelled", "gone"])
async def test_an_object_is_put_away_when_nobody_reads_from_it_any_more(
    end: str, world: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fill that ends waits for the thread that hashes."""
    watched = Watched(monkeypatch, held=True)
    remote = halting()
    async with world(remote, open_mode=OpenMode.STREAM) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        with trio.fail_after(20):
            await watched.read.wait()
        assert watched.seen == ["begun"]
        threading.Timer(0.05, watched.release.set).start()
        if end == "gone":
            remote.files["a"] = Source(LARGE, validator='etag:"2"')
            remote.break_at = 30 * MiB
            remote.gate.set()
            with pytest.raises(VersionChanged):
                await w.fetcher.whole(node)
    assert watched.seen.count("closed") == 1
    assert watched.seen[-1] == "closed"


@pytest.mark.parametrize("ahead", [True, False])
async def test_a_disk_that_cannot_be_read_fails_the_fill_whenever_that_shows(
    ahead: bool, world: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(_filler: Filler, _offset: int, _size: int) -> bytes:
        raise CacheBroken("read error")

    monkeypatch.setattr("cache.Filler.read", failing)
    remote = halting()
    if not ahead:
        monkeypatch.setattr("mirror.fetch.hashing.WORTH", 1 << 40)
        remote.gate.set()
    async with world(remote, open_mode=OpenMode.WAIT) as w:
        node = await w.node("a")
        with trio.fail_after(20):
            await w.fs.open(node.id)
        assert w.registered == []
    assert "a is read past the cache: the cache failed: read error" in caplog.text


async def test_nothing_is_hashed_ahead_of_a_reader(world: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the bytes as they come, and waits for no check: the CPUs are better used for the next ones."""
    monkeypatch.setattr("mirror.fetch.hashing.WORTH", 2 * MiB)
    watched = Watched(monkeypatch)
    remote = halting()
    remote.gate_from = MiB
    async with world(remote, open_mode=OpenMode.STREAM) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        assert await w.content(node, MiB, 0) == LARGE[:MiB]
        gate, remote.gate = remote.gate, trio.Event()
        remote.gate_from = 30 * MiB
        gate.set()
        for at in range(0, 29 * MiB, MiB):
            await w.content(node, MiB, at)
        assert not watched.read.is_set()
        remote.gate.set()
        await w.fetcher.whole(node)
        assert watched.read.is_set()
        assert await w.content(node) == LARGE


async def test_nothing_is_hashed_ahead_of_what_may_never_come() -> None:
    """Until somebody wants all of the file."""
    fill = Awaited(Priority.DEMAND, Slots(4, 1), FetchMode.TOUCHED)
    assert not fill.unread
    fill.want_all()
    assert fill.unread
    fill.served = True
    assert not fill.unread
