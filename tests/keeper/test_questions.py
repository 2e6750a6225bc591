"""What the worker asks of the keeper: whether files are let go, and how far the kernel is."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from mirror.keeper import questions as module
from mirror.keeper.control import Registrar
from mirror.keeper.questions import Questions

MESSAGE = struct.Struct("=IIQ")
YIELD, TOLD = 5, 6
MARK = struct.Struct("=IiQQ")
NOTIFY_MARK = 0x4D41524B


class Keeper:
    """The keeper's end of the sockets, by hand."""

    def __init__(self, end: socket.socket, fuse: socket.socket) -> None:
        self.end = end
        self._fuse = fuse
        self.asked: list[int] = []

    async def question(self) -> tuple[int, int]:
        """The next question: number and node."""
        await trio.lowlevel.wait_readable(self.end)
        operation, number, node = MESSAGE.unpack(self.end.recv(100))
        assert operation == YIELD
        assert number % 2 == 0
        self.asked.append(node)
        return number, node

    def answer(self, number: int, node: int, *, busy: bool = False) -> None:
        """Answer one."""
        self.end.send(MESSAGE.pack(YIELD, number + busy, node))

    async def mark(self) -> int:
        """The number of the next mark among the notifications."""
        await trio.lowlevel.wait_readable(self._fuse)
        length, code, unique, number = MARK.unpack(self._fuse.recv(100))
        assert (length, code, unique) == (MARK.size, NOTIFY_MARK, 0)
        return number

    def tell(self, number: int) -> None:
        """Say that the kernel got all before a mark."""
        self.end.send(MESSAGE.pack(TOLD, 0, number))

    async def serve(self, busy: set[int]) -> None:
        """Answer all."""
        while True:
            number, node = await self.question()
            self.answer(number, node, busy=node in busy)


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, ...]]:
    """Control and FUSE socket, the keeper's ends and the worker's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    our_fuse, their_fuse = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, our_fuse, their_fuse:
        yield ours, our_fuse, theirs, their_fuse


@pytest.fixture
async def keeper(sockets: tuple[socket.socket, ...]) -> Keeper:
    """The keeper's ends."""
    return Keeper(sockets[0], sockets[1])


@pytest.fixture
async def questions(sockets: tuple[socket.socket, ...], nursery: trio.Nursery) -> Questions:
    """What the worker makes of its ends."""
    questions = Questions(Registrar(sockets[2]), sockets[3].fileno())
    nursery.start_soon(questions.run)
    return questions


async def test_all_are_asked_and_some_let_go(keeper: Keeper, questions: Questions) -> None:
    """Any number of nodes may be asked about; those that are busy are left out."""
    busy = set(range(0, 1000, 7))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.serve, busy)
        assert await questions.let_go(range(1000)) == set(range(1000)) - busy
        assert await questions.let_go([]) == set()
        assert await questions.let_go([5, 5]) == {5}
        nursery.cancel_scope.cancel()
    assert sorted(keeper.asked) == sorted([*range(1000), 5])


async def test_tasks_ask_at_once(keeper: Keeper, questions: Questions) -> None:
    """Each task gets the answers to its own questions."""
    answers: dict[int, set[int]] = {}

    async def ask(first: int) -> None:
        answers[first] = await questions.let_go(range(first, first + 10))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.serve, {3, 105})
        async with trio.open_nursery() as asking:
            asking.start_soon(ask, 0)
            asking.start_soon(ask, 100)
        nursery.cancel_scope.cancel()
    assert answers == {0: set(range(10)) - {3}, 100: set(range(100, 110)) - {105}}


async def test_no_answer_in_time_means_busy(
    keeper: Keeper, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the keeper does not answer in time is not let go, and its late answer is nobody's."""
    monkeypatch.setattr(module, "YIELD_SECONDS", 0.05)
    assert await questions.let_go([7]) == set()
    late = await keeper.question()
    monkeypatch.setattr(module, "YIELD_SECONDS", 30.0)

    async def answer() -> None:
        number, node = await keeper.question()
        keeper.answer(*late)
        keeper.end.send(b"nonsense")
        keeper.answer(number, node, busy=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        assert await questions.let_go([7]) == set()


async def test_a_keeper_that_is_gone_lets_go_of_nothing(keeper: Keeper, questions: Questions) -> None:
    """The end of the keeper is no error here: the mount is gone as well."""
    keeper.end.close()
    assert await questions.let_go([7, 8]) == set()


async def test_it_is_told_once_the_keeper_says_so(keeper: Keeper, questions: Questions) -> None:
    """Of that mark, not of one that came before it or of a worker that is dead."""
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            told = trio.Event()
            nursery.start_soon(tell_when, told, questions)
            number = await keeper.mark()
            keeper.tell(number - 1)
            keeper.tell(7)
            await answered(keeper, questions)
            assert not told.is_set()
            keeper.tell(number)
            await told.wait()


async def tell_when(told: trio.Event, questions: Questions) -> None:
    await questions.told()
    told.set()


async def answered(keeper: Keeper, questions: Questions) -> None:
    """All that the keeper has said so far is heard."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.serve, set())
        await questions.let_go([1])
        nursery.cancel_scope.cancel()


async def test_answers_of_both_kinds_come_in_any_order(keeper: Keeper, questions: Questions) -> None:
    """A kernel that makes the keeper wait keeps no file from being let go."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(questions.told)
        number = await keeper.mark()
        async with trio.open_nursery() as serving:
            serving.start_soon(keeper.serve, {8})
            assert await questions.let_go([7, 8]) == {7}
            serving.cancel_scope.cancel()
        keeper.tell(number)


async def test_a_keeper_that_is_gone_is_told_nothing(
    sockets: tuple[socket.socket, ...], questions: Questions
) -> None:
    """Whoever tells it hears of that."""
    for end in sockets[:2]:
        end.close()
    with pytest.raises(BrokenPipeError):
        await questions.told()
