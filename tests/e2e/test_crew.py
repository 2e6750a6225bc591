"""`mirror warm --processes`: several processes share one run, and none of them can spoil it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.clouds import ByBeginning
from tests.support.command import PROGRAM, mirror
from tests.support.crowd import Crowd, autoindex
from tests.support.data import KiB, MiB, noise, put, same_bytes
from tests.support.hostile import Seen, Wire, hostile
from tests.support.mounts import mounted
from tests.support.servers import Server, apache, nginx
from tests.support.waiting import eventually

FILES = 600


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def fill(folder: Path, count: int, size: int) -> list[str]:
    paths = [f"{number % 7}/{number:04d}.bin" for number in range(count)]
    for path in paths:
        put(folder, path, noise(path, size))
    return paths


@contextmanager
def warming(url: str, cache: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A run in a process group of its own, as a shell starts one."""
    argv = [str(PROGRAM), "warm", "--json", "--cache", str(cache), *options, url]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def helpers(process: subprocess.Popen[str]) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def at_work(process: subprocess.Popen[str], cache: Path, count: int) -> list[int]:
    """Wait until so many helpers have the cache open."""

    def look() -> list[int]:
        found = [pid for pid in helpers(process) if has_open(pid, cache)]
        return found if len(found) == count else []

    return eventually(look, f"{count} processes help")


