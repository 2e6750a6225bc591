"""Recording and replaying, as a whole; also a program, for as many cuts as one has time for.

``python -m tests.powercut.soak --cuts 20000 --jobs 2`` makes record after record, each of another seed, and
cuts each at a few hundred places. It fails when anything was wrong, and says how to look at it again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.powercut.recorder import Record
from tests.powercut.remains import go_on

SESSIONS = 3
"""Processes, one after the other, that make a record: each finds what the one before left."""
STEPS = 60
EACH = 500
"""Cuts of one record in a soak."""


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for records, in memory if possible: thousands of states are written to it, and none matters.

    It stays when something in it was found to be wrong.
    """
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="powercut-", dir=memory if _can_hold(memory) else None))
    try:
        yield folder
    except AssertionError:
        raise
    except BaseException:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


def _can_hold(folder: Path) -> bool:
    """Whether files in it can have attributes (tmpfs: since Linux 6.6)."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            os.setxattr(file.fileno(), "user.powercut", b"1")
    except OSError:
        return False
    return True


def record(folder: Path, seed: int) -> Record:
    """Record the work of some processes on one cache.

    Of odd seeds all of them; of even ones those after a power cut in the work of the first ones.
    """
    made = Record.new(folder)
    for session in range(SESSIONS):
        _work(made, seed, session)
    if seed % 2 == 0:
        home = folder / "after"
        home.mkdir()
        made = go_on(made, home, seed)
        for session in range(SESSIONS, SESSIONS + 2):
            _work(made, seed, session)
    return made


def _work(made: Record, seed: int, session: int) -> None:
    made.run([*_module("workload"), made.root, str(seed), str(session), str(STEPS)])


def replay(made: Record, seed: int, cuts: int, *more: str) -> dict[str, Any]:
    """What `tests.powercut.replay` says of a record; ``more`` are options of it."""
    said = made.run_idle([*_module("replay"), made.folder, "--cuts", str(cuts), "--seed", str(seed), *more])
    result: dict[str, Any] = json.loads(said)
    return result


def explain(made: Record, seed: int, result: dict[str, Any]) -> str:
    """What was wrong, and how to have it again."""
    lines = []
    for wrong in result["wrong"]:
        lines.append(
            f"seed {seed}, cut {wrong['cut']} of {result['ops']}, state {wrong['state']}: {wrong['how']}"
        )
        lines.append(f"after {', '.join(wrong['after'])}")
        lines.append(wrong["failure"])
        again = f"--seed {seed} --only {wrong['cut']}:{wrong['state']}"
        lines.append(f"again: python -m tests.powercut.replay {made.folder} {again}\n")
    return "\n".join(lines)


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", f"tests.powercut.{name}"]


def _one(folder: Path, seed: int) -> tuple[int, int, str]:
    home = folder / str(seed)
    home.mkdir()
    made = record(home, seed)
    result = replay(made, seed, EACH)
    if not result["wrong"]:
        shutil.rmtree(home)
    return result["cuts"], result["states"], explain(made, seed, result)


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate power cuts.")
    parser.add_argument("--cuts", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1000, help="of the first record; the next ones count on")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + -(-options.cuts // EACH))
    cuts = states = failures = 0
    with workplace() as folder, ThreadPoolExecutor(options.jobs) as pool:
        try:
            for one, these, wrong in pool.map(lambda seed: _one(folder, seed), seeds):
                cuts, states, failures = cuts + one, states + these, failures + bool(wrong)
                print(wrong or f"{cuts} cuts, {states} states", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)  # what has not begun when this is interrupted
        assert not failures, f"{failures} records with wrong states are in {folder}"


if __name__ == "__main__":
    main()
