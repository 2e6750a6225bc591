"""Making and unmaking the mount: by mount(2) with CAP_SYS_ADMIN, else through fusermount3.

fusermount3 is asked for ``auto_unmount``: it then stays, as root, and unmounts when its socket to us
closes. Once ``no_new_privs`` is set we could not start it again, and it also clears up should we be
killed.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import os
import socket
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mirror import runtime
from mirror.errors import SetupError
from mirror.keeper import mountpoint as at
from mirror.keeper import privileges
from mirror.keeper.options import KernelOptions

DEVICE = "/dev/fuse"
_GONE_SECONDS = 5.0
"""How long fusermount3 may take to unmount after we let go."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class _Helper:
    """fusermount3, which stays for as long as the mount does."""

    process: subprocess.Popen[str]
    line: socket.socket
    """It unmounts when this closes."""


class Mount:
    """One mount, from the moment it stands in the kernel's table."""

    def __init__(self, mountpoint: str, fuse_fd: int, helper: _Helper | None) -> None:
        self.mountpoint = mountpoint
        self.fuse_fd = fuse_fd
        """/dev/fuse, to be taken over by the channel."""
        self._helper = helper

    @property
    def by_helper(self) -> bool:
        """Whether fusermount3 made it, and will unmake it."""
        return self._helper is not None

    def unmount(self, *, lazy: bool) -> None:
        """Take the mount out of the kernel's table.

        Raises SetupError, caused by EBUSY when in use and not ``lazy``. A mount of fusermount3 goes
        lazily in any case, and only once /dev/fuse is closed: see `release`.
        """
        if not self.by_helper:
            at.detach(self.mountpoint, lazy=lazy)

    def release(self) -> None:
        """Let fusermount3 unmount, and wait for that; /dev/fuse has to be closed before.

        Raises SetupError when it does not.
        """
        if self._helper is None:
            return
        self._helper.line.close()
        try:
            self._helper.process.wait(_GONE_SECONDS)
        except subprocess.TimeoutExpired as exc:
            raise SetupError(f"fusermount3 hangs: try 'fusermount3 -uz {self.mountpoint}'") from exc
        finally:
            self._helper = None


def mount(mountpoint: str, source: str, options: KernelOptions, max_read: int | None) -> Mount:
    """Mount on an empty folder; ``max_read`` bounds READs, in bytes, where messages must stay small.

    Raises SetupError, with nothing mounted.
    """
    data = list(options.data)
    if limits := [limit for limit in (options.max_read, max_read) if limit is not None]:
        data.append(f"max_read={min(limits)}")
    name = options.name or source
    if privileges.has_sys_admin():
        return _mount_directly(mountpoint, name, options.flags, data)
    words = [word for word in options.words() if word not in options.data] + data
    return _mount_by_helper(mountpoint, name, words)


def _mount_directly(mountpoint: str, name: str, flags: int, data: list[str]) -> Mount:
    try:
        fuse_fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        raise _no_device(exc) from exc
    mode = stat.S_IFMT(Path(mountpoint).stat().st_mode)
    connection = f"fd={fuse_fd},rootmode={mode:o},user_id={os.geteuid()},group_id={os.getegid()}"
    text = os.fsencode(",".join([connection, *data]))
    if _libc.mount(os.fsencode(name), os.fsencode(mountpoint), runtime.FSTYPE.encode(), flags, text) == 0:
        return Mount(mountpoint, fuse_fd, None)
    error = ctypes.get_errno()
    os.close(fuse_fd)
    reason = os.strerror(error)
    if error == errno.EPERM:
        reason += " (a container needs --cap-add SYS_ADMIN and --device /dev/fuse)"
    elif error == errno.ENODEV:
        reason = "this kernel has no FUSE (CONFIG_FUSE_FS)"
    elif error == errno.EINVAL:
        reason = f"the kernel refuses the options {','.join(data)}"
    raise SetupError(f"cannot mount on {mountpoint}: {reason}") from OSError(error, os.strerror(error))


def _no_device(exc: OSError) -> SetupError:
    if exc.errno == errno.ENOENT:
        return SetupError("there is no /dev/fuse: 'modprobe fuse', or give the container --device /dev/fuse")
    if exc.errno in (errno.ENODEV, errno.ENXIO):
        return SetupError("this kernel has no FUSE: 'modprobe fuse', or a kernel with CONFIG_FUSE_FS")
    return SetupError(f"cannot open /dev/fuse: {exc.strerror}")


def _mount_by_helper(mountpoint: str, name: str, words: list[str]) -> Mount:
    escaped = name.replace("\\", "\\\\").replace(",", "\\,")
    options = ["auto_unmount", *words, f"fsname={escaped}", "subtype=mirror"]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.ExitStack() as unless_mounted:
        unless_mounted.callback(ours.close)
        try:
            process = subprocess.Popen(
                ["fusermount3", "-o", ",".join(options), "--", mountpoint],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno()), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        except FileNotFoundError as exc:
            raise SetupError("mounting without root takes fusermount3: install the package fuse3") from exc
        finally:
            theirs.close()
        fuse_fd = _receive_descriptor(ours)
        if fuse_fd is None:
            said = " ".join(process.communicate()[1].split()).removeprefix("fusermount3: ")
            raise SetupError(f"cannot mount on {mountpoint}: {said or 'fusermount3 failed'}")
        if process.stderr is not None:
            process.stderr.close()
        unless_mounted.pop_all()
    return Mount(mountpoint, fuse_fd, _Helper(process, ours))


def _receive_descriptor(ours: socket.socket) -> int | None:
    """The open /dev/fuse that fusermount3 sends, or None when it failed."""
    size = array.array("i").itemsize
    try:
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(size), socket.MSG_CMSG_CLOEXEC)
    except OSError:
        return None
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return array.array("i", payload[:size])[0]
    return None


def set_read_ahead(mountpoint: str, kilobytes: int) -> None:
    """Raise how far the kernel reads ahead for page-cached files. Raises OSError where it may not."""
    mount_entry = runtime.mount_at(mountpoint)
    if mount_entry is not None:
        Path(f"/sys/class/bdi/{mount_entry.device}/read_ahead_kb").write_text(
            f"{kilobytes}\n", encoding="ascii"
        )
