"""Many rows in few steps of SQLite.

Python's sqlite3 gives the interpreter's lock away for each step of a statement, and `executemany` takes one
for every row. The step is a matter of microseconds. But a thread that computes gives the lock back only when
it is made to, and has to stop for that: beside a busy event loop 2,000 rows took 150 ms so, of which that
lost 35, and take 20 ms of which it loses 5 (measured).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

AT_ONCE = 250
"""Rows of one step: it has as many values as SQLite takes with a few dozen columns."""


def execute(db: sqlite3.Connection, sql: str, rows: Iterable[Sequence[Any]]) -> None:
    """Execute a statement with all of so many rows.

    Args:
        db: the connection, in a transaction.
        sql: ``{rows}`` stands in it where ``(…), (…)`` belongs, behind VALUES.
        rows: all with as many values. Of several that are about the same row of a table, which one counts is
            for SQLite to say.
    """
    rows = iter(rows)
    while some := list(islice(rows, AT_ONCE)):
        db.execute(_with_marks(sql, len(some), len(some[0])), [value for row in some for value in row])


@lru_cache(64)
def _with_marks(sql: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return sql.replace("{rows}", ", ".join([row] * rows))


def array(numbers: Iterable[int]) -> str:
    """Numbers as one value, for ``json_each``."""
    return str([*numbers])  # which is JSON, and takes a fifth of the time that `json` does
