"""A damaged or lost index is made anew from the objects when the cache is opened."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cache import Cache, CacheBroken, CacheError, CacheUnusable, check_folder, damage, rebuild
from cache.limits import Amount, Limits
from tests.cache.damaging import (
    PARTIAL,
    PATHS,
    check_bytes,
    filled,
    known,
    listed,
    object_of,
    right,
    rows,
    sql,
)
from tests.cache.support import URL, complete, file, read_all

PAGE = 4096


@pytest.fixture
def expected_warnings() -> list[str]:
    return ["the index of"]


def index_of(home: Path) -> Path:
    return home / "index.sqlite"


def overwrite(home: Path, offset: int, data: bytes) -> None:
    with index_of(home).open("r+b") as opened:
        opened.seek(offset)
        opened.write(data)


def cut(home: Path, size: int) -> None:
    os.truncate(index_of(home), size)


def pages(home: Path, first: int, count: int, byte: bytes) -> None:
    overwrite(home, first * PAGE, byte * (count * PAGE))


def log_lost(home: Path) -> None:
    """As if somebody had removed the log of a process that was killed."""
    (home / "index.sqlite-shm").touch()


def log_damaged(home: Path) -> None:
    (home / "index.sqlite-wal").write_bytes(b"garbage! " * 1000)


def other_tables(home: Path) -> None:
    sql(home, "PRAGMA foreign_keys = OFF", "DROP TABLE pins", "CREATE TABLE pins (a, b)")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "deleted": lambda home: index_of(home).unlink(),
    "emptied": lambda home: cut(home, 0),
    "an empty database": lambda home: index_of(home).write_bytes(b"") and None,
    "cut in a page": lambda home: cut(home, 10_000),
    "cut to its first page": lambda home: cut(home, PAGE),
    "cut to half": lambda home: cut(home, index_of(home).stat().st_size // 2 // PAGE * PAGE),
    "another file": lambda home: overwrite(home, 0, b"not a database, but long enough to be one" * 100),
    "header": lambda home: overwrite(home, 20, b"\xff" * 40),
    "schema": lambda home: overwrite(home, 100, b"\xff" * 3000),
    "pages of zeros": lambda home: pages(home, 1, 40, b"\0"),
    "pages of ones": lambda home: pages(home, 1, 40, b"\xff"),
    "log lost": log_lost,
    "log damaged": log_damaged,
    "another table": other_tables,
    "no trigger": lambda home: sql(home, "DROP TRIGGER objects_changed"),
    "no row of space": lambda home: sql(home, "DELETE FROM space"),
    "no row of a queue": lambda home: sql(home, "DELETE FROM queues WHERE queue = 1"),
    "ids that begin again": lambda home: sql(home, "UPDATE sqlite_sequence SET seq = 1"),
    "an older version than it is": lambda home: sql(home, "PRAGMA user_version = 1"),
    "no version": lambda home: sql(home, "PRAGMA user_version = 0"),
    "a version that never was": lambda home: sql(home, "PRAGMA user_version = -5"),
    "a mark": lambda home: damage.mark(index_of(home), "a query met it"),
}


@pytest.mark.parametrize("how", DAMAGE)
async def test_whatever_happens_to_the_index_every_complete_file_is_served_without_a_fetch(
    home: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = await filled(home)
    DAMAGE[how](home)
    check_folder(home)  # no reason to refuse the cache
    async with Cache.open(home) as cache:
        (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert "made anew from 6 objects" in warning.getMessage()
        # By what is known without a listing, and after it.
        for path in PATHS:
            node = known(cache, path)
            assert node is not None, path
            assert node.id > max(other.id for other in before.values()), "no id means something else"
            assert read_all(cache.objects.open_complete(node)) == right(path)
        assert known(cache, PARTIAL) is None
        nodes = await listed(cache)
        assert check_bytes(cache, nodes) == set(PATHS)
        for path in PATHS:
            assert nodes[path].id == (known(cache, path) or nodes[path]).id, "it is the same version"
    assert (home / "objects").exists()
    assert not (home / damage.MARK).exists()
    caplog.clear()
    async with Cache.open(home):
        assert not caplog.records, "once is enough"


async def test_the_damaged_index_is_kept_beside(home: Path) -> None:
    """With its log; the last three of them, and nothing is left of the way to the new one."""
    await filled(home)
    for number in range(5):
        damage.mark(index_of(home), "again")
        shutil.copy(index_of(home), home / f"index.damaged-2026010{number}-000000.sqlite")
        async with Cache.open(home):
            pass
    kept = sorted(home.glob("index.damaged-*"))
    assert len(kept) == 3
    assert {path.name for path in home.iterdir()} - {path.name for path in kept} == {
        "claims",
        "objects",
        "index.sqlite",
        "reserve",
    }
    assert index_of(home).stat().st_mode & 0o777 == 0o600


async def test_of_several_versions_the_newest_stands_at_the_name(home: Path) -> None:
    """The others are past, and come back with their bytes when the origin has them again."""
    await filled(home)
    index_of(home).unlink()
    async with Cache.open(home) as cache:
        node = known(cache, "a")
        assert node is not None
        assert node.size == 1000
        (old,) = rows(home, "SELECT id, entry FROM nodes WHERE name = 'a' AND current = 0")
        assert old[1] == node.entry, "one place in the folder"
        back = await cache.tree.put_entry(
            node.parent, file("a", 900, mtime_ns=node.mtime_ns - 10**12 if node.mtime_ns else None), 2.0
        )
        assert back.id == old[0]
        assert cache.objects.state(back).complete


async def test_without_times_the_version_that_was_sealed_last_is_the_newest(home: Path) -> None:
    async with Cache.open(home) as cache:
        root = await cache.tree.root(URL)
        for size in (3, 1, 2):
            node = await cache.tree.put_entry(
                root.id, file("a", size, mtime_ns=None, validator=f"etag:{size}"), 1.0
            )
            complete(cache, node)
            await cache.objects.sync()
            os.utime(object_of(home, node))  # a kernel's clock is coarse
            await trio.sleep(0.02)
    index_of(home).unlink()
    async with Cache.open(home) as cache:
        found = known(cache, "a")
        assert found is not None
        assert found.size == 2


async def test_a_folder_that_is_made_anew_says_nothing_of_what_is_not_there(home: Path) -> None:
    await filled(home)
    index_of(home).unlink()
    async with Cache.open(home) as cache:
        for path in ("sub", "sub/deep"):
            node = known(cache, path)
            assert node is not None
            assert node.listed_at is None
        assert rows(
            home, "SELECT count(*) FROM nodes WHERE listed_at IS NOT NULL OR checked_at IS NOT NULL"
        ) == [(0,)]


async def test_pins_limits_and_use_outlast_a_damaged_index(home: Path) -> None:
    """What objects cannot say is read of what is left of the index."""
    nodes = await filled(home)
    async with Cache.open(home) as cache:
        await cache.space.set_limits(Limits(Amount.parse("20%"), Amount.parse("4096")))
        await cache.pins.add(nodes["a"].source, ["sub/**"])
        for _ in range(2):
            cache.objects.touch(nodes["b"].id)
            await cache.objects.sync()
    sql(home, f"UPDATE objects SET queue = 0, position = 77 WHERE node = {nodes['b'].id}")
    used = rows(home, f"SELECT used_at, used_clock FROM objects WHERE node = {nodes['b'].id}")
    clock = rows(home, "SELECT clock FROM space")
    damage.mark(index_of(home), "for this test")
    async with Cache.open(home) as cache:
        assert cache.space.limits() == Limits(Amount.parse("20%"), Amount.parse("4096"))
        assert [(pin.source, pin.pattern) for pin in cache.pins.all()] == [(URL, "sub/**")]
        b = known(cache, "b")
        assert b is not None
        assert rows(home, f"SELECT used_at, used_clock FROM objects WHERE node = {b.id}") == used
        assert rows(home, f"SELECT queue FROM objects WHERE node = {b.id}") == [(0,)]
        assert rows(home, "SELECT clock FROM space") == clock
        assert rows(home, "SELECT sum(objects), sum(bytes) FROM queues") == rows(
            home, "SELECT count(*), sum(occupied) FROM objects"
        )


async def test_what_makes_no_sense_in_a_damaged_index_is_not_believed(home: Path) -> None:
    await filled(home)
    sql(
        home,
        "PRAGMA ignore_check_constraints = ON",
        "UPDATE space SET cache_size = 'all of it', min_free = '-1', clock = -7",
        "INSERT INTO pins SELECT id, '../..', 1.0 FROM nodes WHERE parent = 0",
        "INSERT INTO pins SELECT id, 'good', 1.0 FROM nodes WHERE parent = 0",
        "UPDATE objects SET used_clock = -9, used_at = 1e300",
    )
    damage.mark(index_of(home), "for this test")
    async with Cache.open(home) as cache:
        assert cache.space.limits() == Limits()
        assert [pin.pattern for pin in cache.pins.all()] == ["good"]
        assert rows(home, "SELECT min(used_clock) >= 0 FROM objects") == [(1,)]
        assert rows(home, "SELECT max(used_at) < 1e12 FROM objects") == [(1,)]


@pytest.mark.parametrize("step", [0.0, -1e6, 1e6], ids=["at once", "clock set back", "later"])
async def test_ids_grow_over_any_number_of_rebuilds(
    home: Path, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """Also when the clock was set back, and nothing of the old index can be read."""
    await filled(home)
    highest = 0
    for number in range(4):
        index_of(home).unlink()
        now = time.time() + number * step
        with monkeypatch.context() as patch:
            patch.setattr("cache.rebuild.time.time", lambda now=now: now)
            async with Cache.open(home) as cache:
                node = known(cache, "a")
                assert node is not None
                assert node.id > highest
                fresh = await cache.tree.put_entry(node.parent, file(f"new {number}"), 1.0)
                highest = fresh.id


async def test_what_nobody_can_vouch_for_is_removed(home: Path) -> None:
    """Incomplete files, and complete ones that do not say what they are; what is not ours stays."""
    nodes = await filled(home)
    os.removexattr(object_of(home, nodes["b"]), "user.mirror.object")
    os.setxattr(object_of(home, nodes["sub/c"]), "user.mirror.object", b'{"format": 2, "path": "../x"}')
    os.truncate(object_of(home, nodes["sub/deep/d"]), 3)
    (home / "objects" / "README").write_text("not ours")
    alien = object_of(home, nodes["a"]).with_name("notes.txt")
    alien.write_text("not ours either")
    index_of(home).unlink()
    async with Cache.open(home) as cache:
        assert {path for path in PATHS if known(cache, path) is not None} == {"a", "empty"}
        for path in ("b", "sub/c", "sub/deep/d"):
            assert not object_of(home, nodes[path]).exists()
        assert not object_of(home, nodes[PARTIAL], ".part").exists()
        assert alien.read_text() == "not ours either"
        assert (home / "objects" / "README").exists()
        for path, node in (await listed(cache)).items():
            filler = cache.objects.fill(node)
            if filler is not None:
                filler.write(0, right(path))
                os.close(filler.complete())
        assert check_bytes(cache, await listed(cache)) == {*PATHS, PARTIAL}


async def test_a_name_that_was_a_file_and_a_folder_is_a_folder_until_it_is_listed(home: Path) -> None:
    async with Cache.open(home) as cache:
        root = await cache.tree.root(URL)
        was = await cache.tree.put_entry(root.id, file("x", 5), 1.0)
        complete(cache, was)
        await cache.tree.put_listing(root.id, [file("y", 6)], validator=None, at=1.0)
        nodes = await filled_below(cache, root.id)
    index_of(home).unlink()
    async with Cache.open(home) as cache:
        node = known(cache, "x/z")
        assert node is not None
        assert nodes == 7
        root = await cache.tree.root(URL)
        back = await cache.tree.put_entry(root.id, file("x", 5), 2.0)
        assert cache.objects.state(back).complete
        assert known(cache, "x/z") is None


async def filled_below(cache: Cache, root: int) -> int:
    from tests.cache.support import folder

    await cache.tree.put_listing(root, [folder("x")], validator=None, at=1.0)
    below = cache.tree.child(root, "x")
    assert below is not None
    node = await cache.tree.put_entry(below.id, file("z", 7), 1.0)
    complete(cache, node)
    return node.size or 0


async def test_a_damaged_index_that_is_in_use_is_not_replaced(home: Path) -> None:
    """Whoever uses it goes on with it; the next one says who has to end first."""
    await filled(home)
    async with Cache.open(home) as cache:
        damage.mark(index_of(home), "it was met by a query")
        inode = index_of(home).stat().st_ino
        with pytest.raises(CacheUnusable, match="in use by another process: end that"):
            async with Cache.open(home):
                pass
        assert index_of(home).stat().st_ino == inode
        assert check_bytes(cache, await listed(cache)) == set(PATHS)
    async with Cache.open(home):
        assert index_of(home).stat().st_ino != inode


HOLDER = """
import sys, trio
from pathlib import Path
from cache import Cache
async def main():
    async with Cache.open(Path(sys.argv[1])):
        print("open", flush=True)
        sys.stdin.readline()
