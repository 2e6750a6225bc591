"""Several processes that warm one source into one cache share the work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
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
        others = [stack.enter_context(_warming(slow_origin, cache, 2)) for _ in range(2)]
        eventually(lambda: _listings(slow_origin) >= 3, "the others have listed the source")
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
