"""What a cache does takes no longer because there is more in it: nothing is looked through."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cache import Cache, index
from cache.limits import Amount, Limits
from tests.cache.support import complete, file, files, fill, write

_LARGE = re.compile(r"SCAN (nodes|objects|extents|ghosts)(?! USING INDEX)")
"""What a plan says of a table that is looked through; one in an index is read as far as needed only."""

_scanned: list[str] = []
_listening = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _listening and event in {"os.listdir", "os.scandir"}:
        _scanned.append(str(arguments[0]))


sys.addaudithook(_hook)  # of the whole process, for ever: hence the switch


@contextmanager
def _scans() -> Iterator[list[str]]:
    """Folders that are read in this context."""
    global _listening  # noqa: PLW0603
    _scanned.clear()
    _listening = True
    try:
        yield _scanned
    finally:
        _listening = False


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every statement that is run, also those of triggers."""
    seen: set[str] = set()
    connect = index.connect

    def traced(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.set_trace_callback(seen.add)
        return connection

    monkeypatch.setattr(index, "connect", traced)
    return seen


async def test_opening_a_cache_reads_no_folder_of_objects(home: Path) -> None:
    """Whatever is in a cache, opening and closing it looks at none of it."""
    async with Cache.open(home) as cache:
        for node in await files(cache, file("a"), file("b")):
            complete(cache, node)
    with _scans() as scanned:
        async with Cache.open(home):
            pass
    assert [path for path in scanned if "objects" in path] == []


async def test_no_question_looks_through_a_table(home: Path, statements: set[str]) -> None:
    """Look-ups, listings, fills, notes of use, evictions, pins and the scrub go by an index, all of them."""
    entries = [file(f"{number}.bin", 4096) for number in range(40)]
    async with Cache.open(home) as cache:
        nodes = await files(cache, *entries)
        await cache.space.set_limits(Limits(Amount.parse("4000000"), None))
        for node in nodes[:30]:
            complete(cache, node)
            cache.objects.touch(node.id)
        partial = fill(cache, nodes[30])
        write(partial, 0, 1000)
        partial.close()
        await cache.objects.sync()
        await files(cache, *entries)
        os.close(cache.objects.open_complete(nodes[0]) or -1)
        assert cache.tree.path(nodes[0].id) == "0.bin"
        assert not cache.objects.state(nodes[31]).complete
        await cache.verification.due(time.time())
        await cache.pins.add(nodes[0].source, ["1*.bin"])
        assert await cache.objects.free(8192)
        cache.recalls.new()
        await cache.objects.drop(nodes[29])
        await cache.tree.remove(nodes[28].id)
    with sqlite3.connect(home / index.NAME) as db:
        plans = {statement: _plan(db, statement) for statement in statements}
    db.close()
    assert any("objects_by_queue" in plan for plan in plans.values()), "the plans are seen"
    assert {statement: plan for statement, plan in plans.items() if _LARGE.search(plan)} == {}


def _plan(db: sqlite3.Connection, statement: str) -> str:
    if not re.match(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b", statement):
        return ""
    return "; ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}"))
