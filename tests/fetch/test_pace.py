"""How many requests an origin gets, and how large ones: from what it showed."""

from __future__ import annotations

from collections.abc import Callable

from mirror.fetch.pace import (
    FAR_PARTS,
    HOLD,
    LARGEST_PART,
    NEAR_PART_SIZE,
    NEAR_PARTS,
    SMALLEST_PART,
    MiB,
    Pace,
)

GiB = 1024 * MiB


def known(first_byte: float, rate: float, limit: int = 16) -> Pace:
    pace = Pace(limit)
    pace.answered(first_byte)
    pace.finished(int(rate) * 10, 10.0)
    return pace


def run(pace: Pace, rate: Callable[[int], float], seconds: float, at: float = 0.0) -> float:
    """Receive for some seconds over a link that brings ``rate(parts)``, all parts always under way."""
    step = 0.01
    for number in range(int(seconds / step)):
        pace.received(int(rate(pace.parts) * step), pace.parts, at + number * step)
    return at + seconds


def test_a_near_and_fast_origin_gets_a_few_parts_and_never_more() -> None:
    pace = known(0.0005, 500 * MiB)
    run(pace, lambda parts: parts * 500 * MiB, 60)
    assert (pace.parts, pace.part_size(GiB)) == (NEAR_PARTS, NEAR_PART_SIZE)


def test_before_anything_is_known_it_begins_with_a_few() -> None:
    assert Pace(16).parts == FAR_PARTS
    assert Pace(3).parts == 3
    assert Pace(1).parts == 1


def test_more_connections_are_tried_while_they_bring_more() -> None:
    """A link that loses packets gives each connection its own small rate."""
    pace = known(0.2, MiB, limit=32)
    run(pace, lambda parts: parts * MiB, 60)
    assert pace.parts == 32


def test_a_near_origin_that_is_slow_on_each_connection_gets_more_of_them() -> None:
    pace = known(0.001, 4 * MiB)
    run(pace, lambda parts: parts * 4 * MiB, 30)
    assert pace.parts == 16


def test_it_steps_back_when_further_ones_bring_nothing_and_tries_again_later() -> None:
    pace = known(0.1, 30 * MiB, limit=64)
    now = run(pace, lambda parts: min(parts * 30, 200) * MiB, 20)
    assert pace.parts == 8
    assert pace.total_rate is not None
    assert 180 * MiB < pace.total_rate < 220 * MiB
    now = run(pace, lambda parts: parts * 30 * MiB, HOLD + 30, at=now)
    assert pace.parts == 64


def test_never_more_than_the_limit() -> None:
    pace = known(0.2, MiB, limit=5)
    run(pace, lambda parts: parts * MiB, 60)
    assert pace.parts == 5


def test_what_other_files_receive_at_the_same_time_is_no_measurement() -> None:
    pace = known(0.2, MiB)
    for number in range(1000):
        pace.received(MiB, pace.parts + 3, number * 0.05)
    assert (pace.parts, pace.total_rate) == (FAR_PARTS, None)


def test_a_part_takes_long_compared_with_the_wait_for_it() -> None:
    assert known(0.2, 10 * MiB).part_size(10 * GiB) == 40 * MiB
    assert known(0.2, GiB).part_size(10 * GiB) == LARGEST_PART
    assert known(0.2, MiB / 10).part_size(10 * GiB) == SMALLEST_PART


def test_the_last_parts_are_shared_by_all_connections() -> None:
    pace = known(0.2, 10 * MiB)
    assert pace.part_size(32 * MiB) == 32 * MiB // FAR_PARTS
    assert pace.part_size(2 * MiB) == SMALLEST_PART


def test_the_farther_the_origin_the_more_small_files_are_fetched_ahead() -> None:
    assert known(0.001, 100 * MiB).ahead(12) == 8
    assert known(0.2, MiB).ahead(28) == 28
    assert known(0.2, MiB).ahead(0) == 1


def test_how_long_without_a_byte_is_too_long_follows_from_the_usual() -> None:
    assert known(0.001, MiB).patience() == 1.0
    assert known(0.5, MiB).patience() == 2.0
