"""The row about several processes that warm one source into one cache.

8 commands with 2 jobs each, against one process with 16. Their start-up is not measured (8 interpreters on 2
cores take longer than the files): all have imported what they need before the clock starts.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench.measure import OURS, REFERENCE, Result, Row, take_turns
from tests.bench.stand import SMALL, Stand, kept, settle

TOGETHER = Row("warm_together", "8 processes warming one source", "one with as many jobs", "s", 1.2, 1.0)

ROWS = (TOGETHER,)

_PROCESSES = 8
_JOBS = 2
STARTED = """
import sys
import mirror.cli.progress, mirror.cli.running, mirror.cli.warm, mirror.warm
from mirror.cli.main import main
from mirror.remotes import open_remote
open_remote(next(word for word in sys.argv if "://" in word))
print(flush=True)
sys.stdin.readline()
main()
"""
"""`mirror`, which says when it has imported all that warming from its source needs, and goes on after a line
of input. Nothing is sent before that."""


def measure(stand: Stand, wanted: set[str]) -> Iterator[Result]:
    """Measure the row, if it is wanted."""
    if TOGETHER.key in wanted:
        sides = {
            OURS: lambda: _warm(stand, _PROCESSES, _JOBS),
            REFERENCE: lambda: _warm(stand, 1, _PROCESSES * _JOBS),
        }
        _warm(stand, 1, _PROCESSES * _JOBS)  # the origin's pages
        yield Result(TOGETHER, take_turns(stand.scale.cold_rounds, sides))


def _warm(stand: Stand, processes: int, jobs: int) -> float:
    cache = kept(stand)
    argv = [sys.executable, "-c", STARTED, "warm", "--quiet", "--processes", "1", "--jobs", str(jobs)]
    argv += ["--cache", str(cache), f"{stand.server.url}{SMALL}/"]
    settle()
    started = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        began = time.perf_counter()
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        codes = [process.wait() for process in started]
        seconds = time.perf_counter() - began
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert codes == [0] * processes, codes
    return seconds