trio.run(main)
"""


async def test_another_process_that_has_it_open_is_respected(home: Path) -> None:
    await filled(home)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        damage.mark(index_of(home), "for this test")
        with pytest.raises(CacheUnusable, match="in use by another process"):
            async with Cache.open(home):
                pass
        holder.kill()  # a lock ends with its process, however that ends
        holder.wait()
    async with Cache.open(home) as cache:
        assert check_bytes(cache, await listed(cache)) == set(PATHS)


async def test_damage_that_a_query_meets_is_mended_at_the_next_start(home: Path) -> None:
    await filled(home)
    async with Cache.open(home) as cache:
        for number in range(2000):  # more than one page, so that the first look does not see it
            if number % 500 == 0:
                root = await cache.tree.root(URL)
                names = [file(f"file with a long name {n:06}") for n in range(number, number + 500)]
                await cache.tree.put_listing(root.id, names, validator=None, at=1.0)
    with closing(sqlite3.connect(index_of(home))) as db:
        (table,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'nodes_past'").fetchone()
    overwrite(home, (table - 1) * PAGE, b"\xaa" * PAGE)
    async with Cache.open(home) as cache:
        root = await cache.tree.root(URL)
        with pytest.raises(CacheBroken, match=r"damaged.*made anew at the next start"):
            await cache.tree.put_entry(root.id, file("a new name"), 1.0)
        assert (home / damage.MARK).exists()
    async with Cache.open(home) as cache:
        assert check_bytes(cache, await listed(cache)) == set(PATHS)


async def test_after_a_start_of_the_system_the_whole_index_is_looked_at(home: Path) -> None:
    await filled(home)
    with closing(sqlite3.connect(index_of(home))) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'nodes_past'").fetchone()
    overwrite(home, (page - 1) * PAGE, b"\xaa" * PAGE)
    assert damage.seen(index_of(home)) is None
    assert damage.seen(index_of(home), whole=True) is not None
    sql(home, "UPDATE space SET boot = 'another start'")
    async with Cache.open(home) as cache:
        assert check_bytes(cache, await listed(cache)) == set(PATHS)


@pytest.mark.parametrize("at", ["hardlink_to", "rename", "unlink"])
async def test_a_rebuild_that_is_interrupted_begins_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Before and after every step by which the new index takes the name."""
    await filled(home)
    real = getattr(Path, at)
    for after in (False, True):
        for number in range(4):
            calls = 0
            damage.mark(index_of(home), "for this test")

            def dies(
                self: Path, *args: object, stop: int = number, late: bool = after, **more: object
            ) -> object:
                nonlocal calls
                calls += 1
                if calls == stop + 1 and not late:
                    raise Interrupted
                answer = real(self, *args, **more)
                if calls == stop + 1:
                    raise Interrupted
                return answer

            with monkeypatch.context() as patch:
                patch.setattr(Path, at, dies)
                try:
                    async with Cache.open(home):
                        pass
                except Interrupted:
                    pass
            async with Cache.open(home) as cache:
                assert {path for path in PATHS if known(cache, path)} == set(PATHS)
                assert check_bytes(cache, await listed(cache)) == set(PATHS)


