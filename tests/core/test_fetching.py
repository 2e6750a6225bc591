"""What a run says is in the cache is safe on disk, whoever brought it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from cache import Cache, Node
from cache.patterns import Patterns
from mirror.budget import Budget
from mirror.engine import open_source
from mirror.errors import OriginFailed
from mirror.fetching import MUCH, Run
from mirror.pin import pin
from mirror.remotes.base import Listing, NotModified
from mirror.remotes.file.remote import FileRemote
from mirror.shares import NEIGHBOURS
from mirror.warm import Summary, warm
from tests.cache.support import complete, read_all

NAMES = [f"{number:02}" for number in range(40)]


@pytest.fixture
def source(tmp_path: Path) -> str:
    folder = tmp_path / "source"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(name.encode() * 500)
    return f"file://{folder}/"


@pytest.fixture
async def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cache]:
    """The cache as another process has it that never seals by itself."""
    monkeypatch.setattr("cache.durability.GATHER_SECONDS", 600.0)
    async with Cache.open(tmp_path / "cache") as cache:
        yield cache


async def listed(cache: Cache, source: str) -> list[Node]:
    async with open_source(source, cache, ttl=60.0, deadline=5.0) as engine:
        await engine.namespace.listed(engine.namespace.root.id)
        return engine.namespace.children(engine.namespace.root.id)


async def warming(source: str, cache: Path, ended: list[Summary]) -> None:
    ended.append(await warm(source, [], cache, jobs=4, deadline=5.0, report=lambda _: None))


async def test_what_another_process_completed_counts_when_it_is_safe(source: str, other: Cache) -> None:
    nodes = await listed(other, source)
    for node in nodes[:10]:
        complete(other, node)
    ended: list[Summary] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(warming, source, other.path, ended)
        await trio.sleep(1.0)
        assert ended == []
        await other.objects.sync()
    assert (ended[0].ok, ended[0].files_done, ended[0].files_fetched) == (True, len(NAMES), len(NAMES) - 10)
    assert other.objects.complete_of([node.id for node in nodes]).keys() == {node.id for node in nodes}


async def test_what_it_had_not_made_safe_when_it_died_is_fetched_again(source: str, other: Cache) -> None:
    nodes = await listed(other, source)
    for node in nodes[:10]:
        complete(other, node)  # with other bytes than the source has
    ended: list[Summary] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(warming, source, other.path, ended)
        await trio.sleep(1.0)
        assert ended == []
        for node in nodes[:10]:
            held = other.objects.held(node)
            assert held is not None
            held.lease.release()
            for fd in held.given_out:
                os.close(fd)
            held.given_out.clear()
    assert (ended[0].ok, ended[0].files_done, ended[0].files_fetched) == (True, len(NAMES), len(NAMES))
    async with Cache.open(other.path) as third:
        for node in nodes:
            assert read_all(third.objects.open_complete(node)) == node.name.encode() * 500


@pytest.mark.parametrize(
    ("missing", "others", "called"), [(MUCH, False, True), (MUCH - 1, False, False), (MUCH, True, False)]
)
async def test_who_helps_is_called_when_much_is_missing_and_nobody_else_fetches_it(
    missing: int, others: bool, called: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(missing):
        (folder / f"{number:03}").write_bytes(b"x")
    url, calls = f"file://{folder}/", []
    async with (
        Cache.open(tmp_path / "cache") as cache,
        Cache.open(tmp_path / "cache") as other,
        open_source(url, cache, ttl=60.0, deadline=5.0) as engine,
    ):
        first = (await listed(other, url))[0]
        if others:
            assert other.turns.take(first.entry // NEIGHBOURS)
        budget = await Budget.of(cache, engine.namespace.root.id)
        run = Run(engine, Patterns(()), budget, 8, lambda: calls.append(run.summary.files_done))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.everything)
            await trio.sleep(0.3)
            if others:
                other.turns.give_back(first.entry // NEIGHBOURS)
        assert run.summary.files_done == missing
    assert len(calls) == called


@pytest.fixture
def broken(source: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Forty folders; those named here cannot be listed. The others have a file each."""
    folders: list[str] = []
    listing = FileRemote.list
    for number in range(40):
        folder = Path(source.removeprefix("file://")) / f"d{number:02}"
        folder.mkdir()
        (folder / "file").write_bytes(b"x")

    async def fails(self: FileRemote, path: str, validator: str | None = None) -> Listing | NotModified:
        if path in folders:
            raise OriginFailed("the link is down")
        return await listing(self, path, validator)

    monkeypatch.setattr(FileRemote, "list", fails)
    return folders


async def test_a_run_gives_up_when_many_folders_in_a_row_cannot_be_listed(
    source: str, broken: list[str], tmp_path: Path
) -> None:
    """Each of them costs a deadline, and there may be a million."""
    broken += [f"d{number:02}" for number in range(40)]
    gave_up = "the link is down; gave up after 10 folders in a row"
    with pytest.raises(OriginFailed, match=gave_up):
        await warm(source, [], tmp_path / "cache", jobs=4, deadline=0.1, report=lambda _: None)
    with pytest.raises(OriginFailed, match=gave_up):
        await pin(source, [], tmp_path / "cache", jobs=4, deadline=0.1, fetching=True, report=lambda _: None)
    async with Cache.open(tmp_path / "cache") as cache:
        assert cache.pins.all() == []


async def test_a_run_goes_on_while_some_folders_can_be_listed(
    source: str, broken: list[str], tmp_path: Path
) -> None:
    broken += [f"d{number:02}" for number in range(40) if number % 5]
    summary = await warm(source, [], tmp_path / "cache", jobs=4, deadline=0.1, report=lambda _: None)
    assert (summary.failed, summary.files_done) == (32, len(NAMES) + 8)
    assert {reason for _, reason in summary.failures} == {"the link is down"}
