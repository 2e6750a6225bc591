"""`mirror index`: the real command against servers, killed in the middle, and what a mount makes of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.bucket import Bucket, Numbered, bucket
from tests.support.bucket_remote import PEAK
from tests.support.clouds import ByBeginning
from tests.support.command import mirror
from tests.support.crowd import Crowd, autoindex
from tests.support.data import MiB, noise, put
from tests.support.failures import errno_of
from tests.support.hostile import hostile
from tests.support.mounts import mounted
from tests.support.servers import Server
from tests.support.waiting import eventually

TTL = ["--ttl", "1"]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def tree(folder: Path) -> Path:
    """An origin with folders in folders."""
    for name in ("a/1.bin", "a/deep/er/2.bin", "a/deep/3.bin", "b/4.bin", "top.bin"):
        put(folder, name, noise(name, 10_000))
    return folder


def index(source: str, cache: Path, *args: str) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(mirror("index", "--json", source, "--cache", cache, *args).ok().out)
    return summary


def names(root: Path) -> list[str]:
    """Every file below a folder, by its path."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def scanning(server: Bucket, *args: str | Path) -> list[str]:
    """The command line of `mirror index` over a bucket, which is read by pages."""
    source = server.url.replace("http:", "bucket:")
    return [sys.executable, "-m", "tests.support.bucket_remote", "index", source, *map(str, args)]


