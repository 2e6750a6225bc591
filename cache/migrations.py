"""From each version of the schema to the next. What stands here is frozen: it speaks of the schemas of then.

``MIGRATIONS[n - 1]`` turns version n into n + 1, within a transaction of `cache.index`, and sets no version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from cache.scripts import statements

if TYPE_CHECKING:
    from sqlite_utils import Database


def _to_2(db: Database) -> None:
    """Space, pins, checksums and what eviction goes by.

    What was cached before keeps its place and its order of use. It has no checksums: nobody can say
    any more which bytes had come.
    """
    script = files("cache").joinpath("migrations.sql").read_text("utf-8")
    for statement in statements(script):
        db.execute(statement)


def _to_3(db: Database) -> None:
    """What processes tell each other of changed names, and indexing of whole sources."""
    db.execute("CREATE INDEX nodes_folders ON nodes (parent) WHERE kind = 2 AND current = 1")
    db.execute("""
        CREATE TABLE news (
            id     INTEGER PRIMARY KEY AUTOINCREMENT,
            author INTEGER NOT NULL,
            node   INTEGER NOT NULL,
            whole  INTEGER NOT NULL CHECK (whole IN (0, 1))
        ) STRICT
    """)
    db.execute("""
        CREATE TABLE scans (
            folder   INTEGER PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
            run      INTEGER NOT NULL,
            began_at REAL    NOT NULL,
            state    INTEGER NOT NULL CHECK (state IN (0, 1, 2, 3)),
            cursor   TEXT
        ) STRICT
    """)


MIGRATIONS: Sequence[Callable[[Database], None]] = (_to_2, _to_3)