class Interrupted(Exception):
    """Stands for a kill."""


async def test_no_room_for_another_index_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(home)
    damage.mark(index_of(home), "for this test")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(rebuild, "_sync", full)
        with pytest.raises(CacheUnusable, match=r"is damaged .*No space left"):
            async with Cache.open(home):
                pass
    async with Cache.open(home) as cache:
        assert check_bytes(cache, await listed(cache)) == set(PATHS)


# -- any damage ----------------------------------------------------------------------------------

VERSION_FIELD = range(60, 64)
"""Of the header: a number that says "written by a newer program" is believed, and the cache refused."""


@st.composite
def harm(draw: st.DrawFn) -> tuple[str, float, int, bytes]:
    """How, where (a share of the file), how many bytes or pages, and with what."""
    how = draw(st.sampled_from(["bytes", "page", "swap", "cut"]))
    where = draw(st.floats(0, 1, exclude_max=True))
    return how, where, draw(st.integers(1, 64)), draw(st.binary(min_size=1, max_size=64))


def inflict(index: Path, harms: list[tuple[str, float, int, bytes]], spared: set[int]) -> None:
    data = bytearray(index.read_bytes())
    version = bytes(data[60:64])
    for how, where, count, with_ in harms:
        at = int(where * len(data))
        page = at // PAGE
        if how == "bytes" and page not in spared:
            data[at : at + len(with_)] = with_[: len(data) - at]
        elif how == "page":
            data[page * PAGE : (page + 1) * PAGE] = (with_ * PAGE)[:PAGE]
        elif how == "swap":
            other = (page + count) % (len(data) // PAGE)
            one, two = slice(page * PAGE, (page + 1) * PAGE), slice(other * PAGE, (other + 1) * PAGE)
            data[one], data[two] = data[two], data[one]
        elif how == "cut" and count < 8:
            del data[at:]
        if len(data) >= 64:
            data[60:64] = version
        if len(data) < PAGE:
            break
    index.write_bytes(data)


@settings(max_examples=150, deadline=None)
@given(harms=st.lists(harm(), min_size=1, max_size=4))
@example(harms=[("bytes", 0.08203125, 1, bytes(6))])  # a key of an object, in some layouts
@example(harms=[("swap", 0.9375, 51, b"\0")])  # a row of another table where a node was
def test_any_damage_of_the_index_leaves_every_served_byte_right(
    golden: Path, harms: list[tuple[str, float, int, bytes]]
) -> None:
    """It opens; what it serves is right or an error; after an error the next start is right again.

    Not shown: rows of `extents` that become other valid rows. No page has a checksum that would tell.
    """
    logging.getLogger("cache").setLevel(logging.ERROR)
    home = golden.with_name("damaged")
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(golden, home)
    for path in home.glob("objects/*/*"):
        source = golden / path.relative_to(home)
        if "user.mirror.object" in os.listxattr(source):
            os.setxattr(path, "user.mirror.object", os.getxattr(source, "user.mirror.object"))
    with closing(sqlite3.connect(index_of(home))) as db:
        spared = {
            row[0] - 1 for row in db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'extents'")
        }
    inflict(index_of(home), harms, spared)

    async def used() -> bool:
        async with Cache.open(home) as cache:
            try:
                check_bytes(cache, {path: node for path in PATHS if (node := known(cache, path))})
                check_bytes(cache, await listed(cache))
            except CacheError:
                return False
            return True

    if not trio.run(used):
        assert (home / damage.MARK).exists()
        assert trio.run(used)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("golden") / "cache"
    trio.run(filled, home)
    return home
