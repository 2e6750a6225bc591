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
from mirror.fetching import MUCH, Run
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
