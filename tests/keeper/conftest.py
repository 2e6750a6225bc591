"""Mounts of the keeper with the test worker of `serving.py`, each in a temporary folder of its own."""

from __future__ import annotations

import json
import os
import select
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mirror import runtime
from mirror.config import MountConfig
from mirror.keeper import client, launch
from tests.support import mountinfo
from tests.support.mounts import PREFIX

WORKER = "serving"
HERE = Path(__file__).parent


@dataclass(slots=True)
class Home:
    """One mount's folders, and what can be asked of it."""

    folder: Path
    config: MountConfig

    @property
    def path(self) -> Path:
        """The mountpoint."""
        return Path(self.config.mountpoint)

    @property
    def files(self) -> Path:
        """What the mount shows; on the cache's file system."""
        return self.folder / "files"

    @property
    def log(self) -> str:
        """What keeper and worker wrote."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def add(self, **files: bytes | int) -> None:
        """Write files, given their content or their size."""
        for name, content in files.items():
            data = os.urandom(content) if isinstance(content, int) else content
            (self.files / name).write_bytes(data)

    def start(self, **changes: Any) -> launch.Started:
        """Mount in the background."""
        self.config = replace(self.config, **changes)
        return launch.start(self.config, worker=WORKER)

    def status(self) -> dict[str, Any]:
        """The status of the mount."""
        return client.status(self.config.mountpoint)

    def counters(self) -> dict[str, int]:
        """Its counters."""
        counters = self.status()["counters"]
        assert isinstance(counters, dict)
        return counters

    def backing(self) -> dict[str, dict[str, Any]]:
        """Registered files by name."""
        return {Path(file["path"]).name: file for file in self.status()["backing"]["files"]}

    @property
    def mounted(self) -> bool:
        """Whether the kernel's table has it."""
        return mountinfo.is_mounted(self.path)

    def processes(self) -> list[int]:
        """Processes that belong to this mount: they have its runtime folder in their environment."""
        mark = f"MIRROR_RUNTIME={self.folder / 'run'}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found

    def gone(self) -> bool:
        """No mount, no process, no socket."""
        return not self.mounted and not self.processes() and not any((self.folder / "run").iterdir())


def wait_for_end(pid: int, seconds: float = 30) -> None:
    """Wait until a process has ended."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([process], [], [], seconds)[0], f"process {pid} goes on"
    finally:
        os.close(process)


@pytest.fixture
def make_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Home]]:
    """Make homes; ``parent`` chooses another file system, ``misbehave`` a fault of the worker."""
    homes: list[Home] = []
    monkeypatch.setenv("PYTHONPATH", str(HERE))

    def make(parent: Path | None = None, misbehave: str = "", **config: Any) -> Home:
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
        for name in ("mnt", "files", "cache", "run"):
            (folder / name).mkdir(mode=0o700)
        monkeypatch.setenv("MIRROR_RUNTIME", str(folder / "run"))
        monkeypatch.setenv("MIRROR_TEST_WORKER", misbehave)
        defaults: Mapping[str, Any] = {
            "source": f"test:{folder / 'files'}",
            "mountpoint": str(folder / "mnt"),
            "cache": str(folder / "cache"),
            "log_file": str(folder / "log"),
        }
        home = Home(folder, MountConfig(**{**defaults, **config}))
        homes.append(home)
        return home

    yield make
    problems = []
    for home in homes:
        monkeypatch.setenv("MIRROR_RUNTIME", str(home.folder / "run"))
        if home.mounted:
            client.unmount(home.config.mountpoint, lazy=True)
        for pid in home.processes():
            wait_for_end(pid)
        if not home.gone():
            problems.append(f"{home.folder} is left: {home.processes()}, {json.dumps(home.log[-2000:])}")
        mountinfo.detach(home.path)
        shutil.rmtree(home.folder)
    assert not problems, problems


@pytest.fixture
def home(make_home: Callable[..., Home]) -> Home:
    """One home."""
    return make_home()


def mounts_at(path: Path) -> list[runtime.MountPoint]:
    """All mounts on one folder."""
    return [mount for mount in runtime.all_mounts() if mount.path == path]
