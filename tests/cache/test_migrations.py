"""Every released schema is brought up to date, with all that was in it. ``golden/`` has an index of each.

``index-1.sqlite`` was written by version 0.1.0, over ``whole`` (5,000 bytes) and ``empty``, complete;
20,000,000 and 1,000 bytes of ``partial``; ``old``, complete, and superseded since; a folder that was listed.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cache import Cache, CacheUnusable, index
from cache.sums import BLOCK
from tests.cache.support import URL, complete, content, read_all

GOLDEN = Path(__file__).parent / "golden"


def copied(home: Path, version: int) -> Path:
    """A cache with an index of that version and no objects."""
    home.mkdir(mode=0o700)
    file = home / "index.sqlite"
    shutil.copy(GOLDEN / f"index-{version}.sqlite", file)
    file.chmod(0o600)
    return file


def schema_of(file: Path) -> dict[str, object]:
    """Tables and their columns, keys and constraints, indexes and triggers; without how they are written."""
    with closing(sqlite3.connect(file)) as db:
        names = db.execute(
            "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2"
        )
        found: dict[str, object] = {}
        for kind, name in names.fetchall():
            found[f"{kind} {name}"] = [
                db.execute(f"PRAGMA {what}({name})").fetchall()
                for what in ("table_xinfo", "foreign_key_list", "index_xinfo")
            ]
        return found


def test_there_is_a_golden_index_of_every_earlier_version() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {
        f"index-{version}.sqlite" for version in range(1, index.VERSION)
    }


@pytest.mark.parametrize("version", range(1, index.VERSION))
def test_an_older_index_becomes_what_a_new_one_is(tmp_path: Path, version: int) -> None:
    file = copied(tmp_path / "old", version)
    index.prepare(file)
    (tmp_path / "new").mkdir()
    index.prepare(tmp_path / "new" / "index.sqlite")
    assert schema_of(file) == schema_of(tmp_path / "new" / "index.sqlite")
    assert index.version_of(file) == index.VERSION


async def test_what_version_1_knew_is_known(home: Path) -> None:
    copied(home, 1)
    async with Cache.open(home) as cache:
        root = await cache.tree.root(URL)
        nodes = {node.name: node for node in cache.tree.children(root.id)}
        assert set(nodes) == {"whole", "empty", "partial", "old", "sub"}
        below = cache.tree.children(nodes["sub"].id)
        assert [child.name for child in below] == ["unlisted size", "deep"]
        ask = cache.tree._reader.all
        assert ask("SELECT node, size FROM objects WHERE sealed_at IS NOT NULL ORDER BY node") == [
            (nodes["whole"].id, 5000),
            (nodes["empty"].id, 0),
            (5, 100),
        ]
        assert ask("SELECT start, stop, crc FROM extents ORDER BY start") == [
            (0, BLOCK, None),
            (BLOCK, 20_000_000, None),
            (30_000_000, 30_001_000, None),
        ]
        total = ask("SELECT sum(occupied) FROM objects")[0][0]
        assert ask("SELECT sum(bytes), sum(objects) FROM queues") == [(total, 4)]
        assert ask("PRAGMA foreign_key_check") == []
        assert ask("PRAGMA integrity_check") == [("ok",)]
        # Their objects are not here: they are missed, and fetched again.
        complete(cache, below[1])
        assert read_all(cache.objects.open_complete(below[1])) == content(below[1].id, 0, 7)


async def test_an_older_index_is_migrated_in_one_transaction(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = copied(home, 1)
    before = schema_of(file)

    def fails(_db: object) -> None:
        raise sqlite3.OperationalError("a migration that fails")

    monkeypatch.setattr(index, "VERSION", index.VERSION + 1)
    monkeypatch.setattr(index, "MIGRATIONS", (*index.MIGRATIONS, fails))
    with pytest.raises(CacheUnusable, match="a migration that fails"):
        index.prepare(file)
    assert index.version_of(file) == 1
    assert schema_of(file) == before
