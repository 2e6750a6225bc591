"""Starting a keeper: in the background, waiting until the mount answers, or in place of this process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import NoReturn

from mirror.config import MountConfig
from mirror.errors import SetupError, UsageError

WORKER = "mirror.worker"
_MESSAGE_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Started:
    """A mount that answers."""

    keeper_pid: int
    warning: str | None
    """What the user should know although the mount works."""


def start(config: MountConfig, *, worker: str = WORKER) -> Started:
    """Mount in the background; returns when the mount answers.

    The keeper is a process of its own session and outlives this one. Raises UsageError or SetupError
    with the one line to print; nothing is left mounted or running then. Interrupted (Ctrl-C), it leaves
    nothing either: a keeper whose launcher goes away before the mount answers undoes what it did.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            config_fd = _config_file(config)
            try:
                process = subprocess.Popen(
                    [*_command(config_fd, worker), "--launcher-fd", str(theirs.fileno())],
                    pass_fds=[config_fd, theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=None if config.log_file is None else subprocess.DEVNULL,
                    start_new_session=True,
                )
            finally:
                os.close(config_fd)
        answer = ours.recv(_MESSAGE_MAX).decode(errors="replace")
    if answer.startswith("R"):
        # It goes on without us: not a child to wait for.
        process.returncode = 0
        return Started(process.pid, answer[1:] or None)
    code = process.wait()
    if answer.startswith("E2"):
        raise UsageError(answer[2:])
    if answer.startswith("E"):
        raise SetupError(answer[2:])
    where = "above" if config.log_file is None else f"in {config.log_file}"
    raise SetupError(f"the keeper ended without a word (exit code {code}): see {where}")


def run_foreground(config: MountConfig, *, worker: str = WORKER) -> NoReturn:
    """Become the keeper: it prints one line when the mount answers, and exits when it is gone."""
    config_fd = _config_file(config)
    os.set_inheritable(config_fd, True)
    command = _command(config_fd, worker)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def _command(config_fd: int, worker: str) -> list[str]:
    # -P: a folder named mirror in the user's current folder must not be imported in our place.
    return [sys.executable, "-P", "-m", "mirror.keeper", "--config-fd", str(config_fd), "--worker", worker]


def _config_file(config: MountConfig) -> int:
    """A descriptor that the configuration can be read from, once."""
    fd = os.memfd_create("mirror-config", os.MFD_CLOEXEC)
    os.write(fd, config.to_json().encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
