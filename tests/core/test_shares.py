"""Several who warm one source: each file is one's, what others have is put off, what takes long is helped."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from cache import Cache, Node
from mirror.namespace import Namespace
from mirror.remotes.base import Listing, NotModified
from mirror.retry import Schedule
from mirror.selection import File
from mirror.shares import HELP_AFTER, LARGE, NEIGHBOURS, Shares, Stretch
from tests.cache.support import complete, file, files
from tests.support.fake_remote import FakeRemote, Source

COUNT = 3 * NEIGHBOURS


@asynccontextmanager
async def both(folder: Path) -> AsyncIterator[tuple[Cache, Cache]]:
    """One cache, opened twice: as by two processes."""
    async with Cache.open(folder) as one, Cache.open(folder) as other:
        yield one, other


async def listed(cache: Cache) -> list[File]:
    nodes = await files(cache, *(file(f"{number:03}") for number in range(COUNT)))
    assert [node.entry for node in nodes] == sorted(node.entry for node in nodes)
    return [(node.name, node) for node in nodes]


def names(stretches: Sequence[Stretch]) -> list[str]:
    return [path for stretch in stretches for path, _ in stretch.files]


def fetched(cache: Cache, stretch: Stretch, node: Node) -> None:
    complete(cache, node)
    stretch.ended(node, here=True)


async def test_what_one_has_the_other_puts_off_until_it_is_safe(tmp_path: Path) -> None:
    async with both(tmp_path / "cache") as (one, other):
        all_of_them = await listed(one)
        mine, theirs = Shares(one), Shares(other)
        taking = mine.take(all_of_them)
        first = next(taking)
        assert 0 < len(first.files) <= NEIGHBOURS
        rest = [*theirs.take(theirs.look(all_of_them)[1])]
        assert names([first]) + names(rest) == [path for path, _ in all_of_them]
        assert (mine.others, theirs.others) == (False, True)
        assert theirs.put_off == len(first.files)
        assert [*taking] == []
        assert (mine.others, theirs.others) == (True, True)

        for _, node in first.files:
            fetched(one, first, node)
        mine.give_back()
        # Complete, but a power cut might still take it: nobody else begins with it, or believes in it.
        assert (theirs.settle(), theirs.take_again()) == ([], [])
        await one.objects.sync()
        mine.give_back()
        assert [(path, size) for (path, _), size in theirs.settle()] == [
            (path, node.size) for path, node in first.files
        ]
        assert theirs.put_off == 0
        assert theirs.look(all_of_them)[1] == [file for each in rest for file in each.files]


async def test_what_a_dead_process_had_is_taken_over(tmp_path: Path) -> None:
    async with both(tmp_path / "cache") as (one, other):
        all_of_them = await listed(one)
        mine, theirs = Shares(one), Shares(other)
        stretches = [*mine.take(all_of_them)]
        assert [*theirs.take(all_of_them)] == []
        assert theirs.put_off == COUNT
        fetched(one, stretches[0], stretches[0].files[0][1])
        await one.objects.sync()
        one.turns.close()
        assert [file for file, _ in theirs.settle()] == all_of_them[:1]
        assert names(theirs.take_again()) == [path for path, _ in all_of_them[1:]]


async def test_what_could_not_be_fetched_may_be_tried_by_others(tmp_path: Path) -> None:
    async with both(tmp_path / "cache") as (one, other):
        all_of_them = await listed(one)
        mine, theirs = Shares(one), Shares(other)
        for stretch in mine.take(all_of_them):
            for _, node in stretch.files:
                stretch.ended(node, here=False)
        assert [*theirs.take(all_of_them)] == []
        mine.give_back()
        assert theirs.settle() == []
        assert names(theirs.take_again()) == [path for path, _ in all_of_them]


async def test_neighbours_in_two_pages_are_one_turn(tmp_path: Path) -> None:
    async with both(tmp_path / "cache") as (one, other):
        all_of_them = await listed(one)
        mine, theirs = Shares(one), Shares(other)
        pages = [all_of_them[:5], all_of_them[5:]]
        stretches = [stretch for page in pages for stretch in mine.take(page)]
        assert names(stretches) == [path for path, _ in all_of_them]
        assert not mine.others
        for _, node in stretches[0].files:
            fetched(one, stretches[0], node)
        await one.objects.sync()
        mine.give_back()
        # Its second half is still to be fetched.
        assert [*theirs.take(theirs.look(all_of_them)[1])] == []
        mine.give_back_all()
        assert names(theirs.take_again()) == [path for path, _ in all_of_them[5:]]


async def test_what_takes_long_is_helped_with(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """File by file, of those that nobody has begun."""
    autojump_clock.autojump_threshold = 0.05  # the writer has its own clock
    async with both(tmp_path / "cache") as (one, other):
        all_of_them = await listed(one)
        mine, theirs = Shares(one), Shares(other)
        stretches = [*mine.take(all_of_them)]
        assert [*theirs.take(all_of_them)] == []
        assert theirs.to_help_with() is None
        begun = all_of_them[3][1]
        filler = one.objects.fill(begun)
        assert filler is not None
        await trio.sleep(HELP_AFTER + 0.1)
        helped: list[str] = []
        while (stretch := theirs.to_help_with()) is not None:
            (path,) = names([stretch])
            helped.append(path)
            fetched(other, stretch, stretch.files[0][1])
        assert sorted(helped) == [path for path, node in all_of_them if node.id != begun.id]
        assert theirs.put_off == 1
        assert begun.size is not None
        filler.write(0, bytes(begun.size))
        os.close(filler.complete())
        stretches[0].ended(begun, here=True)
        await one.objects.sync()
        assert [node.id for (_, node), _ in theirs.settle()] == [begun.id]
        assert theirs.put_off == 0


async def test_a_large_file_is_a_stretch_of_its_own(tmp_path: Path) -> None:
    async with both(tmp_path / "cache") as (one, _):
        sizes = [1, LARGE, LARGE, 1, 1]
        nodes = await files(one, *(file(f"{number}", size) for number, size in enumerate(sizes)))
        stretches = Shares(one).take([(node.name, node) for node in nodes])
        assert [names([stretch]) for stretch in stretches] == [["0"], ["1"], ["2"], ["3", "4"]]


@dataclass
class Slow(FakeRemote):
    """Listings come when the test says so."""

    answers: trio.Event = field(default_factory=trio.Event)

    async def list(self, path: str, validator: str | None = None) -> Listing | NotModified:
        listing = await super().list(path, validator)
        await self.answers.wait()
        return listing


@pytest.mark.parametrize("asked_before", [False, True])
async def test_a_folder_is_listed_once_for_all_who_ask(tmp_path: Path, asked_before: bool) -> None:
    """Who had asked before it was listed has all of it; who asks afterwards has it listed again."""
    remote = Slow({"a": Source(b"a")})
    now = [1000.0]

    async with both(tmp_path / "cache") as (one, other):
        root = await one.tree.root(remote.url)

        def namespace(cache: Cache, since: float) -> Namespace:
            return Namespace(
                cache.tree,
                remote,
                root,
                ttl=0.0,
                since=since,
                turns=cache.turns,
                schedule=Schedule(),
                clock=lambda: now[0],
            )

        first = namespace(one, 1000.0)
        second = namespace(other, 1000.0 if asked_before else 1001.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.listed, root.id)
            await trio.testing.wait_all_tasks_blocked(0.01)
            now[0] = 1002.0
            nursery.start_soon(second.listed, root.id)
            await trio.sleep(0.05)
            assert remote.requests == 1
            remote.answers.set()
        assert remote.requests == (1 if asked_before else 2)
        assert [node.name for node in second.children(root.id)] == ["a"]
        await first.check_source()
        await second.check_source()
        assert remote.requests == (1 if asked_before else 2)
