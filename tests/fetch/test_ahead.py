"""Which neighbours are fetched before they are asked for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cache import Kind, Node
from mirror.fetch.ahead import FIRST_WINDOW, LARGEST_FILE, LARGEST_WINDOW, ReadAhead
from tests.support.nodes import file_node


def file(entry: int, size: int = 1000, kind: Kind = Kind.FILE) -> Node:
    return file_node(entry, size=size, kind=kind)


def folder_of(files: Sequence[Node]) -> ReadAhead:
    def children(_folder: int, after: int, limit: int) -> list[Node]:
        return [node for node in files if node.entry > after][:limit]

    return ReadAhead(children)


def test_the_first_open_says_nothing() -> None:
    assert folder_of([file(i) for i in range(100)]).opened(file(5)) == []


def test_two_opens_in_order_start_a_walk() -> None:
    ahead = folder_of([file(i) for i in range(100)])
    ahead.opened(file(5))
    assert [node.entry for node in ahead.opened(file(6))] == list(range(7, 7 + FIRST_WINDOW))


def test_a_walk_fetches_every_file_once_and_stays_ahead() -> None:
    files = [file(i) for i in range(1, 2000)]
    ahead = folder_of(files)
    planned: set[int] = set()
    behind = 0
    for node in files:
        behind += node.entry not in planned
        window = [neighbour.entry for neighbour in ahead.opened(node)]
        assert planned.isdisjoint(window)
        assert len(window) <= LARGEST_WINDOW
        planned.update(window)
    assert behind == 2


def test_a_walk_goes_on_when_only_its_tripwires_reach_us() -> None:
    files = [file(i) for i in range(1, 2000)]
    ahead = folder_of(files)
    planned: set[int] = set()
    behind = opens = 0
    for node in files:
        known = node.entry in planned
        behind += not known
        if not known or ahead.is_tripwire(node):
            opens += 1
            planned.update(neighbour.entry for neighbour in ahead.opened(node))
    assert behind == 2
    assert opens < len(files) // 40


@pytest.mark.parametrize("stride", [2, 3, 5, 7])
def test_who_passes_over_some_files_has_few_opens_that_reach_us(stride: int) -> None:
    files = [file(i) for i in range(1, 4000)]
    ahead = folder_of(files)
    planned: set[int] = set()
    behind = opens = 0
    for node in files[::stride]:
        known = node.entry in planned
        behind += not known
        if not known or ahead.is_tripwire(node):
            opens += 1
            planned.update(neighbour.entry for neighbour in ahead.opened(node))
    assert behind < 2 + len(files) // 100
    assert opens < len(files) // 20


def test_several_readers_near_each_other_are_one_walk() -> None:
    ahead = folder_of([file(i) for i in range(1, 500)])
    planned: set[int] = set()
    behind = 0
    for base in range(1, 480, 4):
        for entry in (base + 2, base, base + 3, base + 1):
            behind += entry not in planned
            planned.update(node.entry for node in ahead.opened(file(entry)))
    assert behind < 12


@pytest.mark.parametrize("order", [[5, 90, 40, 10, 70], [50, 49, 48, 47]])
def test_opens_without_an_order_fetch_nothing_ahead(order: list[int]) -> None:
    ahead = folder_of([file(i) for i in range(100)])
    assert [ahead.opened(file(entry)) for entry in order] == [[]] * len(order)


def test_large_files_and_folders_are_left_out() -> None:
    files = [file(1), file(2), file(3, LARGEST_FILE + 1), file(4, 0, Kind.FOLDER), file(5)]
    ahead = folder_of(files)
    ahead.opened(files[0])
    assert [node.entry for node in ahead.opened(files[1])] == [5]


def test_a_window_is_bounded_in_bytes() -> None:
    ahead = folder_of([file(i, LARGEST_FILE) for i in range(1, 100)])
    ahead.opened(file(1))
    assert len(ahead.opened(file(2))) == 4
