"""Every way in which an application gets at the bytes of an open file."""

from __future__ import annotations

import mmap
import os
import socket
import threading
from collections.abc import Callable

Way = Callable[[int, int], bytes]
"""Reads all of a file: (descriptor, size) → bytes."""

_BLOCK = 1 << 20
_ALIGN = 4096


def read(fd: int, size: int) -> bytes:
    """``read``, block after block."""
    os.lseek(fd, 0, os.SEEK_SET)
    pieces = []
    while piece := os.read(fd, _BLOCK):
        pieces.append(piece)
    assert os.lseek(fd, 0, os.SEEK_CUR) == size
    return b"".join(pieces)


def pread(fd: int, size: int) -> bytes:
    """``pread``, from the last block to the first."""
    starts = range(0, size, _BLOCK)
    return b"".join(reversed([os.pread(fd, _BLOCK, start) for start in reversed(starts)]))


def mmap_all(fd: int, size: int) -> bytes:
    """A shared, read-only mapping."""
    with mmap.mmap(fd, size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED) as view:
        return view[:]


def mmap_private(fd: int, size: int) -> bytes:
    """A private mapping."""
    with mmap.mmap(fd, size, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE) as view:
        return view[:]


def splice(fd: int, size: int) -> bytes:
    """``splice`` into a pipe."""
    read_end, write_end = os.pipe()
    try:
        pieces, at = [], 0
        while moved := os.splice(fd, write_end, 64 << 10, offset_src=at):
            pieces.append(_exactly(lambda left: os.read(read_end, left), moved))
            at += moved
        return b"".join(pieces)
    finally:
        os.close(read_end)
        os.close(write_end)


def sendfile(fd: int, size: int) -> bytes:
    """``sendfile`` into a socket."""
    ours, theirs = socket.socketpair()
    received: list[bytes] = []

    def receive() -> None:
        received.append(_exactly(theirs.recv, size))

    with ours, theirs:
        receiver = threading.Thread(target=receive)
        receiver.start()
        at = 0
        while sent := os.sendfile(ours.fileno(), fd, at, size - at):
            at += sent
        ours.shutdown(socket.SHUT_WR)
        receiver.join()
    return received[0]


def o_direct(fd: int, size: int) -> bytes:
    """A second handle with ``O_DIRECT``, into aligned memory."""
    direct = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, _BLOCK) as block:
            pieces, at = [], 0
            while (got := os.preadv(direct, [block], at)) > 0:
                pieces.append(block[:got])
                at += got
                if got % _ALIGN:
                    break
            return b"".join(pieces)
    finally:
        os.close(direct)


def _exactly(receive: Callable[[int], bytes], count: int) -> bytes:
    pieces = []
    while count and (piece := receive(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


ALL: list[Way] = [read, pread, mmap_all, mmap_private, splice, sendfile, o_direct]