def scanned(server: Bucket, *args: str | Path) -> dict[str, Any]:
    done = subprocess.run(scanning(server, "--json", *args), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def listed(server: Bucket, cache: Path) -> Sequence[str]:
    """All files, from the index alone."""
    source = server.url.replace("http:", "bucket:")
    argv = [sys.executable, "-m", "tests.support.bucket_remote", "ls", "-R1", "--offline", source]
    done = subprocess.run([*argv, "--cache", str(cache)], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if not line.endswith("/")]


# -- folder by folder ------------------------------------------------------------------------


def test_an_indexed_source_lists_without_its_origin(tree: Path, origin: Server, cache: Path) -> None:
    """Every folder, after a restart, through `mirror ls --offline` and through a mount."""
    said = index(origin.url, cache)
    assert said == said | {
        "ok": True,
        "files_known": 5,
        "folders_known": 5,
        "files": 5,
        "folders": 5,
        "resumed": False,
        "failed": 0,
        "failures": [],
    }
    origin.stop()
    offline = mirror("ls", "-R1", "--offline", origin.url, "--cache", cache).ok().out.split()
    assert [name for name in offline if not name.endswith("/")] == [
        "top.bin",
        "a/1.bin",
        "a/deep/3.bin",
        "a/deep/er/2.bin",
        "b/4.bin",
    ]
    for _ in range(2):
        with mounted(origin.url, cache=cache) as mount:
            assert names(mount.path) == names(tree)
            assert (mount.path / "a/deep/er/2.bin").stat().st_size == 10_000
            assert errno_of((mount.path / "a/none").stat) == "ENOENT"


@pytest.mark.parametrize(
    ("options", "most"), [(["--max-connections", "2"], 2), (["--jobs", "20"], 20), (["--bwlimit", "off"], 16)]
)
def test_no_more_connections_than_may_be(options: list[str], most: int, cache: Path) -> None:
    """As many as there are jobs, or fewer where that is said; neither for `refresh`."""
    folders = "".join(
        f'<a href="{number}/">{number}/</a>{" " * 40}29-Nov-2026 07:00{" " * 19}-\n' for number in range(40)
    )
    crowd = Crowd(0.1, lambda seen: autoindex(seen.path, folders if seen.path == "/" else ""))
    with hostile(ByBeginning({"/": crowd})) as server:
        for command in ("index", "refresh"):
            crowd.highest = 0
            mirror(command, server.url, "--cache", cache, *options).ok()
            assert crowd.highest == most, command


def test_an_indexed_folder_is_not_asked_for_within_the_ttl(tree: Path, origin: Server, cache: Path) -> None:
    index(origin.url, cache)
    origin.forget()
    with mounted(origin.url, cache=cache, args=["--ttl", "1h"]) as mount:
        assert names(mount.path) == names(tree)
        asked = {request.uri for request in origin.requests()}
    assert asked == {"/"}, "only the root, when it is mounted"


def test_a_second_run_sees_what_changed(tree: Path, origin: Server, cache: Path) -> None:
    assert index(origin.url, cache)["added"] == 0
    put(tree, "a/new.bin", b"new")
    put(tree, "a/1.bin", b"another")
    shutil.rmtree(tree / "b")
    said = index(origin.url, cache)
    assert (said["added"], said["changed"], said["removed"]) == (1, 1, 1)
    human = mirror("index", origin.url, "--cache", cache).ok().out
    assert human.startswith("5 files in 4 folders: ")
    assert index(origin.url, cache, "a/deep")["files_known"] == 2
    outcome = mirror("index", origin.url, "nothing", "--cache", cache)
    assert (outcome.code, "there is no nothing in" in outcome.lines[0]) == (1, True)
    outcome = mirror("index", origin.url, "top.bin", "--cache", cache)
    assert (outcome.code, "is a file, not a folder" in outcome.lines[0]) == (1, True)
    origin.stop()
    outcome = mirror("index", origin.url, "--cache", cache, "--deadline", "1")
    assert (outcome.code, "refused" in outcome.err) == (1, True)


@pytest.mark.parametrize("indexed", [True, False])
def test_a_change_reaches_an_open_mount_within_its_ttl(
    indexed: bool, tree: Path, origin: Server, cache: Path
) -> None:
    """Also in folders that were never opened since they were indexed; open handles keep their version."""
    if indexed:
        index(origin.url, cache)
    with mounted(origin.url, cache=cache, args=TTL) as mount:
        assert names(mount.path / "a") == names(tree / "a")
        fd = mount.open_passthrough("a/1.bin")
        try:
            put(tree, "a/1.bin", noise("other", 20_000))
            put(tree, "a/deep/new.bin", b"new")
            put(tree, "b/new.bin", b"new")
            (tree / "b/4.bin").unlink()
            # Nobody has looked into b through this mount; the others are listed again in the background.
            eventually(lambda: names(mount.path / "b") == ["new.bin"], "b is listed again")
            eventually((mount.path / "a/deep/new.bin").exists, "a new name shows")
            eventually(lambda: (mount.path / "a/1.bin").stat().st_size == 20_000, "the other version shows")
            assert errno_of((mount.path / "b/4.bin").stat) == "ENOENT"
            assert os.pread(fd, 20_000, 0) == noise("a/1.bin", 10_000)
            assert (mount.path / "a/1.bin").read_bytes() == noise("other", 20_000)
            (tree / "a/1.bin").unlink()
            eventually(lambda: not (mount.path / "a/1.bin").exists(), "what is gone shows")
            assert os.pread(fd, 20_000, 0) == noise("a/1.bin", 10_000)
        finally:
            os.close(fd)


# -- by pages --------------------------------------------------------------------------------


def test_a_bucket_is_read_by_pages(cache: Path) -> None:
    """About as many requests as it has pages, however the keys are spread over folders."""
    keys = Numbered(folders=100, files=100)
    with bucket(keys) as server:
        said = scanned(server, "--cache", cache)
        assert (said["files_known"], said["folders_known"], said["requests"]) == (10_000, 101, 101)
        gone = [keys[0], *(keys[number] for number in range(500, 600))]
        server.edit(remove=gone, add=["new/1", "part-0007/new"])
        again = scanned(server, "--cache", cache)
        assert (again["files_known"], again["removed"], again["added"]) == (9_901, 2, 2)
        server.stop()
        assert sorted(listed(server, cache)) == sorted({*keys, "new/1", "part-0007/new"} - set(gone))


def ended_before_it_was_killed(server: Bucket, cache: Path) -> bool:
    """Index for some pages, then kill; whether it was over before that."""
    before = server.lists()
    run = subprocess.Popen(scanning(server, "--jobs", "4", "--quiet", "--cache", cache))
    try:
        eventually(lambda: run.poll() is not None or server.lists() >= before + 35, "it is under way")
        assert run.poll() in (None, 0)
        return run.poll() == 0
    finally:
        run.kill()
        run.wait()


def test_a_run_that_is_killed_goes_on_where_it_was(cache: Path) -> None:
    """Again and again, at any moment: in the end all is there, and little was asked for twice."""
    keys = Numbered(folders=40, files=2_500)
    with bucket(keys) as server:
        server.edit(delay=0.02)
        kills = 0
        while not ended_before_it_was_killed(server, cache):
            kills += 1
            assert kills < 50, "it gets nowhere"
        assert kills >= 2
        # Each kill costs the pages under way; the root's pages are asked for until they are in.
        assert server.lists() <= 40 * 3 + 2 + kills * 16
        server.stop()
        assert sorted(listed(server, cache)) == sorted(keys)


@pytest.mark.parametrize(("options", "how"), [([], "the same"), (["--anew"], "without --anew")])
def test_a_run_that_is_stopped_says_so(options: list[str], how: str, cache: Path) -> None:
    """By Ctrl-C or SIGTERM; no folder counts as listed that was not read to its end."""
    with bucket(Numbered(folders=4, files=20_000)) as server:
        server.edit(delay=0.05)
        run = subprocess.Popen(
            scanning(server, *options, "--jobs", "1", "--cache", cache), stderr=subprocess.PIPE, text=True
        )
        eventually(lambda: server.lists() >= 10, "it is under way")
        run.send_signal(signal.SIGTERM)
        _, err = run.communicate(timeout=60)
        assert run.returncode == 143
        assert f"mirror: stopped; what was listed is kept, run {how} again to go on" in err
        source = server.url.replace("http:", "bucket:")
        argv = [sys.executable, "-m", "tests.support.bucket_remote", "ls", "--offline", source, "part-0003"]
        done = subprocess.run(
            [*argv, "--cache", str(cache)], capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode, "was never listed" in done.stderr) == (1, True)
        server.edit(delay=0, failures=3)
        said = scanned(server, "--cache", cache)
        assert (said["resumed"], said["files_known"]) == (True, 80_000)


def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    """Whether it has ten thousand files or ten times as many; in one folder or in several."""

    def peak(keys: Numbered) -> int:
        with bucket(keys) as server:
            home = tmp_path / f"{keys.folders}-{keys.files}"
            told = tmp_path / "peak"
            argv = scanning(server, "--quiet", "--cache", home)
            subprocess.run(argv, env={**os.environ, PEAK: str(told)}, check=True)
            return int(told.read_text())

    few = peak(Numbered(folders=5, files=2_000))
    assert peak(Numbered(folders=5, files=20_000)) - few < 32 * MiB
    assert peak(Numbered(folders=1, files=100_000)) - few < 32 * MiB
