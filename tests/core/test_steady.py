"""What a process that serves a mount prepares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mirror.limits import TABLE


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
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    status = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    assert int(status["FDSize"]) >= min(TABLE, int(status["Limit"]))
