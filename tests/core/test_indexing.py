"""A whole source in the index: what a scan must leave, whatever happens on its way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from cache import Cache, Entry, Kind
from cache.scan import Pages, State
from mirror import engine as engines
from mirror.errors import AccessDenied, OriginFailed, ProtocolError, Transient
from mirror.indexing import Summary, index
from mirror.traffic import Traffic
from tests.support.fake_remote import FakeRemote
from tests.support.fake_store import PagedStore, Store

URL = "fake://source/"


@pytest.fixture(params=[Store, PagedStore])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    """What every engine of the test opens."""
    store: Store = request.param()
    monkeypatch.setattr("mirror.indexing.DIVIDED_PAGES", 100)
    monkeypatch.setattr(engines, "open_remote", lambda _source, _how: store)
    return store


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "cache"


async def run(home: Path, path: str = "", *, jobs: int = 1, anew: bool = False) -> Summary:
    return await index(
        URL, path, home, jobs=jobs, deadline=5.0, traffic=Traffic(), report=lambda _: None, anew=anew
    )


def below(cache: Cache, folder: int, prefix: str = "") -> dict[str, bool]:
    """Every path in the index, and for folders whether they count as listed."""
    found: dict[str, bool] = {}
    for node in cache.tree.children(folder, limit=-1):
        path = prefix + node.name
        if node.kind is Kind.FOLDER:
            found[path + "/"] = node.listed_at is not None
            found |= below(cache, node.id, path + "/")
        else:
            found[path] = True
    return found


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[tuple[Cache, int]]:
    async with Cache.open(home) as cache:
        yield cache, (await cache.tree.root(URL)).id


async def known(home: Path) -> dict[str, bool]:
    async with opened(home) as (cache, root):
        return below(cache, root)


def expected(store: Store) -> dict[str, bool]:
    """What the index must have: all files, and all folders, listed."""
    found = {}
    for path in (*store.files, *(f"{folder}/" for folder in store.folders)):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            found["/".join(parts[:depth]) + "/"] = True
        if parts[-1]:
            found[path] = True
    folders = {path[:-1] for path in found if path.endswith("/")}
    return {path: True for path in found if path not in folders}


def fill(store: Store, folders: Sequence[str] = ("a", "a/x", "a/x/deep", "b", "c", "d")) -> None:
    for folder in folders:
        store.put(*(f"{folder}/{number}" for number in range(5)))
    store.put("top", "a-b", "a.txt")


# -- what is there afterwards ----------------------------------------------------------------


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("jobs", [1, 4])
async def test_every_folder_is_complete_and_counts_as_listed(
    store: Store, home: Path, jobs: int, shuffled: bool
) -> None:
    """Whatever the order of the pages."""
    fill(store)
    store.shuffled = shuffled
    summary = await run(home, jobs=jobs)
    assert (summary.ok, summary.files_known, summary.folders_known, summary.resumed) == (True, 33, 7, False)
    assert await known(home) == expected(store)
    async with opened(home) as (cache, root):
        assert cache.scans.units(root) == []


async def test_few_folders_are_divided_and_many_are_not(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The top is listed until there is work for all; a folder of very many is read in one go."""
    fill(store)
    await run(home, jobs=1)
    assert {under for under, _ in store.scans} == {"a", "b", "c", "d"}
    store.scans.clear()
    store.put(*(f"wide/{number}/x" for number in range(10)))
    monkeypatch.setattr("mirror.indexing.MOST_UNITS", 9)
    await run(home, jobs=2)
    assert {under for under, _ in store.scans} == {"wide"}
    assert await known(home) == expected(store)


