"""The kernel's side of passthrough, bare: a mount whose /dev/fuse the test answers by hand.

What the open rule relies on is the kernel's behaviour. Here it is asked directly: one folder with one
file, and every OPEN answered exactly as the test says, also in ways that the keeper never would.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mirror.keeper.mount import mount
from mirror.keeper.mountpoint import detach
from mirror.keeper.options import KernelOptions

DIRECT_IO, KEEP_CACHE, NOFLUSH, PASSTHROUGH = 1 << 0, 1 << 1, 1 << 5, 1 << 7

_IN = struct.Struct("=IIQQIIIHH")
_OUT = struct.Struct("=IiQ")
_RELEASE = 18
_SILENT = (2, 42, 36)  # FORGET, BATCH_FORGET, INTERRUPT
_BACKING_OPEN = 0x4010E501
_BACKING_CLOSE = 0x4004E502
_INIT_EXT, _DIRECT_IO_ALLOW_MMAP, _FLAG_PASSTHROUGH = 1 << 30, 1 << 36, 1 << 37
_NODE = 2


@dataclass(slots=True)
class RawMount:
    """One mount with one file, ``file``."""

    path: Path
    fd: int
    data: bytes
    depth: int = 1
    flags: int = 0
    """How the next OPENs are answered."""
    backing_id: int = 0
    reads: int = 0
    released: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def file(self) -> Path:
        """The one file."""
        return self.path / "file"

    def register(self, fd: int) -> int:
        """FUSE_DEV_IOC_BACKING_OPEN; returns the id, or raises OSError."""
        return fcntl.ioctl(self.fd, _BACKING_OPEN, bytearray(struct.pack("=iIQ", fd, 0, 0)))

    def unregister(self, backing_id: int) -> None:
        """FUSE_DEV_IOC_BACKING_CLOSE."""
        fcntl.ioctl(self.fd, _BACKING_CLOSE, struct.pack("=I", backing_id))

    def serve(self) -> None:
        """Answer until the mount is gone."""
        while True:
            try:
                message = os.read(self.fd, 1 << 18)
            except OSError as exc:
                if exc.errno == errno.ENODEV:
                    return
                raise
            _, opcode, unique, node, *_ = _IN.unpack_from(message)
            if opcode not in _SILENT:
                body = self._answer(opcode, node, message[_IN.size :])
                error = -body if isinstance(body, int) else 0
                payload = b"" if isinstance(body, int) else body
                os.write(self.fd, _OUT.pack(_OUT.size + len(payload), error, unique) + payload)
            if opcode == _RELEASE:
                self.released.release()

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes | int:
        match opcode:
            case 26:  # INIT
                flags = _INIT_EXT | _DIRECT_IO_ALLOW_MMAP | _FLAG_PASSTHROUGH
                low, high = flags & 0xFFFFFFFF, flags >> 32
                return struct.pack(
                    "=IIIIHHIIHHII24x", 7, 38, 131072, low, 12, 9, 131072, 1, 32, 0, high, self.depth
                )
            case 1:  # LOOKUP
                attributes = self._attributes(_NODE)
                return struct.pack("=QQQQII", _NODE, 0, 3600, 3600, 0, 0) + attributes
            case 3:  # GETATTR
                return struct.pack("=QII", 3600, 0, 0) + self._attributes(node)
            case 14:  # OPEN
                return struct.pack("=QIi", 1, self.flags, self.backing_id)
            case 15:  # READ
                self.reads += 1
                _, offset, size = struct.unpack_from("=QQI", body)
                return self.data[offset : offset + size]
            case 18:  # RELEASE
                return b""
        return errno.ENOSYS

    def _attributes(self, node: int) -> bytes:
        mode = stat.S_IFREG | 0o644 if node == _NODE else stat.S_IFDIR | 0o755
        size = len(self.data) if node == _NODE else 0
        return struct.pack("=QQQQQQIIIIIIIIII", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


@contextmanager
def raw_mount(path: Path, data: bytes, depth: int = 1) -> Iterator[RawMount]:
    """Mount on an empty folder."""
    made = mount(str(path), "raw", KernelOptions(), None)
    raw = RawMount(path, made.fuse_fd, data, depth)
    server = threading.Thread(target=raw.serve)
    server.start()
    try:
        (path / "file").stat()  # INIT is answered
        yield raw
    finally:
        detach(str(path))
        server.join()
        os.close(raw.fd)
