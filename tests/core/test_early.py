"""What is in a new folder is gone through while it is being listed, and is all of it in the end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from cache import Cache, Entry, Kind
from cache.parts import Part
from cache.patterns import Patterns
from mirror.errors import MirrorError, OriginFailed
from mirror.namespace import FIRST_PART, Namespace
from mirror.remotes.base import Listing, NotModified, Page
from mirror.retry import Schedule
from mirror.selection import File, walk
from tests.core.test_pages import Rows, file
from tests.support.fake_remote import FakeRemote, Request
from tests.support.fake_store import PagedStore

QUICK = Schedule(first=0.001, longest=0.001, tries=2, deadline=5.0)


def slow(count: int) -> Rows:
    """Its pages behind the first come when the test says so."""
    remote = Rows(rows=rows(count))
    remote.gate = trio.Event()
    return remote


@dataclass
class Walked:
    """A walk under way."""

    names: list[str] = field(default_factory=list)
    failed: list[tuple[str, MirrorError]] = field(default_factory=list)
    over: bool = False

    async def run(self, namespace: Namespace) -> None:
        async def found(files: Sequence[File]) -> None:
            self.names += [path for path, _ in files]

        await walk(namespace, Patterns(()), found, lambda path, why: self.failed.append((path, why)))
        self.over = True

    async def come_to(self, count: int) -> None:
        with trio.fail_after(5.0):
            while len(self.names) < count:  # noqa: ASYNC110 - the product need not tell
                await trio.sleep(0.001)


@asynccontextmanager
async def opened(home: Path, remote: object, *, turns: bool = False) -> AsyncIterator[Namespace]:
    async with Cache.open(home) as cache:
        root = await cache.tree.root("fake://source/")
        yield Namespace(
            cache.tree,
            remote,  # type: ignore[arg-type]  # each test has one of its own
            root,
            ttl=0.0,
            since=time.time(),
            schedule=QUICK,
            turns=cache.turns if turns else None,
        )


def rows(count: int) -> list[Entry]:
    return [file(f"{number:04}") for number in range(count)]


async def test_files_are_found_before_the_last_page_is_there(tmp_path: Path) -> None:
    remote, walked = slow(10), Walked()
    async with opened(tmp_path, remote) as namespace, trio.open_nursery() as nursery:
        nursery.start_soon(walked.run, namespace)
        await walked.come_to(remote.page)
        assert not walked.over
        remote.gate.set()
    assert walked.names == [f"{number:04}" for number in range(10)]


async def test_of_a_folder_that_has_older_entries_nothing_is_found_before_its_listing(tmp_path: Path) -> None:
    """They may be gone, or others by now."""
    remote, walked = slow(10), Walked()
    async with opened(tmp_path, remote) as namespace:
        root = namespace.root.id
        await namespace._tree.put_part(root, [file("0001"), file("gone")], time.time() - 100)
        assert not namespace.readable_early(root)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(walked.run, namespace)
            await trio.sleep(0.1)
            assert not walked.names
            remote.gate.set()
    assert sorted(walked.names) == [f"{number:04}" for number in range(10)]


async def test_nor_of_one_in_which_something_was_replaced(tmp_path: Path) -> None:
    """An entry that comes back has its old number, at which the walk may be past it."""
    async with opened(tmp_path, Rows()) as namespace:
        tree, root = namespace._tree, namespace.root.id
        await tree.put_part(root, rows(3), time.time())
        assert namespace.readable_early(root)
        await tree.put_entry(root, file("0001", 2), time.time())
        assert not namespace.readable_early(root)


async def test_who_leaves_the_listing_to_another_process_finds_files_meanwhile(tmp_path: Path) -> None:
    remote, mine, other = slow(10), Walked(), Walked()
    async with (
        opened(tmp_path, remote, turns=True) as one,
        opened(tmp_path, remote, turns=True) as two,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(mine.run, one)
        await mine.come_to(remote.page)
        nursery.start_soon(other.run, two)
        await other.come_to(remote.page)
        assert not other.over
        remote.gate.set()
    assert mine.names == other.names == [f"{number:04}" for number in range(10)]
    assert remote.folders == ["@0"], "it is listed once"


async def test_another_process_is_left_to_list_as_long_as_it_is_seen_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.namespace.TURN_PATIENCE", 0.1)
    remote = Rows(rows=rows(3))
    async with opened(tmp_path, remote, turns=True) as one, opened(tmp_path, remote, turns=True) as two:
        root = one.root.id
        async with one._turn(one.root), trio.open_nursery() as nursery:
            nursery.start_soon(two.listed, root)
            for number in range(10):
                await trio.sleep(0.04)
                await one._tree.put_part(root, [file(f"new{number}")], time.time())
            assert not remote.folders, "it goes on"
            await trio.sleep(0.2)
            assert remote.folders == ["@0"], "it hangs"


async def test_what_came_before_a_listing_broke_off_is_found_and_the_break_is_told(tmp_path: Path) -> None:
    remote, walked = Rows(rows=rows(10), fail_at=6, fault_at=OriginFailed), Walked()
    async with opened(tmp_path, remote) as namespace:
        await walked.run(namespace)
        assert namespace.node(namespace.root.id).listed_at is None
    assert walked.names == [f"{number:04}" for number in range(6)]
    assert [(path, type(why)) for path, why in walked.failed] == [("/", OriginFailed)]


async def test_folders_that_come_on_later_pages_are_walked(tmp_path: Path) -> None:
    remote, walked = PagedStore(), Walked()
    paths = [f"{path}{name}" for path in ("", "x/", "x/x/") for name in "abcdy"]
    remote.put(*paths)
    async with opened(tmp_path, remote) as namespace:
        await walked.run(namespace)
    assert walked.names == paths


async def test_a_folder_that_takes_the_place_of_a_file_already_found_is_walked(tmp_path: Path) -> None:
    """Of a bucket's keys ``both``, ``both-1``… and ``both/x`` the last may come pages behind the first."""

    class Both(Rows):
        async def pages(self, path: str, cursor: str | None = None) -> AsyncIterator[Page]:
            self.rows = [file("x")] if path else [*first, Entry("both", Kind.FOLDER)]
            async with aclosing(super().pages(path, cursor)) as pages:
                async for page in pages:
                    yield page
                    if not path:
                        await walked.come_to(3)

    first, walked = [file("both"), *rows(5)], Walked()
    async with opened(tmp_path, Both()) as namespace:
        await walked.run(namespace)
        assert namespace.node(namespace.root.id).listed_at is not None
    assert walked.names == [*(entry.name for entry in first), "both/x"]


