"""Making and unmaking the mount: by mount(2) with CAP_SYS_ADMIN, else through fusermount3.

fusermount3 is set-uid, which ``no_new_privs`` forbids. So before that is set a shell is started that
does nothing but wait: when its line to us ends, however we end, it starts fusermount3 to unmount.
(fusermount3's own ``auto_unmount`` is not used: that of libfuse 3.14 leaves the mount behind unless it
has ``allow_other``.)
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


class _Unmounter:
    """The shell that waits to unmount."""

    _SCRIPT = 'read -r word || exec fusermount3 -u -z -- "$0"'

    def __init__(self, mountpoint: str) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", self._SCRIPT, mountpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it
        )

    def dismiss(self) -> None:
        """There is nothing to unmount any more."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(b"dismissed\n", _GONE_SECONDS)

    def unmount(self) -> bool:
        """Unmount now, lazily; False when that failed."""
        try:
            self._process.communicate(None, _GONE_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return self._process.returncode == 0


class Mount:
    """One mount, from the moment it stands in the kernel's table."""

    def __init__(self, mountpoint: str, fuse_fd: int, unmounter: _Unmounter | None) -> None:
        self.mountpoint = mountpoint
        self.fuse_fd = fuse_fd
        """/dev/fuse, to be taken over by the channel."""
        self._unmounter = unmounter
        entry = runtime.mount_at(mountpoint)
        self._device = None if entry is None else entry.device

    @property
    def stands(self) -> bool:
        """Whether it still is in the kernel's table, alive or aborted."""
        entry = runtime.mount_at(self.mountpoint)
        return entry is not None and entry.device == self._device

    def unmount(self, *, lazy: bool) -> None:
        """Take the mount out of the kernel's table; one of fusermount3 goes lazily in any case.

        Raises SetupError, caused by EBUSY when in use and not ``lazy``.
        """
        if self._unmounter is None:
            at.detach(self.mountpoint, lazy=lazy)
        elif not self._unmounter.unmount():
            raise SetupError(
                f"fusermount3 did not unmount {self.mountpoint}: try 'fusermount3 -uz {self.mountpoint}'"
            )

    def forget(self) -> None:
        """Someone else has unmounted it."""
        if self._unmounter is not None:
            self._unmounter.dismiss()


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
    options = ",".join([*words, f"fsname={escaped}", "subtype=mirror"])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            try:
                process = subprocess.Popen(
                    ["fusermount3", "-o", options, "--", mountpoint],
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno()), "LC_ALL": "C"},
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            except OSError as exc:
                raise _no_helper(exc) from exc
        fuse_fd = _receive_descriptor(ours)
    said = " ".join(process.communicate()[1].split()).removeprefix("fusermount3: ")
    if fuse_fd is None:
        raise SetupError(f"cannot mount on {mountpoint}: {said or 'fusermount3 failed'}")
    return Mount(mountpoint, fuse_fd, _Unmounter(mountpoint))


def _no_helper(exc: OSError) -> SetupError:
    if exc.errno == errno.ENOENT:
        return SetupError("mounting without root takes fusermount3: install the package fuse3")
    return SetupError(
        f"mounting without root takes fusermount3, which cannot be started ({exc.strerror}): "
        "install the package fuse3 again"
    )


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
