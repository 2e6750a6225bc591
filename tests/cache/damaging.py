"""What the tests of repair have in common: a cache with something of everything, and harm done to it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from cache import Cache, Entry, Kind, Node
from tests.cache.support import MTIME, URL, complete, content, file, fill, folder, read_all

PATHS = ("a", "b", "sub/c", "sub/deep/d", "empty")
SIZES = {"a": 1000, "b": 50_000, "sub/c": 70_000, "sub/deep/d": 5, "empty": 0}
PARTIAL = "partial"
HALF = 20_000


def entries(prefix: str) -> list[Entry]:
    """What the source lists in a folder (``""``: at the top)."""
    here = [
        file(path.removeprefix(prefix), SIZES[path])
        for path in PATHS
        if path.startswith(prefix) and "/" not in path.removeprefix(prefix)
    ]
    return here + {"": [folder("sub"), file(PARTIAL, 2 * HALF)], "sub/": [folder("deep")]}.get(prefix, [])


async def listed(cache: Cache) -> dict[str, Node]:
    """List the whole source; its files by path."""
    root = await cache.tree.root(URL)
    found: dict[str, Node] = {}
    folders = [("", root)]
    for prefix, node in folders:
        await cache.tree.put_listing(node.id, entries(prefix), validator=None, at=1.0)
        for child in cache.tree.children(node.id):
            if child.kind is Kind.FOLDER:
                folders.append((f"{prefix}{child.name}/", child))
            else:
                found[prefix + child.name] = child
    return found


async def filled(home: Path) -> dict[str, Node]:
    """Make a cache with complete files, an incomplete one, and a past version."""
    async with Cache.open(home) as cache:
        root = await cache.tree.root(URL)
        old = await cache.tree.put_entry(root.id, file("a", 900, mtime_ns=MTIME - 10**12), 1.0)
        complete(cache, old)
        nodes = await listed(cache)
        for path in PATHS:
            filler = fill(cache, nodes[path])
            filler.write(0, right(path)) if SIZES[path] else None
            os.close(filler.complete())
        filler = fill(cache, nodes[PARTIAL])
        filler.write(0, right(PARTIAL)[:HALF])
        filler.close()
        await cache.objects.sync()
        return nodes


def right(path: str) -> bytes:
    """The bytes of a file, the same whatever its node's id."""
    seed = len(path) * 7 + sum(path.encode())
    return content(seed, 0, SIZES.get(path, 2 * HALF))


def known(cache: Cache, path: str) -> Node | None:
    """The node that stands at a path, as far as the index knows."""
    node = cache.tree.child(0, URL)
    for name in path.split("/"):
        node = None if node is None else cache.tree.child(node.id, name)
    return node


def check_bytes(cache: Cache, nodes: dict[str, Node]) -> set[str]:
    """What is served is right; the paths that are complete."""
    whole = set()
    for path, node in nodes.items():
        state = cache.objects.state(node)
        if state.complete:
            fd = cache.objects.open_complete(node)
            if fd is None:
                # Its row was of no object that there is: it is dropped, so that the file is fetched again.
                cache.submit(lambda _: None)
                assert not cache.objects.state(node).complete, path
            else:
                assert read_all(fd) == right(path), path
                whole.add(path)
            continue
        for start, stop in state.extents:
            assert cache.objects.partials.read(node, start, stop - start) in (None, right(path)[start:stop])
    return whole


def sql(home: Path, *statements: str) -> None:
    """Change the index behind everybody's back."""
    with closing(sqlite3.connect(home / "index.sqlite", isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def object_of(home: Path, node: Node, suffix: str = "") -> Path:
    digits = node.key.hex()
    return home / "objects" / digits[:2] / (digits + suffix)


def rows(home: Path, query: str) -> Sequence[tuple[object, ...]]:
    with closing(sqlite3.connect(home / "index.sqlite")) as db:
        return db.execute(query).fetchall()