class OnePage(FakeRemote):
    """A folder with all its names on one page, which is known by something."""

    rows: Sequence[Entry] = ()

    async def list(self, path: str, validator: str | None = None) -> Listing | NotModified:
        self._note(Request("list", path))
        await trio.lowlevel.checkpoint()
        return NotModified() if validator == "page" else Listing(self.rows, "page")


async def test_a_long_page_of_a_new_folder_can_be_used_before_all_of_it_is_in_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the end it is as if it had gone in at once, and the next listing is conditional."""
    remote, walked = OnePage(), Walked()
    remote.rows = rows(2 * FIRST_PART)
    both = [*remote.rows, Entry("0003", Kind.FOLDER), file("0005", 9)]
    async with opened(tmp_path, remote) as namespace:
        tree, root = namespace._tree, namespace.root.id
        real, parts = tree.put_part, 0

        async def slowly(folder: int, entries: Sequence[Entry], at: float) -> Part:
            nonlocal parts
            if parts == 1:
                await walked.come_to(FIRST_PART)
            parts += 1
            return await real(folder, entries, at)

        monkeypatch.setattr(tree, "put_part", slowly)
        await walked.run(namespace)
        assert parts == 2
        assert walked.names == [entry.name for entry in remote.rows]
        assert namespace.node(root).listing_validator == "page"
        await namespace.relist(root)
        assert len(namespace.children(root, limit=-1)) == len(walked.names)
    remote.rows = both
    async with opened(tmp_path / "other", remote) as namespace:
        await namespace.listed(namespace.root.id)
        found = {
            node.name: (node.kind, node.size) for node in namespace.children(namespace.root.id, limit=-1)
        }
    assert len(found) == 2 * FIRST_PART
    assert found["0003"] == (Kind.FOLDER, None), "a folder before a file"
    assert found["0005"] == (Kind.FILE, 1), "the first of two files"
