"""A kill at any point: no wrong byte is ever served, and what was safe is not fetched again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cache.crash import CALLS


@pytest.mark.parametrize(("function", "rounds"), [*((name, 6) for name in CALLS), ("any", 16)])
def test_a_killed_process_never_leaves_a_wrong_byte(tmp_path: Path, function: str, rounds: int) -> None:
    command = [sys.executable, "-m", "tests.cache.crash", tmp_path, function, str(rounds), "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stderr
