"""Asking keepers, and ending mounts: what `mirror status` and `mirror unmount` do."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import time
from pathlib import Path
from typing import Any

from mirror import runtime
from mirror.errors import MirrorError, SetupError
from mirror.keeper import mountpoint as at
from mirror.keeper.status import LENGTH, peer_uid

_ANSWER_SECONDS = 5.0


def status(mountpoint: str) -> dict[str, Any]:
    """The status of one mount, with the keys that `mirror status --json` documents.

    ``counters`` holds the keeper's, which count from the mount on, and the worker's, which count from its
    own start on. A worker that does not answer at once, or is being restarted, leaves those it (or its
    predecessor) sent last; ``worker_counters_age_s`` says how old they are.
    Raises SetupError when nothing is mounted there, or its keeper is dead or does not answer.
    """
    try:
        with _connect(mountpoint) as connection:
            report = json.loads(_receive(connection))
            statistics = json.loads(_receive(connection) or b"{}")
    except (OSError, ValueError) as exc:
        raise _unanswered(mountpoint) from exc
    if not isinstance(report, dict) or not isinstance(statistics, dict):
        raise _unanswered(mountpoint)
    report["counters"] = {**statistics, **report["counters"]}
    return report


def unmount(mountpoint: str, *, lazy: bool = False, timeout: float = 30) -> str | None:
    """Unmount, and return once the mount is gone and both its processes have ended.

    A mount whose keeper is dead is detached. With ``lazy`` returns at once for one that is in use or shows
    elsewhere as well (`mirror.runtime.copy_of`), and says so: its processes live on until its last user
    lets go. Raises SetupError when nothing of ours is mounted there, when it is in use (and not ``lazy``),
    or when its processes still run after ``timeout`` seconds.
    """
    device = _ours(mountpoint).device
    try:
        known = status(mountpoint)
    except MirrorError:
        # Only now is the mount itself asked: when that hangs, it is in use by who asks.
        if at.is_dead(mountpoint):
            at.clear_stale(mountpoint)
            _forget(mountpoint)
            return None
        known = {}  # without its keeper's word, unmounting is all that can be done
    with contextlib.ExitStack() as held:
        processes: list[int] = []
        for pid in (known.get("keeper_pid"), known.get("worker_pid")):
            with contextlib.suppress(ProcessLookupError):
                if pid is not None:
                    processes.append(os.pidfd_open(pid))
                    held.callback(os.close, processes[-1])
        try:
            at.detach(mountpoint, lazy=False)
        except SetupError as exc:
            if not lazy or not isinstance(exc.__cause__, OSError) or exc.__cause__.errno != errno.EBUSY:
                raise
            at.detach(mountpoint)
            return f"{mountpoint} was in use: it is detached, and ends when its last user lets go"
        if lazy and (copy := runtime.copy_of(device)) is not None:
            return _shows(mountpoint, copy)
        deadline = time.monotonic() + timeout
        for process in processes:
            poll = select.poll()
            poll.register(process, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                if (copy := runtime.copy_of(device)) is not None:
                    raise SetupError(_shows(mountpoint, copy))
                raise SetupError(
                    f"{mountpoint} is unmounted, but its processes still run after {timeout:g} s"
                )
    return None


def _shows(mountpoint: str, copy: runtime.Copy) -> str:
    return f"{mountpoint} is unmounted, but still mounted {copy}: its processes end with that"


def _ours(mountpoint: str) -> runtime.MountPoint:
    mount = runtime.mount_at(mountpoint)
    if mount is None or mount.fstype != runtime.FSTYPE:
        raise SetupError(f"{mountpoint} is not mounted by mirror: 'mirror status' lists what is")
    return mount


def _unanswered(mountpoint: str) -> MirrorError:
    mount = runtime.mount_at(mountpoint)
    if mount is None or mount.fstype != runtime.FSTYPE:
        return SetupError(f"{mountpoint} is not mounted by mirror: 'mirror status' lists what is")
    if at.is_dead(mountpoint):
        return SetupError(f"the keeper of {mountpoint} is dead: clear it with 'mirror unmount {mountpoint}'")
    if mount.owner not in (None, os.geteuid()):
        return SetupError(f"{mountpoint} is uid {mount.owner}'s mount: their 'mirror status' shows it")
    if not runtime.socket_path(mountpoint).exists():
        return SetupError(
            f"{mountpoint} has no status socket in {runtime.folder()}: it is still starting, or was mounted "
            "with another MIRROR_RUNTIME"
        )
    return SetupError(
        f"the keeper of {mountpoint} does not answer: end the mount with 'mirror unmount --lazy {mountpoint}'"
    )


def _forget(mountpoint: str) -> None:
    """Remove the socket that a dead keeper left."""
    with contextlib.suppress(SetupError):
        Path(runtime.socket_path(mountpoint)).unlink(missing_ok=True)


def _connect(mountpoint: str) -> socket.socket:
    path = runtime.socket_path(mountpoint)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_ANSWER_SECONDS)
    try:
        connection.connect(str(path))
        if peer_uid(connection) not in (0, os.geteuid()):
            raise PermissionError(f"{path} belongs to another user")
    except OSError:
        connection.close()
        raise
    return connection


def _receive(connection: socket.socket) -> bytes:
    (length,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
    return _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    parts = []
    while length > 0:
        part = connection.recv(min(length, 1 << 16))
        if not part:
            raise ConnectionError("the keeper ended in the middle of its answer")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
