"""The arithmetic of the bench: turns, ratios and verdicts."""

from __future__ import annotations

import itertools

import pytest

from tests.bench.measure import OURS, REFERENCE, Result, Row, take_turns

RATE = Row("rate", "a rate", "native", "MB/s", must=0.9, aim=1.0, more_is_better=True)
TIME = Row("time", "a time", "native", "µs", must=1.3, aim=1.1)


def test_every_side_is_measured_once_a_round_and_begins_in_turn() -> None:
    clock = itertools.count()
    samples = take_turns(3, {OURS: lambda: next(clock), REFERENCE: lambda: next(clock)})
    assert samples == {OURS: [0, 3, 4], REFERENCE: [1, 2, 5]}


def test_the_ratio_is_formed_within_each_round() -> None:
    drifting = Result(TIME, {OURS: [1.0, 10.0, 100.0], REFERENCE: [1.0, 10.0, 100.0]})
    assert drifting.ratio == 1.0


@pytest.mark.parametrize(
    ("row", "ours", "ok", "aim_ok"),
    [
        (RATE, 1.0, True, True),
        (RATE, 0.95, True, False),
        (RATE, 0.8, False, False),
        (TIME, 1.0, True, True),
        (TIME, 1.2, True, False),
        (TIME, 1.4, False, False),
    ],
)
def test_a_rate_must_not_fall_below_and_a_time_not_rise_above(
    row: Row, ours: float, ok: bool, aim_ok: bool
) -> None:
    result = Result(row, {OURS: [ours], REFERENCE: [1.0]})
    assert (result.ok, result.aim_ok) == (ok, aim_ok)


def test_a_row_without_limits_has_no_verdict() -> None:
    result = Result(Row("free", "for information", "native", "µs"), {OURS: [9.0], REFERENCE: [1.0]})
    assert (result.ok, result.aim_ok) == (None, None)
