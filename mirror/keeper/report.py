"""What a keeper says about itself: the mode the mount is in and why, counters, backing files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirror.config import MountConfig
from mirror.keeper._channel import Channel


@dataclass(frozen=True, slots=True)
class Passthrough:
    """Whether the kernel reads complete files by itself."""

    works: bool
    reason: str | None
    """A sentence on why it does not; None when it does."""


_REASONS = {
    errno.EPERM: "it takes CAP_SYS_ADMIN in the initial user namespace: mount as root",
    errno.ELOOP: "the cache's file system is stacked too deeply: put the cache on a plain local one",
    errno.EOPNOTSUPP: "the cache's file system does not support it: put the cache on ext4, xfs or tmpfs",
}


def probe(channel: Channel, config: MountConfig) -> Passthrough:
    """Try to register a file of the cache folder, and say how that went."""
    if not config.passthrough:
        return Passthrough(False, "switched off by -o no_passthrough")
    if not channel.passthrough:
        return Passthrough(
            False, "this kernel does not offer it: Linux 6.9 or later with CONFIG_FUSE_PASSTHROUGH"
        )
    try:
        with _sample(config.cache) as fd:
            channel.probe(fd)
    except OSError as exc:
        known = _REASONS.get(exc.errno or 0)
        return Passthrough(False, known or f"the kernel refuses files of {config.cache}: {exc.strerror}")
    return Passthrough(True, None)


@contextlib.contextmanager
def _sample(folder: str) -> Any:
    """A descriptor of a file as the cache has them: regular, ours, opened read-only."""
    handle, name = tempfile.mkstemp(prefix=".probe-", dir=folder)
    try:
        os.close(handle)
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        Path(name).unlink()
    try:
        yield fd
    finally:
        os.close(fd)


def report(
    config: MountConfig,
    channel: Channel,
    passthrough: Passthrough,
    *,
    worker_pid: int | None,
    restarts: int,
    statistics_age: float | None,
) -> bytes:
    """The keeper's own part of a status, as one JSON object.

    Args:
        config: what is mounted.
        channel: its relay.
        passthrough: the mode it is in.
        worker_pid: None while there is no worker.
        restarts: workers that were started in the place of a dead one.
        statistics_age: seconds since a worker's statistics came; None: none have come yet.
    """
    snapshot = channel.snapshot()
    files = [
        {
            "path": _path_of(file["fd"]),
            "backing_id": file["backing_id"] or None,
            "open_handles": file["open_handles"],
            "cached_handles": file["cached_handles"],
            "node": file["node"],
            "retiring": file["retiring"],
            "opened_at": file["opened_at"] or None,
        }
        for file in snapshot["files"]
    ]
    return json.dumps(
        {
            "mountpoint": config.mountpoint,
            "source": config.source,
            "cache": config.cache,
            "passthrough": passthrough.works,
            "passthrough_reason": passthrough.reason,
            "keeper_pid": os.getpid(),
            "worker_pid": worker_pid,
            "worker_restarts": restarts,
            "worker_counters_age_s": None if statistics_age is None else round(statistics_age, 3),
            "counters": snapshot["counters"],
            "backing": {
                "held": len(files),
                "registered": sum(1 for file in files if file["backing_id"]),
                "open": sum(1 for file in files if file["open_handles"]),
                "limit": channel.backing_limit,
                "files": files,
            },
        }
    ).encode()


def _path_of(fd: int) -> str | None:
    """Where a backing file lies; None when it was retired in this moment."""
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return None
