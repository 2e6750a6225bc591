"""What the worker tells the kernel."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from queue import SimpleQueue

import pyfuse3
import pytest
import trio
import trio.testing

from cache import Changes
from mirror.keeper.control import Registrar
from mirror.keeper.questions import Questions
from mirror.worker.kernel import Kernel
from tests.support.nodes import file_node
from tests.support.waiting import eventually

Sent = SimpleQueue[tuple[int, bytes]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Names that libfuse was asked to tell the kernel to forget."""
    names: Sent = SimpleQueue()

    def invalidate(folder: pyfuse3.InodeT, name: pyfuse3.FileNameT, deleted: int = 0) -> None:
        names.put((folder, name))

    monkeypatch.setattr(pyfuse3, "invalidate_entry", invalidate)
    return names


class NoKeeper(Questions):
    """One that says how far the kernel is when the test says so."""

    def __init__(self, registrar: Registrar) -> None:
        super().__init__(registrar, -1)
        self.asked = 0
        self.tells = trio.Semaphore(0)

    async def told(self) -> None:
        self.asked += 1
        await self.tells.acquire()


@pytest.fixture
def registrar() -> Iterator[Registrar]:
    """With an end that nobody reads."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield Registrar(ours)


@pytest.fixture
async def keeper(registrar: Registrar) -> NoKeeper:
    """How far the kernel is."""
    return NoKeeper(registrar)


@pytest.fixture
async def kernel(registrar: Registrar, keeper: NoKeeper) -> Kernel:
    """What is tested."""
    return Kernel(registrar, keeper)


def added(*names: str) -> Changes:
    """Names in folder 5 that were absent."""
    return Changes([file_node(10 + at, 5, name) for at, name in enumerate(names)], [], [])


async def test_nothing_is_sent_before_the_session_has_begun(
    kernel: Kernel, sent: Sent, nursery: trio.Nursery
) -> None:
    """Libfuse would refuse it, and what a successor has to take back would be lost."""
    kernel.changed(added("a"))
    nursery.start_soon(kernel.run)
    await trio.testing.wait_all_tasks_blocked()
    assert sent.empty()
    kernel.reached()
    assert await trio.to_thread.run_sync(sent.get) == (5, b"a")


async def test_more_is_sent_when_the_kernel_got_what_was(
    kernel: Kernel, keeper: NoKeeper, sent: Sent, nursery: trio.Nursery
) -> None:
    """The keeper holds a part of many; that all are told is known at the end."""
    kernel.reached()
    names = [f"{number:04}" for number in range(1200)]
    kernel.changed(added(*names))
    kernel.mark(7)
    nursery.start_soon(kernel.run)
    for batch in (names[:512], names[512:1024], names[1024:]):
        assert [await trio.to_thread.run_sync(sent.get) for _ in batch] == [(5, x.encode()) for x in batch]
        await trio.testing.wait_all_tasks_blocked()
        assert sent.empty()
        assert kernel.told == 0
        keeper.tells.release()
    await trio.to_thread.run_sync(eventually, lambda: kernel.told == 7, "all is told")
    assert keeper.asked == 3


async def test_a_keeper_that_is_gone_ends_it(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In one line, not one for each name."""

    def invalidate(folder: pyfuse3.InodeT, name: pyfuse3.FileNameT, deleted: int = 0) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(pyfuse3, "invalidate_entry", invalidate)
    caplog.set_level("INFO")
    kernel.reached()
    kernel.changed(added("a", "b", "c"))
    with trio.fail_after(30):
        await kernel.run()
    assert [record.message for record in caplog.records] == [
        "the kernel is told nothing any more: [Errno 32] Broken pipe"
    ]