async def test_a_folder_that_has_too_many_pages_is_not_divided(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read with all that lies below it, so that a run that is stopped goes on in the middle."""
    store = PagedStore()
    monkeypatch.setattr(engines, "open_remote", lambda _source, _how: store)
    monkeypatch.setattr("mirror.indexing.DIVIDED_PAGES", 4)
    fill(store)
    store.put(*(f"b/{number:03}" for number in range(100)))
    for _ in range(2):
        store.scans.clear()
        await run(home, jobs=2)
        assert {under for under, _ in store.scans} == {"b"}
        assert await known(home) == expected(store)


async def test_what_vanished_goes_and_what_changed_is_another(store: Store, home: Path) -> None:
    fill(store)
    await run(home)
    async with opened(home) as (cache, root):
        a = cache.tree.child(root, "a")
        assert a is not None
        old = cache.tree.child(a.id, "0")
        kept = cache.tree.child(a.id, "2")
    del store.files["a/1"], store.files["top"]
    for number in range(5):
        del store.files[f"a/x/deep/{number}"], store.files[f"c/{number}"]
    store.put("a/0", data=b"longer data")
    store.put("e/new", "b/new")
    summary = await run(home)
    assert await known(home) == expected(store)
    assert summary.changed == 1
    async with opened(home) as (cache, root):
        a = cache.tree.child(root, "a")
        assert a is not None
        assert old is not None
        new = cache.tree.child(a.id, "0")
        assert new is not None
        assert (new.id != old.id, new.entry, new.size) == (True, old.entry, 11)
        assert kept is not None
        found = cache.tree.child(a.id, "2")
        assert found is not None
        assert found.id == kept.id


async def test_a_key_that_is_both_is_a_folder(store: Store, home: Path) -> None:
    """As in the listing of a folder; and the file shows once the folder is gone."""
    monkeyed = ["w/both", "w/both/x", "w/both-", "w/z/1", "w/both.txt"]
    for attempt in range(3):
        store.put(*monkeyed, "w/q/both", "w/q/both/1", "w/q/both/2", "w/q/both/3")
        await run(home)
        assert await known(home) == expected(store), attempt
    for path in ("w/q/both/1", "w/q/both/2", "w/q/both/3"):
        del store.files[path]
    await run(home)
    assert await known(home) == expected(store)
    assert "w/q/both" in await known(home)


async def test_an_empty_folder_that_the_origin_knows_is_kept(store: Store, home: Path) -> None:
    fill(store)
    store.folders = ["empty", "a/x/deep/empty", "b/empty"]
    for _ in range(2):
        await run(home)
        assert await known(home) == expected(store)


async def test_a_part_of_a_source_may_be_indexed(store: Store, home: Path) -> None:
    fill(store)
    summary = await run(home, "a/x")
    assert summary.files_known == 10
    found = await known(home)
    assert found["a/x/deep/4"]
    assert not found["b/"]
    assert "b/0" not in found


async def test_a_source_that_does_not_scan_is_listed_folder_by_folder(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    walked = FakeRemote(store.files)
    monkeypatch.setattr(engines, "open_remote", lambda _source, _how: walked)
    summary = await run(home, jobs=3)
    assert (summary.files, summary.files_known, summary.folders) == (33, 33, 7)
    assert await known(home) == expected(store)
    del store.files["a/1"]
    assert (await run(home, jobs=3)).removed == 1


# -- on its way ------------------------------------------------------------------------------


async def test_a_run_that_was_stopped_marks_nothing_and_goes_on_at_its_page(store: Store, home: Path) -> None:
    """A folder whose pages were not all read does not count as listed."""
    store.put(*(f"d/{number:03}" for number in range(100)))
    store.put("d/w/1", "d/y/1", "d/z/1", *(f"d/x/{number:03}" for number in range(100)))

    with trio.CancelScope() as scope:

        def stop(under: str, number: int) -> None:
            if number >= 60:
                scope.cancel()

        store.at_page = stop
        await index(URL, "d", home, jobs=1, deadline=5.0, traffic=Traffic(), report=lambda _: None)
    found = await known(home)
    assert 104 < len(found) < 207
    assert not found["d/x/"]
    store.scans.clear()
    store.at_page = lambda under, number: None
    summary = await index(URL, "d", home, jobs=1, deadline=5.0, traffic=Traffic(), report=lambda _: None)
    assert summary.resumed
    assert any(int(cursor or 0) >= 50 for under, cursor in store.scans if under == "d/x")
    assert await known(home) == expected(store)


async def test_a_cursor_that_means_nothing_any_more_costs_the_pages_again(store: Store, home: Path) -> None:
    fill(store, ["a/x/deep"])
    store.put(*(f"a/x/deep/more/{number}" for number in range(9)))

    async with opened(home) as (cache, root):
        run_ = await cache.scans.begin(root, 1.0)
        await cache.tree.put_listing(root, [Entry("a", Kind.FOLDER)], validator=None, at=2.0)
        a = cache.tree.child(root, "a")
        assert a is not None
        await cache.scans.divide(run_, [a.id])
        unit = next(each for each in cache.scans.units(root) if each.state is State.PAGES)
        await cache.scans.put_page(Pages(unit), [("gone", Entry("gone", Kind.FILE, 1))], "999", last=False)

    def refuse(under: str, number: int) -> None:
        if number == 999:
            raise ProtocolError("what cursor?")

    store.at_page = refuse
    assert (await run(home)).resumed
    assert store.scans == [("a", "999"), ("a", None)]
    found = await known(home)
    assert found.pop("a/gone")  # seen since the run began, for all that is known
    assert found == {path: True for path in expected(store) if path.startswith("a/")}


async def test_failures_of_a_moment_are_tried_again(store: Store, home: Path) -> None:
    fill(store)
    failing = iter([True, False] * 100)

    def fail(under: str, number: int) -> None:
        if next(failing):
            raise Transient("for a moment")

    store.at_page = fail
    assert (await run(home, jobs=2)).ok
    assert await known(home) == expected(store)


async def test_a_folder_that_is_refused_is_said_and_the_next_run_begins_anew(
    store: Store, home: Path
) -> None:
    """What pages do not tell is asked for folder by folder."""
    fill(store)

    def refuse(under: str, number: int) -> None:
        if under in {"a", "b"}:
            raise AccessDenied("403")

    store.at_page = refuse
    store.refused = {"b", "a/x/deep"}
    summary = await run(home)
    assert sorted(summary.failures) == [("a/x/deep", "403"), ("b", "403")]
    assert not summary.ok
    found = await known(home)
    assert (found["b/"], found["a/x/deep/"], found["a/x/4"]) == (False, False, True)
    store.refused = set()
    summary = await run(home)
    assert (summary.ok, summary.resumed) == (True, False)
    assert await known(home) == expected(store)


async def test_an_origin_that_fails_is_given_up_and_the_next_run_goes_on(store: Store, home: Path) -> None:
    fill(store)
    store.put(*(f"e{number}/file" for number in range(60)))

    def fail(under: str, number: int) -> None:
        if under > "c":
            raise OriginFailed("down")

    store.at_page = fail
    with pytest.raises(OriginFailed, match="down; gave up after 10 folders in a row"):
        await run(home, jobs=4)
    store.at_page = lambda under, number: None
    summary = await run(home, jobs=4)
    assert (summary.ok, summary.resumed) == (True, True)
    assert await known(home) == expected(store)


async def test_anew_forgets_what_was_left_to_do(store: Store, home: Path) -> None:
    fill(store)
    async with opened(home) as (cache, root):
        await cache.scans.begin(root, 1.0)
    summary = await run(home, anew=True)
    assert not summary.resumed
    async with opened(home) as (cache, root):
        node = cache.tree.node(root)
        assert node is not None
        assert node.listed_at is not None
        assert node.listed_at > 1.0


# -- beside others ---------------------------------------------------------------------------


async def test_a_folder_that_somebody_listed_meanwhile_is_left_as_they_saw_it(
    store: Store, home: Path
) -> None:
    """Pages that are older than its listing neither bring back what is gone nor take away what is new."""
    fill(store)
    await run(home)
    async with opened(home) as (cache, root):
        unit = await cache.scans.begin(root, 1.0)
        b = cache.tree.child(root, "b")
        assert b is not None
        new = [Entry("new", Kind.FILE, 1), Entry("sub", Kind.FOLDER)]
        await cache.tree.put_listing(b.id, new, validator=None, at=5.0)
        pages = Pages(unit)
        old = [(f"b/{number}", Entry(str(number), Kind.FILE, 4)) for number in range(5)]
        await cache.scans.put_page(pages, old, None, last=True)
        folders, after = [root], 0
        while folders:
            _, after = await cache.scans.sweep(unit, folders, after)
        found = below(cache, root)
    assert {path for path in found if path.startswith("b/")} == {"b/", "b/new", "b/sub/"}
    assert not found["b/sub/"], "nobody has seen what is in it"


async def test_a_sweep_of_a_large_folder_takes_several_steps(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.parts.SWEPT", 10)
    monkeypatch.setattr("cache.parts.LOOKED_AT", 25)
    async with opened(home) as (cache, root):
        entries = [Entry(f"{number:03}", Kind.FILE, 1) for number in range(200)]
        await cache.tree.put_listing(root, entries, validator=None, at=1.0)
        unit = await cache.scans.begin(root, 2.0)
        seen = [(entry.name, entry) for entry in entries if entry.name[-1] in "135"]
        await cache.scans.put_page(Pages(unit), seen, None, last=True)
        folders, after, steps = [root], 0, 0
        while folders:
            written, after = await cache.scans.sweep(unit, folders, after)
            assert sum(len(changes.removed) for changes in written.changes) <= 10
            steps += 1
        assert steps >= 14
        assert sorted(below(cache, root)) == sorted(name for name, _ in seen)
        node = cache.tree.node(root)
        assert node is not None
        assert node.listed_at == 2.0


async def test_a_page_whose_transaction_is_undone_is_written_whole(home: Path) -> None:
    """A folder that it made is not taken for made."""
    async with opened(home) as (cache, root):
        unit = await cache.scans.begin(root, 1.0)
        pages = Pages(unit)

        def undone(db: object) -> None:
            pages.put(db, [("a/b/1", Entry("1", Kind.FILE, 1))], 2.0, 1)  # type: ignore[arg-type]
            raise OSError("undone")

        with pytest.raises(OSError, match="undone"):
            await cache.tree.written(undone)
        await cache.scans.put_page(pages, [("a/b/1", Entry("1", Kind.FILE, 1))], None, last=True)
        assert set(below(cache, root)) == {"a/", "a/b/", "a/b/1"}
