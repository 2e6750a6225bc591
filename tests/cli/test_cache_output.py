"""What the commands on a cache print, from values alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cache.collect import Collected
from cache.limits import Amount, Limits, Room
from cache.pins import Pin
from cache.survey import SourceTotals, Tally
from cache.sweep import Swept
from mirror.clearing import Cleared
from mirror.cli import du, evict, gc, ls, pins

MIB = 1 << 20
ROOM = Room(occupied=MIB, claimed=0, capacity=10 * MIB, left=9 * MIB, disk_is_short=False)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0, "0%"), (0.01, "<1%"), (1, "1%"), (99.99, "99%"), (100, "100%")]
)
def test_a_file_is_at_100_percent_only_when_all_of_it_is_there(value: float | None, text: str) -> None:
    assert ls.percent(value) == text


def test_du_has_a_total_where_there_are_several_sources() -> None:
    sources = [SourceTotals("http://a/", 1, 2, MIB, 3, MIB, 0), SourceTotals("http://b/", 10, 0, MIB)]
    usage = du.Usage(Path("/c"), sources, Limits(), ROOM, 4096)
    lines = du.lines(usage)
    assert [line.split()[0] for line in lines[:4]] == ["SOURCE", "http://a/", "http://b/", "total"]
    assert lines[3].split()[1:3] == ["11", "2"]
    assert "3 (1.00 MiB)" in lines[1]
    assert any(line.startswith("cache size") and "none" in line for line in lines)
    assert any(line.startswith("stays free") and "5% (the default)" in line for line in lines)


def test_du_says_when_there_is_no_room() -> None:
    room = Room(occupied=MIB, claimed=MIB, capacity=MIB, left=-MIB, disk_is_short=True)
    limits = Limits(Amount(percent=20), Amount(bytes=MIB))
    text = "\n".join(du.lines(du.Usage(Path("/c"), [], limits, room, 4096)))
    assert "none: over by 1.00 MiB, as the file system has no more" in text
    assert "1.00 MiB claimed by what is being fetched" in text
    assert "20% (so it may hold 1.00 MiB)" in text


def test_evict_says_what_stayed_and_why() -> None:
    cleared = Cleared(removed=2, freed=MIB, in_use=1, in_use_bytes=MIB, filled=1, pinned=3, pinned_bytes=MIB)
    assert evict.lines(cleared, dry_run=False) == [
        "2 objects removed, 1.00 MiB freed",
        "1 object stayed (1.00 MiB): in use",
        "1 object stayed (0 B): being fetched",
        "3 objects stayed (1.00 MiB): pinned (--pinned removes them too)",
    ]
    assert evict.lines(Cleared(removed=1), dry_run=True) == ["1 object would be removed, 0 B would be freed"]


def test_gc_says_only_what_there_was() -> None:
    assert gc.lines(Collected(), 0, 0, dry_run=False) == ["nothing to remove"]
    got = Collected(
        superseded=1, superseded_bytes=MIB, in_use=2, files=Swept(1, 3, MIB), nodes=None, ghosts=1
    )
    assert gc.lines(got, 1, 4096, dry_run=False) == [
        "1 object of superseded versions removed (1.00 MiB)",
        "3 files that the index did not know removed (1.00 MiB)",
        "1 old log removed (4.00 KiB)",
        "1 stale note removed",
        "1 object that the index had lost taken over",
        "2 objects of superseded versions stay: in use",
        "names of versions long past stay while a mount uses the cache",
        "2.00 MiB freed",
    ]
    assert "another process" in gc.lines(Collected(files=None), 0, 0, dry_run=True)[0]


def test_pins_say_where_there_may_be_more() -> None:
    pin = Pin("http://a/", "x/**", 0.0)
    sure = pins.lines([pins.Shown(pin, Tally(files=2, bytes=MIB, cached_files=1))])
    assert len(sure) == 2
    assert sure[1].split()[:5] == ["x/**", "2", "1.00", "MiB", "1"]
    unsure = pins.lines([pins.Shown(pin, Tally(files=2, unlisted=1))])
    assert unsure[1].split()[1] == "2+"
    assert unsure[2].startswith("+: ")
