"""Pins: what they keep, how they are shown, and what a mount does for them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import PROGRAM, mirror
from tests.support.data import MiB, noise, put
from tests.support.mounts import mounted
from tests.support.servers import Server, apache
from tests.support.waiting import eventually


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def pins(cache: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(mirror("pins", "--json", "--cache", cache).ok().out)
    return found


def test_what_is_pinned_is_kept(folder: Path, origin: Server, cache: Path) -> None:
    """Whatever else is fetched; until they are unpinned."""
    for number in range(4):
        put(folder, f"keep/{number}.bin", noise(f"keep{number}", MiB))
        put(folder, f"other/{number}.bin", noise(f"other{number}", MiB))
    said = mirror("pin", origin.url, "keep", "--cache", cache).ok().out
    assert said.startswith("4 files, 4.00 MiB: 4 files fetched")
    (pin,) = pins(cache)
    assert (pin["source"], pin["pattern"], pin["files"]) == (origin.url, "keep", 4)
    assert (pin["bytes"], pin["cached_files"], pin["cached_bytes"]) == (4 * MiB, 4, 4 * MiB)
    mirror("warm", origin.url, "other/0.bin", "--cache", cache, "--cache-size", "6M").ok()
    mirror("warm", origin.url, "other/1.bin", "--cache", cache).ok()
    assert pins(cache)[0]["cached_files"] == 4
    mirror("unpin", origin.url, "keep", "--cache", cache).ok()
    assert pins(cache) == []
    mirror("warm", origin.url, "other", "--cache", cache).ok()
    listed = mirror("ls", "-R1", "--cached", "--offline", origin.url, "keep", "--cache", cache).ok()
    assert len(listed.out.splitlines()) < 4


def test_pins_that_do_not_fit_are_refused_and_change_nothing(
    folder: Path, origin: Server, cache: Path
) -> None:
    """Everything that is pinned counts, with this."""
    put(folder, "a", noise("a", 3 * MiB))
    put(folder, "b", noise("b", 3 * MiB))
    mirror("warm", origin.url, "a", "--cache", cache, "--cache-size", "5M").ok()
    mirror("pin", origin.url, "a", "--cache", cache).ok()
    outcome = mirror("pin", origin.url, "b", "--cache", cache)
    assert outcome.code == 1
    (line,) = outcome.lines
    assert f"the cache may hold {5 * MiB:,}" in line
    assert "are pinned otherwise" in line
    assert [pin["pattern"] for pin in pins(cache)] == ["a"]
    origin.forget()
    assert json.loads(mirror("pin", origin.url, "**", "--cache", cache, "--json").out)["refused"]
    assert not [r for r in origin.requests() if r.uri == "/b"]


def test_pins_may_be_recorded_without_a_fetch(folder: Path, origin: Server, cache: Path) -> None:
    put(folder, "a", noise("a", MiB))
    said = mirror("pin", "--no-fetch", origin.url, "a", "later/*", "--cache", cache).ok().out
    assert said == "pinned, not fetched: 1 file, 1.00 MiB\n"
    assert [(pin["pattern"], pin["files"], pin["cached_files"]) for pin in pins(cache)] == [
        ("a", 1, 0),
        ("later/*", 0, 0),
    ]
    outcome = mirror("pin", origin.url, "nothing", "--cache", cache).ok()
    assert "nothing matches yet" in outcome.err


def test_sizes_that_the_listing_does_not_give_are_asked_for(folder: Path, cache: Path) -> None:
    """Else it could not be said whether a pin fits."""
    for number in range(20):
        put(folder, f"{number}.bin", noise(str(number), 100_000 + number))
    with apache(folder) as origin:
        mirror("warm", origin.url, "0.bin", "--cache", cache, "--cache-size", "1M").ok()
        outcome = mirror("pin", origin.url, "**", "--cache", cache)
        assert outcome.code == 1
        assert f"the cache may hold {MiB:,}" in outcome.err
        assert pins(cache) == []
        mirror("pin", "--no-fetch", origin.url, "[1-5].bin", "--cache", cache).ok()
        (pin,) = pins(cache)
        assert (pin["files"], pin["bytes"], pin["unknown_sizes"]) == (5, 500_015, 0)


def test_a_pin_that_is_stopped_stays_and_goes_on(folder: Path, slow_origin: Server, cache: Path) -> None:
    """Ctrl-C ends it with exit code 130, and says that the pins are kept."""
    size = 24 * MiB
    put(folder, "large.bin", noise("large", size))
    argv = [str(PROGRAM), "pin", slow_origin.url, "large.bin", "--cache", str(cache)]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    try:
        eventually(
            lambda: cache.exists() and any(path.stat().st_blocks for path in cache.glob("objects/*/*.part")),
            "a part of it is there",
        )
    finally:
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "mirror: stopped; the pins are kept, run the same again to go on"
    assert [pin["pattern"] for pin in pins(cache)] == ["large.bin"]
    mirror("pin", slow_origin.url, "large.bin", "--cache", cache).ok()
    assert pins(cache)[0]["cached_bytes"] == size


def test_without_the_origin_what_was_listed_is_pinned(folder: Path, origin: Server, cache: Path) -> None:
    """With a warning; what is missing is an error, once the pin is recorded."""
    put(folder, "here", noise("here", 1000))
    put(folder, "missing", noise("missing", 1000))
    mirror("warm", origin.url, "here", "--cache", cache).ok()
    origin.stop()
    outcome = mirror("pin", origin.url, "here", "--cache", cache, "--deadline", "2").ok()
    assert "warning: the origin does not answer" in outcome.err
    outcome = mirror("pin", origin.url, "missing", "--cache", cache, "--deadline", "2")
    assert outcome.code == 1
    assert "missing: " in outcome.err
    assert [(pin["pattern"], pin["cached_files"]) for pin in pins(cache)] == [("here", 1), ("missing", 0)]


def test_a_mount_fetches_what_is_new_and_pinned(folder: Path, origin: Server, cache: Path) -> None:
    """Files that appear or change, also in folders that appear, once the mount notices them."""
    put(folder, "kept/1.bin", noise("1", 1000))
    put(folder, "other/1.bin", noise("1", 1000))
    mirror("pin", origin.url, "kept", "--cache", cache).ok()
    with mounted(origin.url, cache=cache, args=["--ttl", "1"]) as mount:
        assert [path.name for path in (mount.path / "kept").iterdir()] == ["1.bin"]
        list((mount.path / "other").iterdir())
        put(folder, "kept/1.bin", noise("another", 2000))
        put(folder, "kept/2.bin", noise("2", 3000))
        put(folder, "kept/new/3.bin", noise("3", 4000))
        put(folder, "other/2.bin", noise("2", 5000))
        eventually(
            lambda: (pins(cache)[0]["cached_files"], pins(cache)[0]["cached_bytes"]) == (3, 9000),
            "what is new is fetched",
        )
        origin.stop()
        assert (mount.path / "kept/new/3.bin").read_bytes() == noise("3", 4000)


def test_unpinning_says_what_was_not_pinned(folder: Path, origin: Server, cache: Path) -> None:
    put(folder, "a", noise("a", 1000))
    mirror("pin", origin.url, "a", "b", "c", "--cache", cache).ok()
    outcome = mirror("unpin", origin.url, "a", "x", "--cache", cache)
    assert outcome.code == 1
    assert outcome.out.startswith("1 pin taken back")
    assert outcome.lines == ["mirror: not pinned: x: 'mirror pins' shows what is"]
    mirror("unpin", "--all", "--cache", cache).ok()
    assert mirror("pins", "--cache", cache).ok().out == "nothing is pinned\n"
    assert mirror("unpin", "--all", "--cache", cache).lines == ["mirror: nothing is pinned"]
