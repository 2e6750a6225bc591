"""What a process that serves a mount prepares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mirror.limits import TABLE


def printed(program: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return done.stdout


def test_nobody_waits_for_a_larger_table_of_descriptors() -> None:
    """It has room from the start, as far as this process may use it; nothing is left open for that."""
    program = """
import gc, os, resource, sys
from mirror.steady import SWITCH_SECONDS, keep_steps_short
before = os.listdir("/proc/self/fd")
keep_steps_short()
assert os.listdir("/proc/self/fd") == before
assert sys.getswitchinterval() == SWITCH_SECONDS
assert gc.get_freeze_count() > 1000
print(open("/proc/self/status").read())
print("Limit:", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    status = dict(line.split(":", 1) for line in printed(program).splitlines() if ":" in line)
    assert int(status["FDSize"]) >= min(TABLE, int(status["Limit"]))


def test_the_memory_of_buffers_is_used_again() -> None:
    """Else each has its pages made anew by the system."""
    program = """
import resource
from mirror.steady import keep_steps_short
keep_steps_short()
def use():
    buffers = [bytearray(1 << 20) for _ in range(8)]
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    assert int(printed(program)) < 8 * 256, "as many pages as one round takes"
