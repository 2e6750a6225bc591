"""What kind of file system a folder is on, asked of the kernel (Python's ``statvfs`` leaves it out).

WAL mode needs memory shared between processes, and leases need locks that the kernel itself keeps:
network file systems have neither, or only sometimes. A cache on FUSE could be one of our own mounts.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_UNFIT = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFE534D42: "SMB",
    0xFF534D42: "SMB (CIFS)",
    0x01021997: "9p",
    0x65735546: "FUSE",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x00C36400: "Ceph",
    0x73757245: "Coda",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x7461636F: "OCFS2",
    0x01161970: "GFS2",
    0x19830326: "BeeGFS",
    0x564C: "NCP",
    0x786F4256: "a VirtualBox shared folder",
    0x9FA0: "procfs",
    0x62656572: "sysfs",
}
"""Magic numbers (``linux/magic.h``, the file systems' own documentation) of what a cache cannot be on."""

BTRFS = 0x9123683E
XFS = 0x58465342
"""Those that are different: see `cache.disks`."""

_BUFFER = 256
"""At least the size of ``struct statfs`` on any machine; its first word is the magic number."""


def magic(path: Path) -> int:
    """The magic number of the file system that ``path`` is on. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(_BUFFER)
    if libc.statfs(os.fsencode(path), buffer) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(path))
    # Some machines have a signed word there, and all the numbers have 32 bits.
    return ctypes.c_ulong.from_buffer(buffer).value & 0xFFFFFFFF


def unfit(number: int) -> str | None:
    """Name of a file system that cannot hold a cache; None: it may."""
    return _UNFIT.get(number)
