"""What a list of many rows takes: ``python -m tests.remotes.manifest.memory 1000000``.

Writes a list, opens it, lists and looks things up, and prints one JSON object: MiB of memory, bytes of disk
for a row, time of the processor.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path

import trio

from mirror.remotes import How
from mirror.remotes.manifest import ManifestRemote

FOLDER = 1000
"""Files of each folder."""


def path_of(number: int) -> str:
    return f"train/{number // FOLDER:05d}/image-{number:08d}.jpg"


def write(target: Path, count: int) -> None:
    with target.open("w") as file:
        for number in range(count):
            path = path_of(number)
            row = {
                "path": path,
                "url": f"https://cdn.example.org/datasets/imagenet/{path}",
                "size": 100_000 + number % 977,
                "sha256": hashlib.sha256(path.encode()).hexdigest(),
                "mtime": 1_700_000_000 + number % 1000,
            }
            file.write(f"{json.dumps(row)}\n")


def memory(name: str) -> float:
    """MiB of this process: ``VmRSS`` now, ``VmHWM`` at its most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


async def measure(target: Path, count: int) -> dict[str, float]:
    remote = ManifestRemote(f"manifest+file://{target}", How())
    before, began = memory("VmRSS"), time.process_time()
    try:
        await remote.list("")
        read = time.process_time() - began
        folders = range(0, count // FOLDER, max(1, count // FOLDER // 20))
        for folder in folders:
            await remote.list(f"train/{folder:05d}")
        began = time.process_time()
        for number in range(0, count, max(1, count // 1000)):
            assert (await remote.stat(path_of(number))).size == 100_000 + number % 977
        stat = (time.process_time() - began) / len(range(0, count, max(1, count // 1000)))
        scanned = 0
        async for page in remote.scan():
            scanned += len(page.files)
        assert scanned == count
        table = remote._table
        assert table is not None
        return {
            "rows": count,
            "memory_mib": round(memory("VmHWM") - before, 1),
            "disk_bytes_a_row": round(table.bytes_on_disk / count, 1),
            "read_us_a_row": round(read / count * 1e6, 2),
            "stat_us": round(stat * 1e6, 1),
        }
    finally:
        await remote.aclose()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        list_of_all = Path(home, "l.jsonl")
        write(list_of_all, int(sys.argv[1]))
        print(json.dumps(trio.run(measure, list_of_all, int(sys.argv[1]))))
