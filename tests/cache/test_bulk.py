"""Many rows in few steps."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from cache import bulk, rows, versions
from cache.bulk import AT_ONCE


@pytest.fixture
def db() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text, data)")
    return made


@pytest.mark.parametrize("count", [0, 1, 2, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE])
def test_all_rows_are_written_whatever_their_number(db: sqlite3.Connection, count: int) -> None:
    """Each value is what it was: bytes, text that looks like a mark, nothing."""
    written = [
        (number, None if number % 3 else f"?{{rows}}'{number}", bytes([number % 256]))
        for number in range(count)
    ]
    bulk.execute(db, "INSERT INTO t VALUES {rows}", iter(written))
    assert db.execute("SELECT * FROM t ORDER BY id").fetchall() == written
    bulk.execute(
        db,
        "UPDATE t SET text = new.column2 FROM (VALUES {rows}) AS new WHERE id = new.column1",
        [(number, number * 2) for number, *_ in written],
    )
    assert db.execute("SELECT text FROM t ORDER BY id").fetchall() == [(2 * n,) for n in range(count)]


def test_numbers_are_one_value(db: sqlite3.Connection) -> None:
    numbers = [3, -1, 1 << 62]
    sql = "SELECT value FROM json_each(?)"
    assert db.execute(sql, (bulk.array(iter(numbers)),)).fetchall() == [(number,) for number in numbers]
    assert db.execute(sql, (bulk.array([]),)).fetchall() == []


@pytest.mark.parametrize(
    ("sql", "columns", "table"),
    [(rows._LEARN, 3, "nodes"), (rows._USE, 3, "objects"), (versions._UPDATE, 8, "nodes")],
)
def test_rows_are_looked_up_and_never_looked_through(sql: str, columns: int, table: str) -> None:
    """However many the table has."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript((Path(bulk.__file__).with_name("schema.sql")).read_text())
    row = f"({', '.join('0' * columns)})"
    plan = db.execute("EXPLAIN QUERY PLAN " + sql.replace("{rows}", ", ".join([row] * AT_ONCE))).fetchall()
    steps = [step[-1] for step in plan]
    assert any(step.startswith(f"SEARCH {table} USING INTEGER PRIMARY KEY") for step in steps), steps
    assert not any(step.startswith(f"SCAN {table}") for step in steps), steps
