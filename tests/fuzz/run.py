"""``python -m tests.fuzz.run COUNT SEED``: the fuzzer by itself, one process for each processor."""

from __future__ import annotations

import logging
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.fuzz.targets import run


def _share(count: int, seed: int) -> int:
    logging.disable()  # left-out names, which are not what is looked for
    run(count, seed)
    return count


def main() -> None:
    """Run it; the first finding ends it with its input and number."""
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    processes = os.cpu_count() or 1
    began = time.monotonic()
    lot = 10_000
    lots = [min(lot, count - at) for at in range(0, count, lot)]
    with ProcessPoolExecutor(processes) as pool:
        done = sum(pool.map(_share, lots, range(seed * 1_000_000, seed * 1_000_000 + len(lots))))
    print(f"{done:,} inputs, no finding, in {time.monotonic() - began:.0f} s (seed {seed})")


if __name__ == "__main__":
    main()
