"""Extents against the plainest model there is: the set of bytes that are present."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import Extents

SIZE = 40
ranges = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda pair: (min(pair), max(pair)))


def model(added: list[tuple[int, int]]) -> set[int]:
    return {byte for start, stop in added for byte in range(start, stop)}


@given(st.lists(ranges, max_size=12), ranges)
def test_extents_are_the_set_of_bytes_that_were_added(
    added: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    extents, present = Extents(added), model(added)
    start, stop = asked
    assert model(list(extents)) == present
    assert extents.total == len(present)
    assert extents.covers(start, stop) == (set(range(start, stop)) <= present)
    assert model(extents.gaps(start, stop)) == set(range(start, stop)) - present
    assert extents.stop == max(present, default=-1) + 1
    gap = extents.first_gap(start, SIZE)
    missing = [byte for byte in range(start, SIZE) if byte not in present]
    assert (gap is None) == (not missing)
    if gap is not None:
        assert gap[0] == missing[0]
        assert set(range(*gap)) <= set(missing)
        assert gap[1] == SIZE or gap[1] in present


@given(st.lists(ranges, max_size=12))
def test_ranges_are_sorted_and_never_touch(added: list[tuple[int, int]]) -> None:
    found = list(Extents(added))
    assert all(start < stop for start, stop in found)
    assert all(before[1] < after[0] for before, after in pairwise(found))
    assert Extents(reversed(added)) == Extents(added)
    assert len(Extents(added)) == len(found)


@given(st.lists(ranges, max_size=12), ranges)
def test_a_copy_goes_its_own_way(added: list[tuple[int, int]], more: tuple[int, int]) -> None:
    extents = Extents(added)
    before = list(extents)
    copy = extents.copy()
    copy.add(*more)
    assert list(extents) == before


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2)])
def test_what_is_no_range_is_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="not a byte range"):
        Extents().add(start, stop)


def test_an_empty_range_is_always_covered() -> None:
    assert Extents().covers(5, 5)
    assert not Extents()
    assert repr(Extents([(0, 2), (1, 3)])) == "Extents([(0, 3)])"