def has_open(pid: int, cache: Path) -> bool:
    """Whether a process has files of the cache open."""
    try:
        return any(str(fd.readlink()).startswith(str(cache)) for fd in Path(f"/proc/{pid}/fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return False


def ended(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def requested(server: Server) -> Counter[str]:
    return Counter(request.uri for request in server.requests() if not request.uri.endswith("/"))


@pytest.mark.parametrize("start", [nginx, apache])
def test_each_file_comes_once(start: Callable[[Path], Server], folder: Path, cache: Path) -> None:
    """Also where the listing has no sizes, and each is asked for; a second run fetches nothing."""
    paths = fill(folder, FILES, 4 * KiB)
    with start(folder) as server:
        summary = json.loads(
            mirror("warm", "--json", "--processes", "3", server.url, "--cache", cache).ok().out
        )
        assert summary["ok"] is True
        assert summary["files_fetched"] == summary["files_done"] == FILES
        assert summary["bytes_fetched"] == summary["bytes_total"] == FILES * 4 * KiB
        gets = Counter(request.uri for request in server.requests() if request.method == "GET")
        assert {uri: count for uri, count in gets.items() if not uri.endswith("/")} == dict.fromkeys(
            (f"/{path}" for path in paths), 1
        )
        again = mirror("warm", "--processes", "3", server.url, "--cache", cache).ok().out
        assert "all there already" in again
        with mounted(server.url, cache=cache) as mount:
            assert all(same_bytes(mount.path / path, folder / path) for path in paths)


def test_what_a_killed_helper_had_fetched_is_not_lost(folder: Path, origin: Server, cache: Path) -> None:
    """What it had completed a moment before was not safe yet; at the end of the run all of it is."""
    paths = fill(folder, 3000, KiB)
    with warming(origin.url, cache, "--processes", "3") as process:
        pids = at_work(process, cache, 2)
        eventually(lambda: len(list(cache.glob("objects/*/*"))) > 300, "they have fetched some")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        out, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert said.count("a process that helped has ended") == 2
    summary = json.loads(out)
    assert (summary["files_done"], summary["files_total"]) == (len(paths), len(paths))
    assert summary["files_fetched"] <= len(paths)
    origin.stop()
    with mounted(origin.url, cache=cache) as mount:
        assert all(same_bytes(mount.path / path, folder / path) for path in paths)


def test_helpers_that_are_killed_are_done_without(folder: Path, slow_origin: Server, cache: Path) -> None:
    """What they had begun is taken over where its bytes end."""
    paths = fill(folder, 16, 4 * MiB)
    with warming(slow_origin.url, cache, "--processes", "3", "--jobs", "4") as process:
        for pid in at_work(process, cache, 2):
            os.kill(pid, signal.SIGKILL)
        out, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    summary = json.loads(out)
    assert (summary["ok"], summary["files_done"]) == (True, len(paths))
    assert said.count("a process that helped has ended") == 2
    with mounted(slow_origin.url, cache=cache) as mount:
        assert all(same_bytes(mount.path / path, folder / path) for path in paths)


def test_ctrl_c_leaves_no_process_and_nothing_broken(folder: Path, slow_origin: Server, cache: Path) -> None:
    paths = fill(folder, 16, 4 * MiB)
    with warming(slow_origin.url, cache, "--processes", "3", "--jobs", "4") as process:
        pids = at_work(process, cache, 2)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert said == "mirror: stopped; what was fetched is kept, run the same again to go on\n"
        assert ended(pids)
    summary = json.loads(mirror("warm", "--json", slow_origin.url, "--cache", cache).ok().out)
    assert summary["files_done"] == len(paths)
    assert mirror("verify", slow_origin.url, "--cache", cache).code == 0


def test_helpers_end_with_the_process_that_called_them(
    folder: Path, slow_origin: Server, cache: Path
) -> None:
    """Killed, it leaves nothing: the next run has every lease."""
    paths = fill(folder, 16, 4 * MiB)
    with warming(slow_origin.url, cache, "--processes", "3", "--jobs", "4") as process:
        pids = at_work(process, cache, 2)
        process.kill()
        eventually(lambda: ended(pids), "its helpers end")
    summary = json.loads(
        mirror("warm", "--json", "--processes", "2", slow_origin.url, "--cache", cache).ok().out
    )
    assert summary["files_done"] == len(paths)


def test_a_run_gives_up_whoever_finds_the_origin_gone(folder: Path, slow_origin: Server, cache: Path) -> None:
    fill(folder, 16, 4 * MiB)
    options = ("--processes", "3", "--jobs", "4", "--deadline", "1")
    with warming(slow_origin.url, cache, *options) as process:
        pids = at_work(process, cache, 2)
        slow_origin.stop()
        out, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert out == ""
        assert "gave up after 10 files in a row" in said.splitlines()[-1]
        assert ended(pids)


def test_what_the_cache_may_not_hold_is_refused(folder: Path, origin: Server, cache: Path) -> None:
    fill(folder, 60, MiB)
    done = mirror("warm", "--processes", "3", "--cache-size", "20M", origin.url, "--cache", cache)
    assert done.code == 1
    assert "the cache may hold" in done.err


@pytest.mark.parametrize("size", ["1000", "-"], ids=["sizes listed", "sizes asked for"])
def test_all_together_keep_to_the_connections(cache: Path, size: str) -> None:
    """Requests at the same time, listings among them, are never more than `--max-connections`."""
    rows = "".join(
        f'<a href="{n}.bin">{n}.bin</a>{" " * 40}29-Nov-2026 07:00{size:>19}\n' for n in range(200)
    )

    def answer(seen: Seen) -> tuple[str, bytes]:
        return autoindex("/", rows) if seen.path == "/" else ("application/octet-stream", b"x" * 1000)

    crowd = Crowd(0.02, answer)
    with hostile(ByBeginning({"/": crowd})) as server:
        options = ("--processes", "3", "--jobs", "64", "--max-connections", "7")
        summary = json.loads(mirror("warm", "--json", server.url, "--cache", cache, *options).ok().out)
    assert summary["files_done"] == 200
    assert 4 <= crowd.highest <= 7


def test_a_file_that_cannot_be_had_is_said_once(cache: Path) -> None:
    """Whoever of them tried it: the others do not try for as long again."""
    rows = "".join(
        f'<a href="{n}.bin">{n}.bin</a>{" " * 40}29-Nov-2026 07:00{1000:>19}\n' for n in range(100)
    )
    asked: Counter[str] = Counter()

    def answer(seen: Seen) -> tuple[str, bytes]:
        return autoindex("/", rows) if seen.path == "/" else ("application/octet-stream", b"x" * 1000)

    def refuse(seen: Seen, wire: Wire) -> None:
        asked[seen.path] += 1
        wire.head(403, {"Content-Length": 0})

    bad = {f"/{n}.bin": refuse for n in (7, 50, 99)}
    with hostile(ByBeginning({"/": Crowd(0.01, answer)} | bad)) as server:
        done = mirror("warm", "--json", "--processes", "3", server.url, "--cache", cache)
    summary = json.loads(done.out)
    assert done.code == 1
    assert (summary["ok"], summary["files_done"], summary["failed"]) == (False, 97, 3)
    assert sorted(failure["path"] for failure in summary["failures"]) == ["50.bin", "7.bin", "99.bin"]
    assert set(asked) == set(bad)


def test_pinned_files_are_fetched_together_as_well(folder: Path, origin: Server, cache: Path) -> None:
    paths = fill(folder, FILES, 4 * KiB)
    mirror("pin", "--processes", "3", origin.url, "**", "--cache", cache).ok()
    assert requested(origin) == {f"/{path}": 1 for path in paths}
