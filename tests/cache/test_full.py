"""A disk that is full: a clean error, and no wrong byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_full_disk_never_leaves_a_wrong_byte(tmp_path: Path) -> None:
    # The mounts are in a namespace of the program's own and go with it.
    own = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    command = ["unshare", *own, sys.executable, "-m", "tests.cache.full", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stderr
    full, whole = map(int, done.stdout.split())
    assert full > 50
    assert whole > 10
