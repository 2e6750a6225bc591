"""What is loaded at the start of a process."""

from __future__ import annotations

import subprocess
import sys


def test_nobody_pays_for_a_command_that_is_not_ours() -> None:
    """The one of httpx, with its colours: what fetches loads neither, and httpx works as ever."""
    program = """
import sys
import mirror.worker.main, mirror.remotes.http, mirror.warm
import httpx
assert httpx.Client is not None and httpx.main is not None
print(*(name for name in ("rich", "pygments") if name in sys.modules))
"""
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert loaded.split() == []
