"""The bytes in memory and the runs of reads, against a plain model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.fetch.window import RUNS, SLACK, Runs, Window


@given(
    start=st.integers(0, 50),
    steps=st.lists(st.tuples(st.sampled_from(["add", "trim"]), st.integers(0, 40)), max_size=30),
)
def test_a_window_is_a_slice_of_the_file(start: int, steps: list[tuple[str, int]]) -> None:
    file = bytes(range(256)) * 8
    window = Window(start)
    for step, number in steps:
        if step == "add":
            window.add(memoryview(file)[window.end : window.end + number])
        else:
            window.trim(window.first + number)
            assert window.first <= max(start, window.end)
        assert window.held == window.end - window.first
        assert window.read(window.first, window.end) == file[window.first : window.end]
        middle = (window.first + window.end) // 2
        assert window.read(middle, window.end) == file[middle : window.end]
    window.clear()
    assert (window.held, window.read(window.end, window.end)) == (0, b"")


def test_what_is_not_in_the_window_is_refused() -> None:
    window = Window(10)
    window.add(b"abc")
    for start, stop in ((9, 11), (12, 14), (12, 11)):
        with pytest.raises(ValueError, match="is not in"):
            window.read(start, stop)


def test_reads_that_follow_each_other_make_a_run() -> None:
    runs = Runs()
    assert [runs.note(at, at + 100) for at in (0, 100, 200, 150, 300)] == [0, 100, 200, 300, 300]


def test_reads_far_apart_make_none() -> None:
    runs = Runs()
    assert [runs.note(at, at + 100) for at in range(0, 10 * SLACK, SLACK + 101)] == [0] * 10


def test_several_readers_of_a_file_are_told_apart() -> None:
    runs = Runs()
    places = [reader * 10 * SLACK for reader in range(RUNS)]
    for step in range(5):
        for place in places:
            assert runs.note(place + step * 100, place + step * 100 + 100) == step * 100


def test_a_run_goes_on_where_a_read_of_it_failed() -> None:
    """Several were under way: whoever asks again for the first of them is still the same reader."""
    runs = Runs()
    size = 10 * SLACK
    for at in range(0, 5 * size, size):
        runs.note(at, at + size)
    for failed in (4 * size, 3 * size):
        runs.failed(failed)
    assert runs.note(3 * size, 3 * size + 100) == 3 * size
    runs.failed(50 * size)
    assert runs.note(3 * size + 100, 3 * size + 200) == 3 * size + 100
