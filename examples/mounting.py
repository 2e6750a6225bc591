"""Mount for the time of a ``with`` block, and ask how it goes: the ``mirror`` command from Python."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MIRROR = (sys.executable, "-P", "-m", "mirror.cli")
"""The command of this interpreter, wherever its script is. ``-P``: here may be a folder ``cache``, too."""


class Status:
    """What ``mirror status`` says about one mount."""

    def __init__(self, mountpoint: Path) -> None:
        """Ask about ``mountpoint`` at each call."""
        self._mountpoint = mountpoint

    def __call__(self) -> dict[str, Any]:
        """Ask now."""
        asked = [*MIRROR, "status", "--json", str(self._mountpoint)]
        [mount] = json.loads(subprocess.run(asked, check=True, stdout=subprocess.PIPE).stdout)
        return dict(mount)

    def read_requests(self) -> int:
        """READ requests that reached user space so far."""
        return int(self()["counters"]["read_requests"])


@contextmanager
def mounted(source: str, mountpoint: Path, cache: Path, *options: str) -> Iterator[Status]:
    """Mount for the time of the block, with further options of ``mirror mount``.

    Raises subprocess.CalledProcessError when the command fails; it has then said why on standard error.
    """
    try:
        # Within the try: a Ctrl-C may come when the mount is made and the command has not ended yet.
        command = [*MIRROR, "mount", "--cache", str(cache), *options, source, str(mountpoint)]
        subprocess.run(command, check=True)
        yield Status(mountpoint)
    finally:
        if mountpoint.is_mount():
            subprocess.run([*MIRROR, "unmount", "--lazy", str(mountpoint)], check=True)
