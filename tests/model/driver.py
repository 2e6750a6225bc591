"""Starting, asking and killing processes under test."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path

from tests.model.system import Answer, Ask
from tests.support import faults

DEADLINE = 40.0
"""Seconds until a process that says nothing counts as hanging."""


class Hangs(AssertionError):
    """A process under test did not answer."""


class Starter:
    """The process that forks. One for a whole run; it ends with its pipe."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # Not by -m: what is sent over the pipe must be of the module that both import.
        program = "from tests.model.system import main; main()"
        command = [sys.executable, "-c", program, str(theirs.fileno())]
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], cwd=root, env=faults.environment()
        )
        theirs.close()
        self.pipe = Connection(ours.detach())
        atexit.register(self.close)

    def fork(self, fd: int) -> int:
        self.pipe.send("fork")
        send_handle(self.pipe, fd, self.process.pid)
        pid: int = self.pipe.recv()
        return pid

    def ended(self, pid: int) -> int:
        """Wait for the end of a process, and return its status."""
        self.pipe.send(pid)
        status: int = self.pipe.recv()
        return status

    def close(self) -> None:
        self.pipe.close()
        self.process.wait()


_starter: list[Starter] = []


def starter() -> Starter:
    """The one of this process."""
    if not _starter:
        _starter.append(Starter())
    return _starter[0]


class Child:
    """One process under test."""

    def __init__(self, home: Path, ttl: float) -> None:
        ours, theirs = socket.socketpair()
        self.pid = starter().fork(theirs.fileno())
        theirs.close()
        self.pipe = Connection(ours.detach())
        self.pipe.send((home, ttl))
        self.armed = False
        self.over = False

    def tell(self, ask: Ask) -> None:
        with suppress(BrokenPipeError):  # `hear` finds that out
            self.pipe.send(ask)

    def hear(self) -> Answer | None:
        """The answer; None: it was killed before it answered.

        Raises:
            Hangs: it does not answer.
            AssertionError: it ended by itself.
        """
        if not self.pipe.poll(DEADLINE):
            self.kill()
            raise Hangs("no answer")
        try:
            answer: Answer = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            status = self._ended()
            assert os.WIFSIGNALED(status), f"the process ended by itself: {status}"
            assert os.WTERMSIG(status) == signal.SIGKILL, f"the process crashed: {status}"
            return None
        return answer

    def kill(self) -> None:
        """End it, whatever it does."""
        if not self.over:
            os.kill(self.pid, signal.SIGKILL)
            self._ended()

    def _ended(self) -> int:
        self.over = True
        self.pipe.close()
        return starter().ended(self.pid)

    def close(self, ask: Ask) -> Answer | None:
        """Let it end in order; None: it was killed in that."""
        self.tell(ask)
        answer = self.hear()
        if answer is not None:
            status = self._ended()
            assert status == 0, f"it did not end in order: {status}"
        return answer
