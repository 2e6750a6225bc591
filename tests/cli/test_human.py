"""Numbers for people have three digits and a unit."""

from __future__ import annotations

import pytest

from mirror.cli import human


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1024, "1.00 KiB"),
        (24_000_000, "22.9 MiB"),
        (5 << 30, "5.00 GiB"),
        (1 << 60, "1048576 TiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert human.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (725, "12 min 5 s"), (12_000, "3 h 20 min")],
)
def test_time(seconds: float, text: str) -> None:
    assert human.time(seconds) == text


def test_rate_of_no_time_is_no_number() -> None:
    assert human.rate(100, 0) == "-"
    assert human.rate(3_000_000_000, 2) == "1,500 MB/s"


def test_count() -> None:
    assert (human.count(1, "file"), human.count(4000, "file")) == ("1 file", "4,000 files")


def test_a_name_never_reaches_a_terminal_as_a_command() -> None:
    assert human.name("été 1.bin") == "été 1.bin"
    assert human.name("two\nlines\x1b[2J") == r"two\nlines\x1b[2J"


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert human.table([("NAME", "SIZE"), ("a", "1,000"), ("longer", "")]) == [
        "NAME     SIZE",
        "a       1,000",
        "longer",
    ]
