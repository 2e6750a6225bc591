"""What the origin promises of a file, held against the bytes that came."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
import trio

from cache.digests import Algorithm, Digest, hasher
from mirror.config import OpenMode
from mirror.errors import BrokenPromise, ProtocolError
from tests.support.data import KiB, MiB, noise
from tests.support.fake_remote import FakeRemote, Request, Source
from tests.support.worlds import World, opened

Opener = Callable[..., AbstractAsyncContextManager[World]]

WRONG = Digest(Algorithm.SHA256, bytes(32))
SIZES = [0, 1, 100 * KiB, MiB, MiB + 1, 20 * MiB]


@pytest.fixture(params=["while they come", "at the end"], autouse=True)
def hashed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of this holds however much is hashed before the last byte has come."""
    monkeypatch.setattr("mirror.fetch.fill.TICK", 0.001)
    monkeypatch.setattr("mirror.fetch.hashing.WORTH", 1 if request.param == "while they come" else 1 << 40)


@pytest.fixture
def world(tmp_path: Path) -> Opener:
    return partial(opened, tmp_path / "cache")


def of(algorithm: Algorithm, data: bytes) -> Digest:
    hashing = hasher(algorithm)
    hashing.update(data)
    return Digest(algorithm, hashing.digest())


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("size", SIZES)
async def test_bytes_that_are_as_promised_are_completed(
    world: Opener, size: int, algorithm: Algorithm
) -> None:
    data = noise("right", size)
    remote = FakeRemote({"a": Source(data, digest=of(algorithm, data))}, chunk=700_001)
    async with world(remote, open_mode=OpenMode.WAIT) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        assert w.registered == [node.id]
        assert await w.content(node) == data
        assert w.discarded == []


@pytest.mark.parametrize("size", SIZES[1:])
async def test_bytes_that_are_not_as_promised_are_fetched_once_more_and_given_up(
    world: Opener, size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is kept, nothing is given to the kernel, and what it may have is taken back."""
    remote = FakeRemote({"a": Source(noise("wrong", size), digest=WRONG)}, chunk=700_001)
    async with world(remote, open_mode=OpenMode.WAIT) as w:
        node = await w.node("a")
        with pytest.raises(ProtocolError, match="does not match the SHA-256 that the origin itself promises"):
            await w.fs.open(node.id)
        assert w.registered == []
        assert w.discarded == [node.id] * 2
        assert remote.delivered == 2 * size
        assert not w.cache.objects.state(node).complete
        assert w.cache.objects.state(node).extents.total == 0
    left = [path for path in (tmp_path / "cache" / "objects").rglob("*") if path.is_file()]
    assert left == []
    assert [r.levelno for r in caplog.records if "fetching it once more" in r.message] == [logging.WARNING]


@pytest.mark.parametrize("size", SIZES[1:])
async def test_a_second_transfer_may_be_right(world: Opener, size: int) -> None:
    """A network that damaged bytes once costs one more transfer, and no reader an error."""
    data = noise("right", size)
    remote = FakeRemote({"a": Source(data, digest=of(Algorithm.MD5, data))}, chunk=700_001)
    remote.damage = 1
    async with world(remote, open_mode=OpenMode.WAIT) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        assert await w.content(node) == data
        assert w.registered == [node.id]
        assert w.discarded == [node.id]


async def test_an_object_that_a_reader_has_open_is_not_served_once_it_is_known_to_be_wrong(
    world: Opener,
) -> None:
    """Reads that come after the check get the bytes of the second transfer."""
    data = noise("right", 20 * MiB)
    remote = FakeRemote({"a": Source(data, digest=of(Algorithm.SHA256, data))}, chunk=MiB)
    remote.damage = 1
    async with world(remote, open_mode=OpenMode.STREAM) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        assert await w.content(node, 100, 0) != data[:100]
        await w.fetcher.whole(node)
        assert w.discarded == [node.id]
        assert await w.content(node) == data


async def test_answers_that_promise_different_things_are_of_two_versions(world: Opener) -> None:
    """Even where no validator tells them apart; neither one's bytes are kept."""
    data = noise("right", 40 * MiB)
    remote = FakeRemote({"a": Source(data, validator=None)}, chunk=MiB)
    promises = (Digest(Algorithm.MD5, bytes([number]) * 16) for number in range(100))
    remote.promise = lambda _request: next(promises)
    async with world(remote, open_mode=OpenMode.WAIT) as w:
        node = await w.node("a")
        with pytest.raises(BrokenPromise, match="another MD5 than a moment ago"):
            await w.fs.open(node.id)
        assert w.cache.objects.state(node).extents.total == 0


async def test_the_strongest_of_all_answers_counts(world: Opener) -> None:
    data = noise("right", 40 * MiB)
    remote = FakeRemote({"a": Source(data)}, chunk=MiB)

    def promise(request: Request) -> Digest | None:
        if request.start == 0:
            return None
        return of(Algorithm.CRC32C, data) if request.start < 32 * MiB else WRONG

    remote.promise = promise
    async with world(remote, open_mode=OpenMode.WAIT) as w:
        node = await w.node("a")
        with pytest.raises(BrokenPromise, match="SHA-256"):
            await w.fs.open(node.id)


async def test_what_a_killed_fetch_left_is_checked_as_well(world: Opener) -> None:
    """All the bytes count, whoever fetched them; a promise of the first half is one of the whole."""
    data = noise("right", 40 * MiB)
    remote = FakeRemote({"a": Source(data, digest=of(Algorithm.SHA1, data))}, chunk=MiB)
    remote.damage = 1
    async with world(remote, open_mode=OpenMode.STREAM) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        await w.content(node, 100, 0)
        remote.gate = trio.Event()
    assert 0 < remote.delivered < 40 * MiB
    remote.gate.set()
    async with world(remote, open_mode=OpenMode.WAIT) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        assert w.discarded == [node.id]
        assert await w.content(node) == data


async def test_the_digest_that_was_checked_goes_to_the_cache(
    world: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[str] = []
    monkeypatch.setattr("cache.Filler.promise", lambda _filler, digest: noted.append(digest))
    small, large = noise("small", 10), noise("large", 3 * MiB)
    files = {"s": Source(small, digest=of(Algorithm.MD5, small)), "n": Source(b"nothing")}
    files["l"] = Source(large, digest=of(Algorithm.SHA256, large))
    async with world(FakeRemote(files), open_mode=OpenMode.WAIT) as w:
        for name in ("s", "l", "n"):
            await w.fs.open((await w.node(name)).id)
    assert noted == [str(of(Algorithm.MD5, small)), str(of(Algorithm.SHA256, large))]
