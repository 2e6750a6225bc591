"""Several processes that warm one source into one cache share the work."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.command import PROGRAM, mirror
from tests.support.data import KiB, MiB, noise, put, same_bytes
from tests.support.mounts import mounted
from tests.support.servers import Server
from tests.support.waiting import eventually

PROCESSES = 8
FILES = 2000
KILLS = 8


@contextmanager
def _warming(server: Server, cache: Path, jobs: int) -> Iterator[subprocess.Popen[str]]:
    argv = [str(PROGRAM), "warm", "--json", "--jobs", str(jobs), "--cache", str(cache), server.url]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _files(server: Server) -> Counter[str]:
    """Files that were requested, and how often; listings are not counted."""
    return Counter(request.uri for request in server.requests() if not request.uri.endswith("/"))


def test_eight_processes_fetch_every_file_once(folder: Path, origin: Server, tmp_path: Path) -> None:
    """8 processes that warm 2,000 files at the same time request each of them once, in all."""
    for number in range(FILES):
        put(folder, f"{number:04d}.bin", noise(number, 4 * KiB))
    cache = tmp_path / "cache"
    with ExitStack() as stack:
        running = [stack.enter_context(_warming(origin, cache, 2)) for _ in range(PROCESSES)]
        said = [process.communicate(timeout=120) for process in running]
        assert [process.returncode for process in running] == [0] * PROCESSES, said
        summaries = [json.loads(out) for out, _ in said]
    assert _files(origin) == {f"/{number:04d}.bin": 1 for number in range(FILES)}
    assert all(summary["files_done"] == FILES for summary in summaries)
    assert sum(summary["bytes_fetched"] for summary in summaries) == FILES * 4 * KiB


def test_others_finish_what_a_killed_process_had_begun(
    folder: Path, slow_origin: Server, tmp_path: Path
) -> None:
    """Its leases end with it: what it was filling is taken over where its bytes end, and is right."""
    names = [f"{number}.bin" for number in range(6)]
    for name in names:
        put(folder, name, noise(("killed", name), 6 * MiB))
    cache = tmp_path / "cache"
    with ExitStack() as stack:
        # It has every file under way before the others come.
        victim = stack.enter_context(_warming(slow_origin, cache, len(names)))
        eventually(lambda: _written(cache) >= len(names) * MiB, "it has written some of each file")
        others = []
        for listings in (2, 3):
            # One that starts before another has listed may use that one's listing: one after the other.
            others.append(stack.enter_context(_warming(slow_origin, cache, 2)))
            eventually(lambda: _listings(slow_origin) >= listings, "it has listed the source")  # noqa: B023
        os.kill(victim.pid, signal.SIGKILL)
        for process in others:
            said = process.communicate(timeout=60)
            assert process.returncode == 0, said
            assert json.loads(said[0])["files_done"] == len(names)
    assert mirror("warm", "--cache", cache, slow_origin.url).ok().out.count("all there already") == 1
    slow_origin.forget()
    with mounted(slow_origin.url, cache=cache) as mount:
        assert all(same_bytes(mount.path / name, folder / name) for name in names)
    assert not _files(slow_origin)


def _written(cache: Path) -> int:
    """Bytes of disk of the objects."""
    return sum(path.stat().st_blocks * 512 for path in cache.glob("objects/*/*.part"))


def _listings(server: Server) -> int:
    return sum(request.uri == "/" for request in server.requests())


def test_any_of_them_may_be_killed_at_any_moment(folder: Path, origin: Server, tmp_path: Path) -> None:
    """Those that are left, and those that come after them, bring every file, whole and right."""
    chance = random.Random(7)
    sizes = (0, 1, 4 * KiB, 100 * KiB, 3 * MiB)
    names = [f"{number % 5}/{number:03d}.bin" for number in range(400)]
    for name in names:
        put(folder, name, noise(name, chance.choices(sizes, (1, 1, 30, 10, 2))[0]))
    cache = tmp_path / "cache"
    killed = 0
    with ExitStack() as stack:
        running = [stack.enter_context(_warming(origin, cache, 3)) for _ in range(3)]
        while killed < KILLS and all(process.poll() is None for process in running):
            # From the first moments of an interpreter to the middle of everything.
            time.sleep(chance.uniform(0.2, 1.0))
            number = chance.randrange(len(running))
            running[number].kill()
            running[number].communicate()
            killed += 1
            running[number] = stack.enter_context(_warming(origin, cache, 3))
        said = [process.communicate(timeout=120) for process in running]
        assert [process.returncode for process in running] == [0] * len(running), said
        assert {json.loads(out)["files_done"] for out, _ in said} == {len(names)}
    assert killed
    assert mirror("fsck", "--cache", cache).code in (0, 1)  # what the killed had claimed is settled
    assert mirror("verify", "--cache", cache, origin.url).code == 0
    origin.stop()
    with mounted(origin.url, cache=cache) as mount:
        assert all(same_bytes(mount.path / name, folder / name) for name in names)
