"""Rates by time of day."""

import time

import pytest

from mirror.timetable import Timetable

KiB = 1024


def at(table: str, when: str) -> int | None:
    return Timetable.parse(table).at(time.strptime(when, "%Y-%m-%d %H:%M"))


def test_a_rate_alone_counts_always() -> None:
    assert at("10M", "2026-11-23 00:00") == 10 * KiB * KiB
    assert at("1.5K", "2026-11-29 23:59") == 1536
    assert at("off", "2026-11-29 23:59") is None


def test_each_rate_counts_until_the_next_one() -> None:
    table = "08:00,1M 12:00,2M 19:00,off"
    assert at(table, "2026-11-23 08:00") == KiB * KiB
    assert at(table, "2026-11-23 11:59") == KiB * KiB
    assert at(table, "2026-11-23 12:00") == 2 * KiB * KiB
    assert at(table, "2026-11-23 19:00") is None
    assert at(table, "2026-11-23 07:59") is None  # yesterday's last one, also on a Monday


def test_a_time_may_have_a_day_which_goes_before_one_of_every_day() -> None:
    table = "Sat-08:00,off 08:00,1M 19:00,2M"
    assert at(table, "2026-11-27 08:00") == KiB * KiB  # a Friday
    assert at(table, "2026-11-28 08:00") is None
    assert at(table, "2026-11-28 19:00") == 2 * KiB * KiB


@pytest.mark.parametrize(
    "text",
    ["", "fast", "8,1M", "24:00,1M", "08:60,1M", "08:00", "08:00,1M 9", "Foo-08:00,1M", "1", "-1M", "1X"],
)
def test_what_is_no_rate_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="rate") as caught:
        Timetable.parse(text)
    assert "\n" not in str(caught.value)
