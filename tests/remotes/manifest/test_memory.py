"""Memory does not grow with a list: the figures of docs/sources/manifest.md."""

from __future__ import annotations

import json
import subprocess
import sys


def test_a_list_is_on_disk_and_takes_no_memory() -> None:
    """50,000 rows: less than 40 MiB of memory, whatever comes after, and less than 160 bytes of disk each.

    By hand with 1,000,000: the same memory.
    """
    argv = [sys.executable, "-m", "tests.remotes.manifest.memory", "50000"]
    found = json.loads(subprocess.run(argv, capture_output=True, check=True, timeout=100).stdout)
    assert found["memory_mib"] < 40, found
    assert found["disk_bytes_a_row"] < 160, found
