"""A cache on a file system that is too small; run as a program in a mount namespace of its own.

``python -m tests.support.namespace python -m tests.cache.full FOLDER``: fills until the disk is full, again
and again with a little more room, and checks every byte. Prints how often it was full.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import trio

from cache import Cache, CacheFull
from tests.cache.support import complete, content, file, files, read_all

SIZE = 100_000
FILES = 40


async def fetch_all(folder: Path) -> tuple[int, int]:
    """Fetch until it is full; returns how many are complete and how often there was no room."""
    full = 0
    async with Cache.open(folder) as cache:
        nodes = await files(cache, *(file(str(number), SIZE) for number in range(FILES)))
        for node in nodes:
            if cache.objects.state(node).complete:
                continue
            try:
                complete(cache, node)
            except CacheFull:
                full += 1
        whole = 0
        for node in nodes:
            state = cache.objects.state(node)
            right = content(node.id, 0, SIZE)
            for start, stop in () if state.complete else state.extents:
                assert cache.objects.partials.read(node, start, stop - start) == right[start:stop]
            if state.complete:
                whole += 1
                assert read_all(cache.objects.open_complete(node)) == right
    return whole, full


def main() -> None:
    folder = Path(sys.argv[1])
    full = whole = 0
    for kib in range(900, 2900, 100):
        mode = "size" if kib == 900 else "remount,size"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"{mode}={kib}k,mode=700", "tmpfs", folder], check=True)
        now, failed = trio.run(fetch_all, folder)
        assert now >= whole, "what was fetched stays"
        whole, full = now, full + failed
    print(full, whole)


if __name__ == "__main__":
    main()
