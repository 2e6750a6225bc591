"""Held files: a lock says that a file is in use while it is open; the keeper gives it up when asked."""

from __future__ import annotations

import fcntl
import socket
import struct
from pathlib import Path

import pytest
import trio

from mirror.keeper import control
from mirror.keeper.control import Registrar, Yields
from tests.keeper.conftest import Home
from tests.support.waiting import eventually

MESSAGE = struct.Struct("=IIQ")
YIELD = 5


def is_free(path: Path) -> bool:
    """Whether nobody has locked the file."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("passthrough", [True, False])
def test_a_file_is_locked_while_it_is_open(home: Home, *, passthrough: bool) -> None:
    """In every mount a complete file stays locked until it was retired and its last handle released."""
    home.add(whole=100_000, retire=10)
    home.start(passthrough=passthrough)
    data = (home.files / "whole").read_bytes()
    with (home.path / "whole").open("rb") as file:
        assert not is_free(home.files / "whole")
        backing = home.status()["backing"]
        assert (backing["held"], backing["registered"], backing["open"]) == (1, passthrough, passthrough)
        (held,) = backing["files"]
        assert (held["backing_id"] is not None) == passthrough
        assert (held["open_handles"], held["cached_handles"]) == ((1, 0) if passthrough else (0, 1))
        (home.path / "retire").read_bytes()
        eventually(lambda: home.backing()["whole"]["retiring"], "it is retiring")
        assert not is_free(home.files / "whole")
        assert file.read() == data
    eventually(lambda: is_free(home.files / "whole"), "its last handle is released")
    assert home.status()["backing"]["held"] == 0


def test_open_files_keep_their_place_in_the_budget(home: Home) -> None:
    """Without passthrough, too, only files that nobody has open are let go to make room."""
    home.add(whole1=100, whole2=100, whole3=100)
    home.start(passthrough=False, backing_limit=2)
    with (home.path / "whole1").open("rb"):
        for name in ("whole2", "whole3"):
            (home.path / name).read_bytes()
            eventually(lambda: sum(f["cached_handles"] for f in home.backing().values()) == 1, "released")
        assert home.backing().keys() == {"whole1", "whole3"}
        assert not is_free(home.files / "whole1")
        eventually(lambda: is_free(home.files / "whole2"), "it made room")


@pytest.mark.parametrize("passthrough", [True, False])
def test_a_file_yields_once_it_is_closed(home: Home, *, passthrough: bool) -> None:
    """Asked to let go the keeper keeps what is open; what it lets go can be locked at once."""
    home.add(**{"whole": 100_000, "plain": 100, "yield": 10})
    home.start(passthrough=passthrough)
    data = (home.files / "whole").read_bytes()

    def yielded() -> set[str]:
        (home.path / "yield").read_bytes()
        counters = home.status()["counters"]
        assert counters["still_locked"] == []
        assert "yield" not in counters["let_go"]  # its own OPEN is on its way
        return set(counters["let_go"])

    for _ in range(10):
        with (home.path / "whole").open("rb") as file, (home.path / "plain").open("rb"):
            assert not yielded() & {"whole", "plain"}
            assert file.read() == data
        eventually(lambda: yielded() >= {"whole", "plain"}, "both are released")
        assert is_free(home.files / "whole")
    counters = home.counters()
    assert counters["yielded"]
    assert counters["yields_busy"] > 0
    assert counters["yields_unanswered"] == 0


class Keeper:
    """The keeper's end of a control socket, by hand."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.asked: list[int] = []

    async def question(self) -> tuple[int, int]:
        """The next question: number and node."""
        await trio.lowlevel.wait_readable(self._end)
        operation, number, node = MESSAGE.unpack(self._end.recv(100))
        assert operation == YIELD
        assert number % 2 == 0
        self.asked.append(node)
        return number, node

    def answer(self, number: int, node: int, *, busy: bool = False) -> None:
        """Answer one."""
        self._end.send(MESSAGE.pack(YIELD, number + busy, node))

    async def serve(self, busy: set[int]) -> None:
        """Answer all."""
        while True:
            number, node = await self.question()
            self.answer(number, node, busy=node in busy)


@pytest.fixture
def ends():
    """Both ends of a control socket: the keeper's, and what the worker makes of its own."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, Yields(Registrar(theirs))


async def test_all_are_asked_and_some_let_go(ends: tuple[socket.socket, Yields]) -> None:
    """Any number of nodes may be asked about; those that are busy are left out."""
    keeper, yields = Keeper(ends[0]), ends[1]
    busy = set(range(0, 1000, 7))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.serve, busy)
        assert await yields.let_go(range(1000)) == set(range(1000)) - busy
        assert await yields.let_go([]) == set()
        assert await yields.let_go([5, 5]) == {5}
        nursery.cancel_scope.cancel()
    assert sorted(keeper.asked) == sorted([*range(1000), 5])


async def test_tasks_ask_at_once(ends: tuple[socket.socket, Yields]) -> None:
    """Each task gets the answers to its own questions."""
    keeper, yields = Keeper(ends[0]), ends[1]
    answers: dict[int, set[int]] = {}

    async def ask(first: int) -> None:
        answers[first] = await yields.let_go(range(first, first + 10))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.serve, {3, 105})
        async with trio.open_nursery() as asking:
            asking.start_soon(ask, 0)
            asking.start_soon(ask, 100)
        nursery.cancel_scope.cancel()
    assert answers == {0: set(range(10)) - {3}, 100: set(range(100, 110)) - {105}}


async def test_no_answer_in_time_means_busy(
    ends: tuple[socket.socket, Yields], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the keeper does not answer in time is not let go, and its late answer is nobody's."""
    monkeypatch.setattr(control, "YIELD_SECONDS", 0.05)
    keeper, yields = Keeper(ends[0]), ends[1]
    assert await yields.let_go([7]) == set()
    late = await keeper.question()
    monkeypatch.setattr(control, "YIELD_SECONDS", 30.0)

    async def answer() -> None:
        number, node = await keeper.question()
        keeper.answer(*late)
        ends[0].send(b"nonsense")
        keeper.answer(number, node, busy=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        assert await yields.let_go([7]) == set()


async def test_a_keeper_that_is_gone_lets_go_of_nothing(ends: tuple[socket.socket, Yields]) -> None:
    """The end of the keeper is no error here: the mount is gone as well."""
    ends[0].close()
    assert await ends[1].let_go([7, 8]) == set()
