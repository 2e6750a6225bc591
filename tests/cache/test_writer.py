"""The one writer: what it answers is committed, and what fails harms nobody else."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio

from cache import CacheBroken, CacheFull, index
from cache.index import Reader
from cache.writer import Writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "index.sqlite"
    index.prepare(file)
    db = sqlite3.connect(file)
    db.execute("CREATE TABLE t (x INTEGER UNIQUE)")
    db.close()
    return file


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    with closing(Writer(path)) as opened:
        yield opened


def insert(db: sqlite3.Connection, x: int) -> int:
    db.execute("INSERT INTO t VALUES (?)", (x,))
    return x


async def test_what_is_answered_is_committed(path: Path, writer: Writer) -> None:
    with closing(Reader(path)) as reader:
        for x in range(20):
            assert await writer.run(lambda db, x=x: insert(db, x)) == x
            assert reader.one("SELECT max(x) FROM t") == (x,)


async def test_work_that_waits_is_committed_together(path: Path, writer: Writer) -> None:
    gate = threading.Event()
    first = writer.submit(lambda _: gate.wait())
    commits: list[str] = []
    writer._connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    rest = [writer.submit(lambda db, x=x: insert(db, x)) for x in range(100)]
    gate.set()
    assert [future.result() for future in (first, *rest)] == [True, *range(100)]
    assert len(commits) <= 2, "those that waited went into one transaction"


async def test_work_that_fails_is_undone_and_leaves_the_rest_alone(path: Path, writer: Writer) -> None:
    gate = threading.Event()
    writer.submit(lambda _: gate.wait())

    def fails(db: sqlite3.Connection) -> None:
        insert(db, 2)
        raise LookupError("no")

    good, bad, twice, also = (
        writer.submit(lambda db: insert(db, 1)),
        writer.submit(fails),
        writer.submit(lambda db: insert(db, 1)),
        writer.submit(lambda db: insert(db, 3)),
    )
    gate.set()
    assert (good.result(), also.result()) == (1, 3)
    with pytest.raises(LookupError):
        bad.result()
    with pytest.raises(CacheBroken, match=r"cannot write the index: .*UNIQUE"):
        twice.result()
    with closing(Reader(path)) as reader:
        assert reader.all("SELECT x FROM t ORDER BY x") == [(1,), (3,)]


async def test_another_process_with_the_lock_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, expected_warnings: list[str]
) -> None:
    """No reader is ever told that a database is locked."""
    expected_warnings.append("another process has held the index for")
    monkeypatch.setattr(index, "BUSY_SECONDS", 0.01)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with closing(Writer(path)) as writer:
        tries = iter(range(100))
        writer._connection.set_trace_callback(lambda _: other.rollback() if next(tries) == 5 else None)
        assert await writer.run(lambda db: insert(db, 7)) == 7
    other.close()


async def test_a_lock_that_is_never_given_back_is_an_error_in_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch, expected_warnings: list[str]
) -> None:
    expected_warnings.append("another process has held the index for")
    monkeypatch.setattr(index, "BUSY_SECONDS", 0.001)
    with closing(sqlite3.connect(path, isolation_level=None)) as other, closing(Writer(path)) as writer:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheBroken, match="database is locked"):
            await writer.run(lambda db: insert(db, 7))
        other.execute("ROLLBACK")
        assert await writer.run(lambda db: insert(db, 8)) == 8


async def test_a_full_disk_is_said_and_survived(path: Path, writer: Writer) -> None:
    def limit(db: sqlite3.Connection) -> None:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 1}")

    def large(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE large AS SELECT zeroblob(1000000)")

    await writer.run(limit)
    with pytest.raises(CacheFull, match="cannot write the index: the disk is full"):
        await writer.run(large)
    assert await writer.run(lambda db: insert(db, 1)) == 1


async def test_who_is_cancelled_has_his_work_done_all_the_same(path: Path, writer: Writer) -> None:
    gate = threading.Event()
    writer.submit(lambda _: gate.wait())
    with trio.move_on_after(0) as scope:
        await writer.run(lambda db: insert(db, 5))
    assert scope.cancelled_caught
    gate.set()
    with pytest.raises(CacheBroken):
        await writer.run(lambda db: insert(db, 5))


async def test_durable_work_reaches_the_disk_before_it_is_answered(path: Path, writer: Writer) -> None:
    seen: list[int] = []

    def level(db: sqlite3.Connection) -> None:
        seen.append(db.execute("PRAGMA synchronous").fetchone()[0])

    writer.submit(level, durable=True).result()
    writer.submit(level).result()
    assert seen == [2, 1]


async def test_a_closed_writer_has_done_all_and_takes_no_more(path: Path) -> None:
    writer = Writer(path)
    futures = [writer.submit(lambda db, x=x: insert(db, x)) for x in range(1200)]
    writer.close()
    assert [future.result() for future in futures] == list(range(1200))
    with pytest.raises(CacheBroken, match="closed"):
        writer.submit(lambda db: insert(db, 1))
    writer.close()
