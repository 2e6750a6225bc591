"""What the tests of the store have in common, also those that run in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Sequence

from cache import Cache, Entry, Filler, Kind, Node

URL = "http://origin.test/data/"
MTIME = 1_700_000_000_000_000_000
_PERIOD = 251


def content(seed: int, start: int, stop: int) -> bytes:
    """The right bytes of a file: never 0, so that a hole is always seen, and of a prime period."""
    pattern = bytes((value + seed * 17) % _PERIOD + 1 for value in range(_PERIOD))
    first = start % _PERIOD
    repeats = (first + stop - start) // _PERIOD + 1
    return (pattern * repeats)[first : first + stop - start]


def file(name: str, size: int | None = 1000, **more: object) -> Entry:
    return Entry(name, Kind.FILE, size, **{"mtime_ns": MTIME, **more})  # type: ignore[arg-type]


def folder(name: str) -> Entry:
    return Entry(name, Kind.FOLDER)


async def files(cache: Cache, *entries: Entry) -> Sequence[Node]:
    """List ``entries`` in the root of the one source; their nodes, in this order."""
    root = await cache.tree.root(URL)
    await cache.tree.put_listing(root.id, entries, validator=None, at=1.0)
    found = [cache.tree.child(root.id, entry.name) for entry in entries]
    return [node for node in found if node is not None]


def fill(cache: Cache, node: Node) -> Filler:
    filler = cache.objects.fill(node)
    assert filler is not None
    return filler


def write(filler: Filler, start: int, stop: int) -> None:
    filler.write(start, content(filler.node.id, start, stop))


def complete(cache: Cache, node: Node) -> None:
    """Fetch what is missing of a file."""
    filler = fill(cache, node)
    assert node.size is not None
    for start, stop in filler.present.gaps(0, node.size):
        write(filler, start, stop)
    os.close(filler.complete())


def read_all(fd: int | None) -> bytes:
    """All bytes of a descriptor, and close it."""
    assert fd is not None
    with os.fdopen(fd, "rb") as opened:
        return opened.read()
