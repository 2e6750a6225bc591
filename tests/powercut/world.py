"""The origin of the simulated power cuts: which files it has, and the right bytes of each version."""

from __future__ import annotations

from collections.abc import Mapping

from cache import Cache, Entry, Kind, Node
from tests.cache.support import MTIME, content

URL = "http://origin.test/data/"
SIZES = (0, 1, 4096, 9000, 50_000, 50_000, 200_000, 1_300_000)
"""Of the files by number; the same for all versions of one, so that no length tells them apart."""
VERSIONS = 30

Listing = Mapping[str, int]
"""Name → version: all that the origin says at one time."""


def first_listing() -> dict[str, int]:
    return {f"f{number}": 0 for number in range(len(SIZES))}


def entries(listing: Listing) -> list[Entry]:
    """What the origin's listing says. Every third file has no size in it, every second a validator."""
    return [
        Entry(
            name,
            Kind.FILE,
            size=None if _number(name) % 3 == 2 else size_of(name),
            mtime_ns=MTIME + version * 1_000_000_000,
            validator=f'etag:"{version}"' if _number(name) % 2 else None,
        )
        for name, version in listing.items()
    ]


def size_of(name: str) -> int:
    return SIZES[_number(name)]


def version_of(node: Node) -> int:
    assert node.mtime_ns is not None
    return (node.mtime_ns - MTIME) // 1_000_000_000


def right(node: Node, start: int, stop: int) -> bytes:
    """The right bytes of a version: never 0, and different from those of every other file and version."""
    return content(_number(node.name) * VERSIONS + version_of(node), start, stop)


async def list_again(cache: Cache, listing: Listing) -> list[Node]:
    """Have the cache hear of a listing; the nodes that stand at the names now."""
    root = await cache.tree.root(URL)
    await cache.tree.put_listing(root.id, entries(listing), validator=None, at=1.0)
    nodes = [cache.tree.child(root.id, name) for name in listing]
    return [node for node in nodes if node is not None]


def nodes_of(cache: Cache) -> list[Node]:
    """Every file that the index knows, in all its versions: ids are given one after the other."""
    nodes: list[Node] = []
    id_ = last = 1
    while id_ < last + 50:  # some may be gone
        node = cache.tree.node(id_)
        if node is not None:
            last = id_
            if node.kind is Kind.FILE:
                nodes.append(node)
        id_ += 1
    return nodes


def _number(name: str) -> int:
    return int(name[1:])
