"""The thread that sends and receives: what it waits for, when it gives up, and that it lets go."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from mirror.http._wire import Io, silent
from mirror.http.wire import wire
from tests.support.sockets import sockets
from tests.support.waiting import eventually

REQUEST = b"GET / HTTP/1.1\r\n\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with sockets() as both:
        yield both


async def ask(
    ours: socket.socket, *, request: bytes | None = REQUEST, most: int = 1 << 20, seconds: float = 5.0
) -> bytes:
    """Do one job; returns all that came."""
    with trio.fail_after(seconds):
        return bytes(memoryview(await wire().run(trio.socket.from_stdlib_socket(ours), request, most)))


async def test_head_and_body_come_in_one_piece(pair: tuple[socket.socket, socket.socket]) -> None:
    """However they were sent."""
    ours, theirs = pair
    answer = b"HTTP/1.1 200 OK\r\ncontent-LENGTH:  5\r\n\r\nhello"

    def serve() -> None:
        assert theirs.recv(100) == REQUEST
        for byte in answer:
            theirs.send(bytes([byte]))

    thread = threading.Thread(target=serve)
    thread.start()
    assert await ask(ours) == answer
    thread.join()


@pytest.mark.parametrize(
    ("answer", "comes"),
    [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcd",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcd",
        ),
        (b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", None),
        (b"x" * 70_000, None),
    ],
)
async def test_what_it_returns_at_once(
    pair: tuple[socket.socket, socket.socket], answer: bytes, comes: bytes | None
) -> None:
    """Bytes that nobody asked for are handed on as well; a head without end is not waited for."""
    ours, theirs = pair
    theirs.sendall(answer)
    found = await ask(ours)
    assert found == (comes or answer)


async def test_no_more_of_a_body_than_was_asked_for(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
    job = await wire().run(trio.socket.from_stdlib_socket(ours), REQUEST, 10)
    first = len(memoryview(job)) - job.head
    # What came with the head is here already, and nothing of it is lost.
    rest = 100_000 - first
    while rest:
        data = await ask(ours, request=None, most=rest)
        assert data == bytes(len(data))
        rest -= len(data)
    assert rest == 0


async def test_a_body_that_lingers_is_handed_on_as_far_as_it_came(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbeg")
    assert (await ask(ours)).endswith(b"\r\n\r\nbeg")
    theirs.sendall(b"inning")
    assert await ask(ours, request=None) == b"inning"


async def test_the_end_is_no_error(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"HTTP/1.1 200")
    theirs.shutdown(socket.SHUT_WR)
    assert await ask(ours) == b"HTTP/1.1 200"
    assert await ask(ours, request=None) == b""


async def test_a_broken_connection_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(BrokenPipeError):
        await ask(ours)


async def test_silence_is_waited_for_no_longer_than_asked(pair: tuple[socket.socket, socket.socket]) -> None:
    """Also in the middle of a head."""
    ours, theirs = pair
    for request in (REQUEST, None):
        if request is not None:
            theirs.sendall(b"HTTP/1.1 200 OK\r\n")
        with pytest.raises(trio.TooSlowError):
            await ask(ours, request=request, seconds=0.05)


async def test_whoever_is_cancelled_has_the_socket_back(pair: tuple[socket.socket, socket.socket]) -> None:
    """The thread does not touch it any more: what comes then is for the next."""
    ours, theirs = pair
    for _ in range(20):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, ours)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
    theirs.sendall(b"HTTP/1.1 204 No\r\n\r\n")
    assert await ask(ours) == b"HTTP/1.1 204 No\r\n\r\n"


async def test_many_at_once() -> None:
    """Each gets its own answer, with some that never come among them."""
    pairs = [socket.socketpair() for _ in range(200)]
    got: dict[int, bytes] = {}
    all_there = trio.Event()

    async def one(number: int) -> None:
        got[number] = await ask(pairs[number][0], seconds=30.0)
        if len(got) == 100:
            all_there.set()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            for number, (ours, _) in enumerate(pairs):
                ours.setblocking(False)
                nursery.start_soon(one, number)
            await trio.testing.wait_all_tasks_blocked()
            for number, (_, theirs) in enumerate(pairs[::2]):
                theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%03d" % (2 * number))
            await all_there.wait()
            scope.cancel()
    assert {number: int(data[-3:]) for number, data in got.items()} == {n: n for n in range(0, 200, 2)}
    for pair in pairs:
        for end in pair:
            end.close()


async def test_so_many_bytes_are_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    """What comes in pieces comes together, as far as it does not keep us waiting."""
    ours, theirs = pair
    sock = trio.socket.from_stdlib_socket(ours)

    def serve() -> None:
        for byte in bytes(range(50)):
            theirs.send(bytes([byte]))

    for _ in range(100):
        thread = threading.Thread(target=serve)
        thread.start()
        came = bytes(memoryview(await wire().run(sock, None, 1000, least=50)))
        thread.join()
        if came == bytes(range(50)):
            return
        while len(came) < 50:  # this machine has kept us waiting
            came += await ask(ours, request=None)
        assert came == bytes(range(50))
    pytest.fail("it never waited")


async def test_the_rest_of_them_is_not_waited_for_long(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    came = trio.Event()
    job = wire().begin(trio.socket.from_stdlib_socket(ours), None, 1000, lambda _: came.set(), least=1000)
    theirs.sendall(b"some")
    with trio.fail_after(5.0):
        await came.wait()
    assert bytes(memoryview(job)) == b"some"


async def test_what_came_before_a_break_is_handed_on() -> None:
    """Also when more was waited for: the break is for whoever asks for the rest."""
    with sockets(tcp=True) as (ours, theirs):
        sock = trio.socket.from_stdlib_socket(ours)
        async with trio.open_nursery() as nursery:
            got: list[bytes] = []

            async def receive() -> None:
                got.append(bytes(memoryview(await wire().run(sock, None, 1000, least=1000))))

            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            theirs.sendall(b"some")
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()
        assert got == [b"some"]


async def test_a_socket_gathers_what_is_waited_for() -> None:
    """It tells of every byte again once the wait is over, and of what came meanwhile nothing is lost."""
    body = bytes(range(256)) * 2000
    with sockets(tcp=True) as (ours, theirs):
        sock = trio.socket.from_stdlib_socket(ours)
        for _ in range(100):
            over, heard = threading.Event(), trio.Event()
            job = wire().begin(
                sock, REQUEST, 1 << 20, lambda _, told=(over, heard): [each.set() for each in told]
            )
            theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:1000])
            gathered = await trio.to_thread.run_sync(_gathers, ours, over)
            theirs.sendall(body[1000:1010])
            with trio.fail_after(5.0):
                await heard.wait()
            came = bytes(memoryview(job))[job.head :]
            assert _least(ours) == 1
            while len(came) < 1010:
                came += await ask(ours, request=None)
            assert came == body[:1010]
            if gathered:
                return
    pytest.fail("it never did")


def _least(sock: socket.socket) -> int:
    """Bytes that it tells of."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


