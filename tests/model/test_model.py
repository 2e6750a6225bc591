"""The mirror does what the reference allows, whatever is done to it."""

from __future__ import annotations

import json
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
    first, counts = done.stdout.splitlines()
    assert "0 divergences" in first
    seen = json.loads(counts)
    rare = {name: seen.get(name, 0) for name in ("deaths", "evicted", "errors", "two at once")}
    assert all(count > 10 for count in rare.values()), f"hardly tried: {rare}"
