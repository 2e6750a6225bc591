"""SIGKILL at random points of filling, under readers: no wrong byte, no unreadable file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("MIRROR_KILLS", "200"))
"""In all; ``make soak`` has more."""
SEEDS = 4


@pytest.mark.timeout(60 + KILLS)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_killed_filler_costs_nobody_a_byte(tmp_path: Path, seed: int) -> None:
    """A killed process leaves what it had synced, others go on there at once, and no reader sees an error."""
    command = [sys.executable, "-m", "tests.kills.storm", tmp_path / "cache", str(KILLS // SEEDS), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > KILLS // SEEDS, "there was something to kill"
