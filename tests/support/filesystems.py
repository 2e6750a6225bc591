"""File systems that are mounted for a test and gone after it. As root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted_tmpfs(place: Path) -> Iterator[Path]:
    """A tmpfs on a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "mirror-test", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
