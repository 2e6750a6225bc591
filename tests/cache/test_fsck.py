"""`cache.fsck`: what contradicts itself in a cache is found and repaired, and nothing else is touched."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cache import Cache, CacheBroken, CacheUnusable, Node
from cache.errors import CacheError
from cache.fsck import Result, Verdict, fsck
from cache.names import Names
from cache.removal import Removal
from tests.cache.damaging import (
    PARTIAL,
    PATHS,
    check_bytes,
    filled,
    listed,
    object_of,
    right,
    sql,
)
from tests.cache.support import fill

ATTRIBUTE = "user.mirror.object"
Harm = Callable[[Path, dict[str, Node]], None]


def cut(home: Path, nodes: dict[str, Node]) -> None:
    os.truncate(object_of(home, nodes["b"]), 5)


def replaced(home: Path, nodes: dict[str, Node]) -> None:
    path = object_of(home, nodes["b"])
    path.rename(path.with_suffix(".old"))
    path.write_bytes(bytes(50_000))
    path.chmod(0o600)
    path.with_suffix(".old").unlink()


def anothers_identity(home: Path, nodes: dict[str, Node]) -> None:
    other = os.getxattr(object_of(home, nodes["a"]), ATTRIBUTE).replace(b'"size":1000', b'"size":50000')
    os.setxattr(object_of(home, nodes["b"]), ATTRIBUTE, other)


def another_checksum(home: Path, nodes: dict[str, Node]) -> None:
    sql(home, f"UPDATE objects SET crc = (crc + 1) % 1000 WHERE node = {nodes['b'].id}")


def row_lost(home: Path, nodes: dict[str, Node]) -> None:
    sql(home, f"DELETE FROM objects WHERE node = {nodes['b'].id}")


def node_lost(home: Path, nodes: dict[str, Node]) -> None:
    """An index that lost its last transactions: neither node nor row."""
    row_lost(home, nodes)
    sql(home, f"DELETE FROM nodes WHERE id = {nodes['b'].id}")


def orphan(home: Path, nodes: dict[str, Node]) -> None:
    path = home / "objects" / "ab" / ("ab" * 20)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(b"who knows what")


def orphan_part(home: Path, nodes: dict[str, Node]) -> None:
    path = home / "objects" / "ab" / ("ab" * 20 + ".part")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(b"who knows what")


def part_beside(home: Path, nodes: dict[str, Node]) -> None:
    object_of(home, nodes["b"], ".part").touch(mode=0o600)


def part_replaced(home: Path, nodes: dict[str, Node]) -> None:
    path = object_of(home, nodes[PARTIAL], ".part")
    data = path.read_bytes()
    path.rename(path.with_suffix(".old"))
    path.write_bytes(data)
    path.chmod(0o600)
    path.with_suffix(".old").unlink()


def overlap(home: Path, nodes: dict[str, Node]) -> None:
    sql(home, f"INSERT INTO extents VALUES ({nodes[PARTIAL].id}, 100, 200, NULL)")


def beyond(home: Path, nodes: dict[str, Node]) -> None:
    sql(home, f"INSERT INTO extents VALUES ({nodes[PARTIAL].id}, 30000, 50000, NULL)")


def extents_of_sealed(home: Path, nodes: dict[str, Node]) -> None:
    sql(home, f"INSERT INTO extents VALUES ({nodes['b'].id}, 0, 10, NULL)")


def sums(home: Path, nodes: dict[str, Node]) -> None:
    sql(home, "UPDATE queues SET bytes = bytes + 12345, objects = 2 WHERE queue = 1")


def claim(home: Path, nodes: dict[str, Node]) -> None:
    sql(home, "INSERT INTO claims VALUES ('0123456789abcdef', 1000000)")


def mode(home: Path, nodes: dict[str, Node]) -> None:
    (home / "objects").chmod(0o770)
    object_of(home, nodes["b"]).parent.chmod(0o777)


def unreferenced(home: Path, nodes: dict[str, Node]) -> None:
    sql(home, "PRAGMA foreign_keys = OFF", "INSERT INTO ghosts VALUES (999999, 1)")


def unsealed(home: Path, nodes: dict[str, Node]) -> None:
    """Complete and safe; the row that says so did not come about."""
    sql(home, f"UPDATE objects SET sealed_at = NULL WHERE node = {nodes['b'].id}")


def said_nothing(home: Path, nodes: dict[str, Node]) -> None:
    os.removexattr(object_of(home, nodes["b"]), ATTRIBUTE)


# What is wrong; how many findings; a word of the first; what is complete afterwards, without any fetch.
ALL = set(PATHS)
LOST = ALL - {"b"}
HARM: dict[str, tuple[Harm, int, str, set[str]]] = {
    "missing": (lambda home, nodes: object_of(home, nodes["b"]).unlink(), 1, "is missing", LOST),
    "cut": (cut, 1, "has 5 bytes instead of 50,000", LOST),
    "replaced": (replaced, 1, "was replaced", LOST),
    "writable": (lambda home, nodes: object_of(home, nodes["b"]).chmod(0o666), 1, "not a file of", LOST),
    "another's": (anothers_identity, 1, "of another file or version", LOST),
    "checksum": (another_checksum, 1, "another checksum", LOST),
    "says nothing": (said_nothing, 1, "does not say what it is", ALL),
    "row lost": (row_lost, 1, "is not in the index", ALL),
    "node lost": (node_lost, 1, "is not in the index", ALL),
    "not sealed": (unsealed, 1, "was never made safe", ALL),
    "orphan": (orphan, 1, "does not say what it is", ALL),
    "orphan part": (orphan_part, 1, "belongs to no object", ALL),
    "part beside": (part_beside, 1, "belongs to no object", ALL),
    "part missing": (lambda h, n: object_of(h, n[PARTIAL], ".part").unlink(), 1, "is missing", ALL),
    "part replaced": (part_replaced, 1, "another file than", ALL),
    "part cut": (lambda h, n: os.truncate(object_of(h, n[PARTIAL], ".part"), 7), 1, "is shorter", ALL),
    "part writable": (lambda h, n: object_of(h, n[PARTIAL], ".part").chmod(0o666), 1, "not a file of", ALL),
    "overlap": (overlap, 1, "overlap", ALL),
    "beyond": (beyond, 1, "is shorter", ALL),
    "extents of sealed": (extents_of_sealed, 1, "rows of extents are about nothing", ALL),
    "sums": (sums, 1, "queue 1 is said to have", ALL),
    "claim": (claim, 1, "1,000,000 bytes are claimed", ALL),
    "mode": (mode, 2, "others may write to", ALL),
    "unreferenced": (unreferenced, 1, "1 rows of ghosts", ALL),
    "index": (lambda home, nodes: os.truncate(home / "index.sqlite", 8192), 1, "damaged or lost", ALL),
}


def whats(result: Result) -> list[str]:
    return [finding.what for finding in result.findings]


async def test_a_cache_that_is_right_is_left_as_it_is(home: Path) -> None:
    await filled(home)
    before = {path: path.stat().st_mtime_ns for path in home.glob("objects/*/*")}
    result = fsck(home)
    assert result.verdict is Verdict.CLEAN, whats(result)
    assert (result.objects, result.partial) == (6, 1)
    assert result.bytes == sum(len(right(path)) for path in PATHS) + 900
    assert {path: path.stat().st_mtime_ns for path in home.glob("objects/*/*")} == before


@pytest.mark.parametrize("how", HARM)
async def test_what_is_wrong_is_found_and_repaired(home: Path, how: str) -> None:
    """A dry run finds it and changes nothing; after a repair the next is clean and all bytes are right."""
    harm, count, says, complete_after = HARM[how]
    nodes = await filled(home)
    harm(home, nodes)
    if how != "says nothing":  # whether it can say something shows when it is written
        dry = fsck(home, dry_run=True)
        assert dry.verdict is Verdict.REPAIRED
        assert len(dry.findings) == count
        assert says in whats(dry)[0]
    result = fsck(home)
    assert result.verdict is Verdict.REPAIRED
    assert len(result.findings) == count, whats(result)
    assert says in whats(result)[0]
    again = fsck(home)
    assert again.verdict is Verdict.CLEAN, whats(again)
    async with Cache.open(home) as cache:
        after = await listed(cache)
        assert check_bytes(cache, after) == complete_after
        for path, node in after.items():
            if path not in complete_after:
                filler = fill(cache, node)
                for start, stop in filler.present.gaps(0, len(right(path))):
                    filler.write(start, right(path)[start:stop])
                os.close(filler.complete())
        assert check_bytes(cache, after) == {*PATHS, PARTIAL}
    assert fsck(home).verdict is Verdict.CLEAN


async def test_what_is_none_of_ours_is_left_alone_and_told(home: Path) -> None:
    nodes = await filled(home)
    alien = object_of(home, nodes["a"]).with_name("notes.txt")
    alien.write_text("keep me")
    (home / "objects" / "lost+found").mkdir()
    result = fsck(home)
    assert result.verdict is Verdict.CLEAN
    assert result.left_alone == [str(home / "objects" / "lost+found"), str(alien)]
    assert alien.read_text() == "keep me"


async def test_the_index_can_be_thrown_away(home: Path) -> None:
    await filled(home)
    result = fsck(home, anew=True, dry_run=True)
    assert result.verdict is Verdict.REPAIRED
    assert not list(home.glob("index.damaged-*"))
    result = fsck(home, anew=True)
    assert result.verdict is Verdict.REPAIRED
    assert (result.objects, result.partial) == (6, 0)
    async with Cache.open(home) as cache:
        assert check_bytes(cache, await listed(cache)) == set(PATHS)


async def test_what_others_use_is_checked_but_its_index_is_not_replaced(home: Path) -> None:
    nodes = await filled(home)
    async with Cache.open(home) as cache:
        object_of(home, nodes["b"]).unlink()
        filler = fill(cache, nodes[PARTIAL])
        filler.write(25_000, right(PARTIAL)[25_000:30_000])
        result = fsck(home)
        assert whats(result) == [f"the object of b ({cache.tree.place(nodes['b'].id)[0]}) is missing"]
        with pytest.raises(CacheUnusable, match="in use by another process"):
            fsck(home, anew=True)
        # Whoever fills goes on.
        for start, stop in filler.present.gaps(0, 40_000):
            filler.write(start, right(PARTIAL)[start:stop])
        os.close(filler.complete())
        assert check_bytes(cache, await listed(cache)) == {*PATHS, PARTIAL} - {"b"}
        await cache.objects.sync()
        assert fsck(home).verdict is Verdict.CLEAN


async def test_what_a_living_process_fills_or_seals_is_left_to_it(home: Path) -> None:
    """Also where its files and rows do not fit each other yet."""
    async with Cache.open(home) as cache:
        nodes = await listed(cache)
        filler = fill(cache, nodes["b"])
        filler.write(0, right("b")[:100])
        assert fsck(home).verdict is Verdict.CLEAN
        filler.write(100, right("b")[100:])
        os.close(filler.complete())
        assert fsck(home).verdict is Verdict.CLEAN
        await cache.objects.sync()
        assert check_bytes(cache, nodes) == {"b"}


async def test_what_cannot_be_removed_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = await filled(home)
    os.truncate(object_of(home, nodes["b"]), 5)

    def fails(*_: object, **__: object) -> None:
        raise CacheBroken("the disk failed")

    monkeypatch.setattr(Removal, "remove", fails)
    result = fsck(home)
    assert result.verdict is Verdict.CANNOT
    assert result.findings[0].done == "it cannot be removed: the disk failed"


def test_a_folder_without_a_cache_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(CacheUnusable, match="holds no cache"):
        fsck(tmp_path)
    with pytest.raises(CacheError):
        fsck(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


async def test_a_newer_index_is_refused_and_left_alone(home: Path) -> None:
    await filled(home)
    sql(home, "PRAGMA user_version = 99")
    for anew in (False, True):
        with pytest.raises(CacheUnusable, match="newer version"):
            fsck(home, anew=anew)
    assert not list(home.glob("index.damaged-*"))


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE nodes SET parent = 777 WHERE name = 'b'", "names are in no folder"),
        ("UPDATE nodes SET object = x'00' WHERE name = 'b'", "no object's name"),
        (
            "UPDATE nodes SET object = (SELECT object FROM nodes WHERE name = 'empty') WHERE name = 'b'",
            "two versions share",
        ),
        (
            "UPDATE nodes SET parent = (SELECT id FROM nodes WHERE name = 'deep') WHERE name = 'sub'",
            "a folder is inside itself",
        ),
        ("UPDATE nodes SET source = 777 WHERE parent = 0", "names are in no folder"),
    ],
)
async def test_an_index_that_contradicts_itself_is_made_anew(home: Path, statement: str, says: str) -> None:
    await filled(home)
    sql(home, statement)
    result = fsck(home)
    assert says in whats(result)[0]
    assert result.findings[0].done.startswith("made anew from 6 objects")
    assert fsck(home).verdict is Verdict.CLEAN
    async with Cache.open(home) as cache:
        assert check_bytes(cache, await listed(cache)) == set(PATHS)


async def test_a_broken_index_of_names_is_found(home: Path) -> None:
    """What SQLite's own check finds and no query would meet."""
    await filled(home)
    with closing(sqlite3.connect(home / "index.sqlite", isolation_level=None)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'objects_by_queue'").fetchone()
    with (home / "index.sqlite").open("r+b") as opened:
        opened.seek((page - 1) * 4096)
        opened.write(b"\x0a" + bytes(2) + b"\0\0\x10\0\0")
    assert "index" in whats(fsck(home))[0]
    assert fsck(home).verdict is Verdict.CLEAN


def test_the_names_of_objects_are_those_of_the_store(home: Path) -> None:
    key = bytes(range(20))
    assert Names(home).of(key).final == str(home / "objects" / "00" / key.hex())