def _gathers(sock: socket.socket, over: threading.Event) -> bool:
    """Whether it is seen to tell of many bytes only, before that is over."""
    while not over.is_set():
        if _least(sock) > 1000:
            return True
    return False


def test_each_run_has_a_thread_of_its_own_that_ends_with_it(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair

    async def one() -> None:
        theirs.sendall(b"HTTP/1.1 204 No\r\n\r\n")
        assert await ask(ours) == b"HTTP/1.1 204 No\r\n\r\n"

    before = threads()
    for _ in range(3):
        trio.run(one)
        # A thread that has been joined is listed a moment longer.
        eventually(lambda: threads() <= before, "its thread has ended")


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_what_cannot_be_a_job_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    io: Io[None] = Io()
    for wrong in (
        (ours.fileno(), None, 0, None),
        (ours.fileno(), b"", -1, None),
        (ours.fileno(), None, 10, None, 11),
        (ours.fileno(), None, 10, None, -1),
        (ours.fileno(), b"", 10, None, 1),
    ):
        with pytest.raises(ValueError, match="at least a byte"):
            io.submit(*wrong)
    with pytest.raises(TypeError):
        io.submit(ours.fileno(), "text", 1, None)  # type: ignore[arg-type]
    job = io.submit(ours.fileno(), REQUEST, 1, None)
    with pytest.raises(BufferError):
        memoryview(job)
    io.close()  # cancels what is left
    assert [done.error for done in io.done()] == [errno.ECANCELED]
    with pytest.raises(ValueError, match="closed"):
        io.submit(ours.fileno(), REQUEST, 1, None)


def test_a_socket_is_silent_until_there_is_something_to_tell(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Asking takes nothing away; a closed descriptor is not silent either."""
    ours, theirs = pair
    assert silent(ours.fileno())
    theirs.send(b"x")
    assert not silent(ours.fileno())
    assert ours.recv(9) == b"x"
    assert silent(ours.fileno())
    theirs.shutdown(socket.SHUT_WR)
    assert not silent(ours.fileno())
    ours.close()
    assert not silent(ours.fileno())
    with pytest.raises(TypeError):
        silent("7")  # type: ignore[arg-type]


def test_one_that_goes_with_an_error_leaves_the_error() -> None:
    with pytest.raises(TypeError):
        Io().submit("no socket", None, 1, None)  # type: ignore[arg-type]
