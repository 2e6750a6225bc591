"""What the worker tells the kernel."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from queue import SimpleQueue

import pyfuse3
import pytest
import trio
import trio.testing

from cache import Changes, Kind, Node
from mirror.keeper.control import Registrar
from mirror.worker.kernel import Kernel


Sent = SimpleQueue[tuple[int, bytes]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Names that libfuse was asked to tell the kernel to forget."""
    names: Sent = SimpleQueue()

    def invalidate(folder: pyfuse3.InodeT, name: pyfuse3.FileNameT, deleted: int = 0) -> None:
        names.put((folder, name))

    monkeypatch.setattr(pyfuse3, "invalidate_entry", invalidate)
    return names


@pytest.fixture
def registrar() -> Iterator[Registrar]:
    """With an end that nobody reads."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield Registrar(ours)


def file(number: int, folder: int, name: str) -> Node:
    return Node(
        id=number,
        entry=number,
        source=1,
        parent=folder,
        name=name,
        kind=Kind.FILE,
        size=1,
        mtime_ns=None,
        mtime_resolution_ns=1,
        validator=None,
        checked_at=None,
        listed_at=None,
        listing_validator=None,
        current=False,
    )


def removed(*names: str) -> Changes:
    """Names that are gone from folder 5."""
    return Changes([], [], [file(10 + at, 5, name) for at, name in enumerate(names)])


async def test_nothing_is_sent_before_the_session_has_begun(sent: Sent, registrar: Registrar) -> None:
    """Libfuse would refuse it, and what a successor has to take back would be lost."""
    kernel = Kernel(registrar)
    kernel.changed(removed("a"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kernel.run)
        await trio.testing.wait_all_tasks_blocked()
        assert sent.empty()
        kernel.reached()
        assert await trio.to_thread.run_sync(sent.get) == (5, b"a")
        nursery.cancel_scope.cancel()
