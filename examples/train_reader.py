"""A reader shaped like a training loop: some processes, shuffled epochs, images per second.

    python examples/train_reader.py /mnt/imagenet/train --workers 4 --epochs 3

Each epoch shuffles all files anew, the same way in every process; each process reads its share of them, one
file after the other, as the workers of a data loader do. Put your decoder in `decode`. The first epoch
fetches what is not in the cache; from the second on the kernel reads by itself.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch came to."""

    files: int
    bytes: int
    seconds: float

    def __str__(self) -> str:
        """One line."""
        images, speed = self.files / self.seconds, self.bytes / self.seconds / 1e6
        return f"{self.files:,} images in {self.seconds:.2f} s: {images:,.0f} images/s, {speed:,.0f} MB/s"


def decode(data: bytes) -> int:
    """Stand in for a decoder: touches every byte."""
    return zlib.crc32(data)


def read_share(files: Sequence[Path], seed: int, worker: int, workers: int) -> tuple[int, int]:
    """Read one worker's share of an epoch; returns how many files and bytes that was."""
    order = list(files)
    random.Random(seed).shuffle(order)  # noqa: S311  (every worker shuffles the same way)
    share = order[worker::workers]
    total = 0
    for path in share:
        data = path.read_bytes()
        decode(data)
        total += len(data)
    return len(share), total


def train(files: Sequence[Path], workers: int, epochs: int, seed: int = 0) -> list[Epoch]:
    """Run the epochs, and print each as it ends."""
    results = []
    # Spawned, not forked: as data loaders do it where a process has threads.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for epoch in range(epochs):
            started = time.perf_counter()
            shares = pool.starmap(
                read_share, [(files, seed + epoch, worker, workers) for worker in range(workers)], chunksize=1
            )
            seconds = time.perf_counter() - started
            result = Epoch(sum(share[0] for share in shares), sum(share[1] for share in shares), seconds)
            print(f"epoch {epoch + 1}: {result}", flush=True)
            results.append(result)
    return results


def main() -> None:
    """Read the folder of the command line."""
    parser = argparse.ArgumentParser(description="Read a folder as a training loop does.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--glob", default="**/*", help="which files, below the folder (default: all)")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Sorted, so that a seed means one order whatever order a folder is listed in.
    files = sorted(path for path in options.folder.glob(options.glob) if path.is_file())
    if not files:
        parser.error(f"no files match {options.glob!r} below {options.folder}")
    train(files, options.workers, options.epochs, options.seed)


if __name__ == "__main__":
    main()
