"""Whether passthrough works here: a file of the cache's own file system is registered, and let go again.

Nothing else answers for sure: a kernel's configuration may be unreadable, a container may have the
capability in its own user namespace only, and a file system may be stacked too deep. So a FUSE connection is
opened for a moment: mounted on a temporary folder, greeted (INIT), asked to take one backing file, and
detached. No request is ever served, and nobody is told of the mount. Needs root; see
``Documentation/filesystems/fuse-passthrough.rst`` of the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mirror.doctor.finding import Finding, Verdict

_IN_HEADER = struct.Struct("=IIQQIIIHH")
_INIT_IN = struct.Struct("=IIIII")
_OUT_HEADER = struct.Struct("=IiQ")
_INIT_OUT = struct.Struct("=IIIIHHIIHHII24x")
_BACKING_MAP = struct.Struct("=iIQ")

_OPCODE_INIT = 26
_INIT_EXT = 1 << 30
_PASSTHROUGH = 1 << (37 - 32)  # in the second word of flags
_BACKING_OPEN = 1 << 30 | _BACKING_MAP.size << 16 | 229 << 8 | 1  # _IOW(229, 1, struct fuse_backing_map)

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MNT_DETACH = 2
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Registration:
    """How one attempt to register a file ended."""

    depth: int
    """The stacking depth that was asked for: 1, or 2 for a file system that is stacked itself."""
    error: int | None = None
    """errno of the kernel's refusal; None: it was accepted."""
    offered: bool = True
    """False when the kernel does not offer passthrough at all."""


def passthrough(outcome: Registration) -> Finding:
    """Judge the last attempt."""
    check = "passthrough"
    if not outcome.offered:
        return Finding(
            check,
            Verdict.WARN,
            "the kernel does not offer it: every read goes through the daemon and the page cache",
            "boot Linux 6.9 or newer, built with CONFIG_FUSE_PASSTHROUGH=y",
        )
    if outcome.error is None:
        return Finding(
            check, Verdict.OK, f"a file of the cache was registered, at stacking depth {outcome.depth}"
        )
    advice = {
        errno.EPERM: "mount from the initial user namespace, or from a container started with '--privileged'",
        errno.ELOOP: "put the cache on a file system of its own, such as ext4, xfs or tmpfs",
    }
    return Finding(
        check,
        Verdict.WARN,
        f"the kernel refused to register a file of the cache ({os.strerror(outcome.error)})",
        advice.get(outcome.error, "put the cache on ext4, xfs, btrfs or tmpfs"),
    )


def unprobed(reason: str) -> Finding:
    """Say why nothing was tried."""
    return Finding("passthrough", Verdict.OK, f"not tried: {reason}", None)


def register(folder: Path) -> Registration:
    """Register a temporary file of ``folder``'s file system, at the least depth that works.

    Raises OSError when the probe itself cannot be made (no ``/dev/fuse``, no right to mount, …).
    """
    first = _attempt(folder, 1)
    return _attempt(folder, 2) if first.error == errno.ELOOP else first


def _attempt(folder: Path, depth: int) -> Registration:
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        with tempfile.TemporaryDirectory(prefix="mirror-doctor-") as point:
            data = f"fd={device},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}".encode()
            flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
            target = os.fsencode(point)
            if libc.mount(b"mirror-doctor", target, b"fuse.mirror-doctor", ctypes.c_ulong(flags), data):
                raise OSError(ctypes.get_errno(), "the probe's mount was refused")
            try:
                if not _greet(device, depth):
                    return Registration(depth, offered=False)
                return Registration(depth, _register_one(device, folder))
            finally:
                libc.umount2(target, _MNT_DETACH)
    finally:
        os.close(device)


def _greet(device: int, depth: int) -> bool:
    """Answer the kernel's INIT, asking for passthrough; returns whether it was offered."""
    if not select.select([device], [], [], _ANSWER_SECONDS)[0]:
        raise TimeoutError(errno.ETIMEDOUT, "the kernel did not greet the probe")
    message = os.read(device, 1 << 17)
    _, opcode, unique, *_ = _IN_HEADER.unpack_from(message)
    if opcode != _OPCODE_INIT or len(message) < _IN_HEADER.size + _INIT_IN.size:
        return False
    major, minor, read_ahead, flags, flags2 = _INIT_IN.unpack_from(message, _IN_HEADER.size)
    if not flags & _INIT_EXT or not flags2 & _PASSTHROUGH:
        return False
    reply = _INIT_OUT.pack(major, minor, read_ahead, _INIT_EXT, 0, 0, 4096, 1, 1, 0, _PASSTHROUGH, depth)
    os.write(device, _OUT_HEADER.pack(_OUT_HEADER.size + len(reply), 0, unique) + reply)
    return True


def _register_one(device: int, folder: Path) -> int | None:
    """Register one file; the errno, or None. The connection's end lets go of it."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.ioctl(device, _BACKING_OPEN, bytearray(_BACKING_MAP.pack(file.fileno(), 0, 0)))
        except OSError as error:
            return error.errno
    return None
