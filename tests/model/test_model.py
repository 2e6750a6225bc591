"""The mirror does what the reference allows, whatever is done to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SEQUENCES = 100


@pytest.mark.parametrize("seed", range(1, 5))
def test_random_sequences_give_nothing_that_the_reference_does_not_allow(seed: int) -> None:
    """Origin changes, kills, evictions, two processes: right bytes of one version, or an error with a cause.

    `make soak-model` runs ten thousand sequences. A failure prints the calls that lead to it, shrunk; they
    become a test in `test_regressions.py`.
    """
    command = [sys.executable, "-m", "tests.model.run", str(SEQUENCES), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 divergences" in done.stdout
