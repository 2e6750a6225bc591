"""The helpers of a run: forked at its start, called when there is enough to do, gone at its end."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import trio

from mirror.crew.called import Helper
from mirror.crew.messages import CALL

log = logging.getLogger(__name__)


@contextmanager
def forked(count: int, work: Callable[[socket.socket], Awaitable[None]]) -> Iterator[list[Helper]]:
    """Fork helpers, and see to their end.

    In a process that has threads there are none: a fork would leave locked for ever what they hold.

    Args:
        count: how many.
        work: what each does in a trio run of its own once it is called.
    """
    helpers: list[Helper] = []
    try:
        for _ in range(count if threading.active_count() == 1 else 0):
            helpers.append(_fork(work, helpers))
        yield helpers
    finally:
        for helper in helpers:
            helper.leave()
        for helper in helpers:
            helper.bury()


def _fork(work: Callable[[socket.socket], Awaitable[None]], others: list[Helper]) -> Helper:
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        mine.close()
        for other in others:
            other.leave()  # else they would not see that the caller is gone
        _be_helper(work, its)
    its.close()
    return Helper(pid, mine)


def _descriptors() -> int:
    """Above the highest open descriptor of this process."""
    return max(int(each.name) for each in Path("/proc/self/fd").iterdir()) + 1


def _be_helper(work: Callable[[socket.socket], Awaitable[None]], connection: socket.socket) -> NoReturn:
    """Wait for the call, work, and end without a look at what the process was before."""
    code = 1
    try:
        # Of whatever ends with its last descriptor nobody is to keep one here.
        os.closerange(3, connection.fileno())
        os.closerange(max(3, connection.fileno() + 1), _descriptors())
        # Ctrl-C is for all processes of a terminal: the one that called says what becomes of its helpers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        random.seed()
        if connection.recv(len(CALL)):
            trio.run(work, connection)
        code = 0
    except Exception as exc:  # noqa: BLE001 - its end is the end of the process
        log.warning("a process that helped has failed: %r", exc)
    finally:
        os._exit(code)
