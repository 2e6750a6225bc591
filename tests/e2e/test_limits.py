"""Limits of a cache: set by any command that fills it, kept in it, and kept to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Outcome, mirror
from tests.support.data import MiB, digest, noise, put
from tests.support.mounts import mounted, prepared
from tests.support.servers import Server
from tests.support.waiting import eventually


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def usage(cache: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mirror("du", "--json", "--cache", cache).ok().out)
    return found


def refused(outcome: Outcome) -> str:
    """The one line of a command that failed."""
    assert outcome.code == 1, str(outcome)
    assert outcome.out == ""
    (line,) = outcome.lines
    return line


def test_limits_are_kept_until_others_are_given(folder: Path, origin: Server, cache: Path) -> None:
    """They belong to the cache: every command goes by them, whoever set them."""
    put(folder, "a", noise("a", 1000))
    warm = ["warm", origin.url, "--cache", cache]
    mirror(*warm).ok()
    assert usage(cache)["limits"] == {"cache_size": None, "min_free": None}
    mirror(*warm, "--cache-size", "64M", "--min-free", "1%").ok()
    mirror(*warm).ok()
    assert usage(cache)["limits"] == {"cache_size": str(64 * MiB), "min_free": "1%"}
    with mounted(origin.url, cache=cache, args=["-o", "cache_size=50%"]):
        assert usage(cache)["limits"] == {"cache_size": "50%", "min_free": "1%"}
    with mounted(origin.url, cache=cache, args=["--min-free", "8M"]):
        pass
    mirror(*warm, "--cache-size", "none").ok()
    assert usage(cache)["limits"] == {"cache_size": None, "min_free": str(8 * MiB)}


def test_the_cache_keeps_to_its_limits(folder: Path, origin: Server, cache: Path) -> None:
    """What is read beyond it evicts what was read before, and every byte is right."""
    paths = [put(folder, f"{number}.bin", noise(str(number), MiB)) for number in range(12)]
    with mounted(origin.url, cache=cache, args=["--cache-size", "6M", "-o", "no_passthrough"]) as mount:
        for path in paths:
            assert digest(mount.path / path.name) == digest(path)
    room = usage(cache)["room"]
    assert MiB < room["occupied"] <= 6 * MiB


@pytest.mark.parametrize("options", [[], ["-o", "no_passthrough"]], ids=["passthrough", "page cache"])
def test_a_file_that_is_open_is_never_evicted(
    folder: Path, origin: Server, cache: Path, options: list[str]
) -> None:
    """Whatever is read meanwhile, by this mount or by another process; closed, it goes as any other."""
    paths = [put(folder, f"{number:02}.bin", noise(str(number), MiB)) for number in range(12)]
    with mounted(origin.url, cache=cache, args=["--cache-size", "6M", *options]) as mount:
        others = [path.name for path in paths[1:]]
        with (mount.path / "00.bin").open("rb", buffering=0) as kept:
            for name in others:
                assert digest(mount.path / name) == digest(folder / name)
            mirror("warm", "-q", "--cache", cache, origin.url, "0[1-4].bin").ok()
            origin.stop()
            assert kept.read(MiB) == paths[0].read_bytes(), "it is here, without the origin"
            origin.start()
        for _ in range(3):
            for name in others:
                digest(mount.path / name)
        row = json.loads(mirror("ls", "--json", "--offline", "--cache", cache, origin.url).ok().out)[0]
        assert (row["path"], row["complete"]) == ("00.bin", False)


def test_a_lowered_limit_is_kept_to_at_once(folder: Path, origin: Server, cache: Path) -> None:
    """A mount evicts in the background, and warming before it fetches."""
    for number in range(12):
        put(folder, f"{number}.bin", noise(str(number), MiB))
    mirror("warm", origin.url, "--cache", cache).ok()
    assert usage(cache)["room"]["occupied"] > 12 * MiB
    with mounted(origin.url, cache=cache, args=["--cache-size", "8M"]):
        eventually(lambda: usage(cache)["room"]["left"] >= 0, "what is over the limit is evicted")
    mirror("warm", origin.url, "0.bin", "--cache", cache, "--cache-size", "3M").ok()
    assert usage(cache)["room"]["occupied"] <= 3 * MiB


def test_a_limit_below_what_is_pinned_is_refused(folder: Path, origin: Server, cache: Path) -> None:
    """With the numbers, and nothing is changed or mounted."""
    put(folder, "a", noise("a", 4 * MiB))
    mirror("pin", origin.url, "a", "--cache", cache).ok()
    line = refused(mirror("warm", origin.url, "--cache", cache, "--cache-size", "1M"))
    assert "what is pinned takes 4,204," in line
    assert f"only {MiB:,}" in line
    with prepared(origin.url, cache=cache, args=["--cache-size", "1M"]) as mount:
        assert "what is pinned takes" in refused(mount.mount())
        assert not mount.mounted
    assert usage(cache)["limits"]["cache_size"] is None
    assert usage(cache)["total"]["complete"] == 1


def test_warming_more_than_fits_is_refused_early(folder: Path, origin: Server, cache: Path) -> None:
    """As soon as the listing shows it: nothing is fetched to be evicted again. JSON says so too."""
    for number in range(8):
        put(folder, f"{number}.bin", noise(str(number), MiB))
    warm = ["warm", origin.url, "--cache", cache]
    line = refused(mirror(*warm, "--cache-size", "4M"))
    assert f"the cache may hold {4 * MiB:,}" in line
    assert "--cache-size" in line
    document = json.loads(mirror(*warm, "--json").out)
    assert document["ok"] is False
    assert document["refused"] in line
    mirror(*warm, "[0-2].bin").ok()
    kept = {path: path.stat().st_mtime_ns for path in (cache / "objects").rglob("*") if path.is_file()}
    refused(mirror(*warm))
    assert kept.items() <= {path: path.stat().st_mtime_ns for path in kept if path.exists()}.items()


def test_a_warming_run_evicts_others_not_itself(folder: Path, origin: Server, cache: Path) -> None:
    """At its end all that it was asked for is there, although other files were there before."""
    for number in range(8):
        put(folder, f"old/{number}.bin", noise(f"old{number}", MiB))
        put(folder, f"new/{number}.bin", noise(f"new{number}", MiB))
    mirror("warm", origin.url, "old", "--cache", cache, "--cache-size", "9M").ok()
    mirror("warm", origin.url, "new", "--cache", cache).ok()
    (root,) = usage(cache)["sources"]
    assert root["occupied"] <= 9 * MiB
    again = json.loads(mirror("warm", origin.url, "new", "--cache", cache, "--json").ok().out)
    assert again["files_fetched"] == 0


def test_pinned_files_count_against_what_is_warmed(folder: Path, origin: Server, cache: Path) -> None:
    put(folder, "pinned.bin", noise("pinned", 4 * MiB))
    put(folder, "other.bin", noise("other", 4 * MiB))
    mirror("pin", origin.url, "pinned.bin", "--cache", cache).ok()
    line = refused(mirror("warm", origin.url, "other.bin", "--cache", cache, "--cache-size", "6M"))
    assert "are pinned otherwise" in line
    mirror("warm", origin.url, "pinned.bin", "--cache", cache).ok()
