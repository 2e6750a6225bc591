"""A network of its own, whose loopback has any addresses: public ones too, and nothing leaves the machine."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import eventually

_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Network:
    """A network namespace, for as long as its process lives."""

    pid: int

    @property
    def prefix(self) -> tuple[str, ...]:
        """What starts a program in it."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net", "--")

    def listen(self, address: str) -> socket.socket:
        """A socket that listens in it; a thread of its own goes there, this one stays."""
        made: list[socket.socket] = []

        def work() -> None:
            fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(fd)
            made.append(socket.create_server((address, 0), backlog=64))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return made[0]


@contextmanager
def network(addresses: Sequence[str]) -> Iterator[Network]:
    """Make one whose loopback device has these addresses beside its own."""
    process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    try:
        own, other = Path("/proc/self/ns/net"), Path(f"/proc/{process.pid}/ns/net")
        eventually(lambda: other.readlink() != own.readlink(), "the network is there")
        made = Network(process.pid)
        subprocess.run([*made.prefix, "ip", "link", "set", "lo", "up"], check=True)
        for address in addresses:
            subprocess.run([*made.prefix, "ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
        yield made
    finally:
        process.kill()
        process.wait()
