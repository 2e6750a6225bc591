"""Read files of a source from Python, without a mount, through the cache that mounts and ``warm`` use too.

    python examples/read_without_mount.py https://data.example.org/tree/ labels.csv train/0001.bin

Any number of such programs, mounts and commands may have one cache open at once: each byte is fetched once,
whoever wants it. Prints the size and the SHA-256 of each file, and how much came over the network.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from cache import CacheError, Kind, Node
from mirror.cli.folders import default_cache
from mirror.engine import Engine, open_engine
from mirror.errors import IsAFolder, MirrorError

PIECE = 1024 * 1024
"""Bytes read at a time; of a file that is not here yet, only what is asked for is waited for."""


async def find(engine: Engine, path: str) -> Node:
    """Look a file up, name by name. Raises `MirrorError`."""
    node = engine.namespace.root
    for name in path.strip("/").split("/"):
        node = await engine.namespace.lookup(node.id, name)
    if node.kind is Kind.FOLDER:
        raise IsAFolder(f"{path} is a folder: name files")
    return node


async def read(engine: Engine, node: Node) -> AsyncIterator[bytes | bytearray]:
    """All bytes of one version of a file, in order. Raises `MirrorError`."""
    offset = 0
    while data := await engine.fetcher.read(node, offset, PIECE):
        yield data
        offset += len(data)


async def main(source: str, paths: list[str], folder: Path) -> None:
    """Print a line for each path."""
    async with open_engine(source, folder, ttl=60.0, deadline=30.0) as engine:
        for path in paths:
            digest, size = hashlib.sha256(), 0
            async for data in read(engine, await find(engine, path)):
                digest.update(data)
                size += len(data)
            print(f"{digest.hexdigest()}  {size:>12,}  {path}")
        print(f"{engine.fetcher.bytes_fetched:,} bytes came over the network", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Read files of a source through the cache.")
    parser.add_argument("source")
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--cache", type=Path, default=default_cache())
    options = parser.parse_args()
    try:
        trio.run(main, options.source, options.paths, options.cache)
    except (MirrorError, CacheError) as error:
        sys.exit(str(error))
