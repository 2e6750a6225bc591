"""One worker, as the keeper holds it: a process, three sockets, and what it wrote last.

The FUSE socket has to hold the largest READ answer in one packet. Its send buffer is bounded by
``net.core.wmem_max`` for who has no CAP_NET_ADMIN, and the keeper gives that up: so where the bound is
too low, the sockets of all the workers to come are made at the start.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque

from mirror.config import MountConfig
from mirror.errors import SetupError
from mirror.keeper import link
from mirror.keeper._channel import Channel

PAGE = 4096
MAX_PAGES = 256
"""The kernel's own limit of one READ, unless its administrator raised it."""
TOKEN_SIZE = 16
_SO_SNDBUFFORCE = 32
_OVERHEAD = PAGE + 32
"""A header and what the kernel keeps free in a send buffer."""
_ENOUGH = MAX_PAGES * PAGE + _OVERHEAD
_RESERVE = 64
"""Sockets made ahead: one for each restart, in the life of one mount."""

Pair = tuple[socket.socket, socket.socket]


class Sockets:
    """Makes the socket pairs for FUSE messages, ours first, with a send buffer for the largest answer."""

    def __init__(self) -> None:
        first = self._make()
        self.max_pages = pages_for(first[1].getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
        """The largest READ that fits, in pages: a power of 2."""
        self._ready: list[Pair] = [first]
        plain = self._make(force=False)
        if pages_for(plain[1].getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)) < self.max_pages:
            self._ready += [self._make() for _ in range(_RESERVE - 1)]
            self._endless = False
        else:
            self._endless = True
        _close(plain)

    def pair(self) -> Pair:
        """The next pair. Raises SetupError when those made ahead are used up."""
        if self._ready:
            return self._ready.pop()
        if not self._endless:
            raise SetupError(
                f"the worker was restarted {_RESERVE} times: mount again, or raise net.core.wmem_max to 2 MiB"
            )
        return self._make()

    def close(self) -> None:
        """Close those that were not used."""
        for pair in self._ready:
            _close(pair)
        self._ready.clear()

    @staticmethod
    def _make(*, force: bool = True) -> Pair:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in pair:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _ENOUGH)
            if force:
                with contextlib.suppress(PermissionError):
                    end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * _ENOUGH)
        return pair


def pages_for(send_buffer: int) -> int:
    """Pages of data in the largest answer that a send buffer of so many bytes takes."""
    pages = max(1, min(MAX_PAGES, (send_buffer - _OVERHEAD) // PAGE))
    return 1 << (pages.bit_length() - 1)


def _close(pair: Pair) -> None:
    for end in pair:
        end.close()


class WorkerProcess:
    """A started worker."""

    def __init__(self, config: MountConfig, generation: int, module: str, sockets: Sockets) -> None:
        """Start one. Raises SetupError."""
        fuse, their_fuse = sockets.pair()
        control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours, their_link = link.pair()
        self.fuse, self.control = fuse, control
        self.link = link.KeeperEnd(ours)
        self.token = os.urandom(TOKEN_SIZE)
        """What marks its references: known to this worker and the channel alone."""
        self.prepared = False
        self.attached = False
        """Whether the channel has taken `fuse` and `control`."""
        self.errors, their_errors = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        """What it writes to standard error."""
        os.set_blocking(their_errors, True)
        self._last_lines: deque[str] = deque(maxlen=5)
        theirs = {"fuse": their_fuse, "control": their_control, "link": their_link}
        arguments = [part for name, end in theirs.items() for part in (f"--{name}-fd", str(end.fileno()))]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                pass_fds=[end.fileno() for end in theirs.values()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=their_errors,
            )
        except OSError as exc:
            for end in (fuse, control, ours):
                end.close()
            os.close(self.errors)
            raise SetupError(f"cannot start the worker: {exc.strerror}") from exc
        finally:
            os.close(their_errors)
            for end in theirs.values():
                end.close()
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.link.configure(link.Assignment(config, generation, self.token))

    @property
    def last_line(self) -> str:
        """What it said last, or an empty text: usually the message of the exception it died of."""
        return self._last_lines[-1] if self._last_lines else ""

    def read_errors(self) -> bytes:
        """What it wrote to standard error since the last time."""
        try:
            text = os.read(self.errors, 1 << 16)
        except BlockingIOError:
            return b""
        self._last_lines.extend(line for line in text.decode(errors="replace").splitlines() if line.strip())
        return text

    def attach_to(self, channel: Channel) -> None:
        """Hand FUSE and control socket to the channel, which owns them from then on."""
        self.attached = True
        channel.attach(self.fuse.detach(), self.control.detach(), self.token)

    def poll(self) -> int | None:
        """Its exit code (negative: the signal), or None while it lives."""
        return self._process.poll()

    def end(self, number: signal.Signals) -> None:
        """Send it a signal, unless it is dead."""
        self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; False when it still lives."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Close our ends. A worker that still lives takes this for the end of its mount."""
        self.fuse.close()
        self.control.close()
        self.link.close()
        os.close(self.errors)
        os.close(self.pidfd)


def describe_exit(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
