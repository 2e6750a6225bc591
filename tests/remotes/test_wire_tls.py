"""The thread that seals and opens: whatever the records are, and however the other side ends."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import ssl
import struct
import termios
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from mirror.http._wire import Context, Io, Tls
from mirror.http.wire import HandshakeError, UntrustedError, wire
from tests.support.certificates import certificate
from tests.support.sealing import Files, Sealing
from tests.support.sockets import sockets
from tests.support.waiting import eventually

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
V2, V3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BODY = bytes(range(251)) * 400
NAME = r"[A-Z_]{10}"
"""As OpenSSL calls an error."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return certificate(tmp_path_factory.mktemp("certificate"), "DNS:localhost")


class Ours:
    """The client's end, as a connection has it."""

    def __init__(self, sock: socket.socket, files: Files, host: str = "localhost") -> None:
        self.socket = trio.socket.from_stdlib_socket(sock)
        self.tls = Tls(Context(str(files[0])), host)

    async def shake(self) -> None:
        await wire().shake(self.socket, self.tls)

    async def run(self, request: bytes | None, most: int = 1 << 20, *, least: int = 0) -> bytes:
        job = await wire().run(self.socket, request, most, least=least, tls=self.tls)
        return bytes(memoryview(job))

    async def all_of(self, request: bytes, size: int) -> bytes:
        """All of an answer; a machine that is busy may keep us waiting for the rest of it."""
        came = await self.run(request)
        while len(came) < size:
            came += await self.run(None)
        return came


@asynccontextmanager
async def connected(
    files: Files, *, version: ssl.TLSVersion = V3, tcp: bool = False
) -> AsyncIterator[tuple[Ours, Sealing]]:
    """Both ends, with keys."""
    with sockets(tcp=tcp) as (ours, theirs):
        client, server = Ours(ours, files), Sealing(theirs, files, version=version)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.shake)
                await trio.to_thread.run_sync(server.shake)
            yield client, server


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


# -- records ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V2, V3])
@pytest.mark.parametrize("size", [1, 100, 16 * 1024 - 1, 16 * 1024, 1 << 20])
async def test_records_of_any_size(files: Files, version: ssl.TLSVersion, size: int) -> None:
    """Head and body come in one piece, over a connection that is used again."""
    async with connected(files, version=version) as (ours, theirs):
        for length in (0, 1, 3000, 50_000):
            answer = HEAD % length + BODY[:length]

            def serve(answer: bytes = answer) -> None:
                assert theirs.asked(len(REQUEST)) == REQUEST
                theirs.send(*(answer[at : at + size] for at in range(0, len(answer), size)))

            thread = in_thread(serve)
            assert await ours.all_of(REQUEST, len(answer)) == answer
            await trio.to_thread.run_sync(thread.join)
            assert ours.tls.quiet


@pytest.mark.parametrize("version", [V2, V3])
async def test_records_that_come_in_pieces(files: Files, version: ssl.TLSVersion) -> None:
    """Cut at every byte."""
    async with connected(files, version=version) as (ours, theirs):
        answer = HEAD % 40 + BODY[:40]

        def serve() -> None:
            assert theirs.asked(len(REQUEST)) == REQUEST
            for byte in theirs.records(answer[:25], answer[25:60], answer[60:]):
                theirs.socket.send(bytes([byte]))

        thread = in_thread(serve)
        assert await ours.all_of(REQUEST, len(answer)) == answer
        thread.join()


async def test_a_large_body_comes_in_parts(files: Files) -> None:
    """What was taken from the socket and not asked for yet is for the next, without another byte coming."""
    body = os.urandom(5 << 20)
    async with connected(files) as (ours, theirs):
        thread = in_thread(lambda: theirs.send(HEAD % len(body) + body[:1000], body[1000:]))
        came = (await ours.run(REQUEST, 1000)).partition(b"\r\n\r\n")[2]
        while len(came) < len(body):
            most = min(1 + len(came) % 200_000, len(body) - len(came))
            more = await ours.run(None, most, least=most)
            assert 0 < len(more) <= most
            came += more
        assert came == body
        thread.join()
        assert ours.tls.quiet


async def test_a_request_that_the_socket_does_not_take_at_once(files: Files) -> None:
    request = os.urandom(3 << 20)
    async with connected(files) as (ours, theirs):
        came: list[bytes] = []

        def serve() -> None:
            came.append(theirs.asked(len(request)))
            theirs.send(HEAD % 0)

        thread = in_thread(serve)
        assert await ours.run(request) == HEAD % 0
        thread.join()
        assert came == [request]


async def test_whoever_sends_little_in_each_record_keeps_nobody_waiting(files: Files) -> None:
    """The answer of another connection comes while such records come."""
    async with connected(files) as (ours, theirs), connected(files) as (other, their_other):
        over = threading.Event()
        flood = theirs.records(*[b"x"] * 200_000)

        def send() -> None:
            theirs.socket.sendall(flood)
            over.wait()
            theirs.socket.sendall(flood[:1])  # not whole

        thread = in_thread(send)
        came: list[int] = []

        async def receive() -> None:
            came.append(len(await ours.run(None, 200_000, least=200_000)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            their_other.send(HEAD % 1 + b"a")
            assert await other.run(REQUEST) == HEAD % 1 + b"a"
            over.set()
        while sum(came) < 200_000:
            came.append(len(await ours.run(None)))
        await trio.to_thread.run_sync(thread.join)
        assert sum(came) == 200_000


# -- ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V2, V3])
@pytest.mark.parametrize("polite", [True, False])
async def test_the_end_is_no_error(files: Files, polite: bool, version: ssl.TLSVersion) -> None:
    """With a goodbye and without; all that came is handed on, and a connection that is over is not quiet."""
    async with connected(files, version=version) as (ours, theirs):
        theirs.send(HEAD % 100 + BODY[:10])
        theirs.socket.sendall(theirs.goodbye() if polite else b"")
        if not polite:
            theirs.socket.shutdown(socket.SHUT_WR)
        assert await ours.run(REQUEST) == HEAD % 100 + BODY[:10]
        assert await ours.run(None) == b""
        assert await ours.run(None) == b""
        assert not ours.tls.quiet
        with pytest.raises(BrokenPipeError):
            await ours.run(REQUEST)


async def test_a_record_that_is_cut_is_an_end(files: Files) -> None:
    async with connected(files) as (ours, theirs):
        theirs.send(BODY[:10])
        theirs.socket.sendall(theirs.records(BODY)[:1000])
        theirs.socket.shutdown(socket.SHUT_WR)
        assert await ours.run(None, least=1 << 20) == BODY[:10]
        assert await ours.run(None) == b""


@pytest.mark.parametrize(
    "garbage",
    [
        bytes(100),
        b"HTTP/1.1 500 No\r\n\r\n",
        b"\x17\x03\x03\x00\x20" + bytes(32),
        b"\x15\x03\x03\x00\x02\x02\x28",
    ],
)
@pytest.mark.parametrize("version", [V2, V3])
async def test_what_came_before_garbage_is_handed_on(
    files: Files, version: ssl.TLSVersion, garbage: bytes
) -> None:
    """The failure is for whoever asks for the rest, and for all after him."""
    async with connected(files, version=version) as (ours, theirs):
        theirs.socket.sendall(theirs.records(BODY[:10], BODY[10:20]) + garbage)
        assert await ours.run(None, 1000, least=1000) == BODY[:20]
        for _ in range(2):
            with pytest.raises(OSError, match=NAME) as caught:
                await ours.run(None)
            assert caught.value.errno == errno.EPROTO
        assert not ours.tls.quiet
        with pytest.raises(OSError, match=NAME):
            await ours.run(REQUEST)


async def test_garbage_in_an_answer(files: Files) -> None:
    async with connected(files) as (ours, theirs):
        theirs.socket.sendall(theirs.records(HEAD % 100) + bytes(100))
        with pytest.raises(OSError, match=NAME):
            await ours.run(REQUEST)


async def test_a_reset(files: Files) -> None:
    """What came before is handed on, however far the thread was."""
    async with connected(files, tcp=True) as (ours, theirs):
        came: list[bytes] = []

        async def receive() -> None:
            came.append(await ours.run(None, 1000, least=1000))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            theirs.send(BODY[:10])
            await trio.to_thread.run_sync(_taken, theirs.socket.fileno(), ours.socket.fileno())
            theirs.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.socket.close()
        assert came == [BODY[:10]]
        assert not ours.tls.quiet or ours.socket.is_readable()


def _taken(theirs: int, ours: int) -> None:
    """Wait until what was sent is there, then until the thread has taken it: a reset would cost it that."""
    eventually(lambda: fcntl.ioctl(theirs, termios.TIOCOUTQ, bytes(4)) == bytes(4), "it is there")
    eventually(lambda: fcntl.ioctl(ours, termios.FIONREAD, bytes(4)) == bytes(4), "it is taken")


# -- two exchanges over one connection -------------------------------------------------------


async def test_unasked_records_are_seen(files: Files) -> None:
    """In the same record as the answer, in one that came with it, and in one that comes later."""
    async with connected(files) as (ours, theirs):
        theirs.send(HEAD % 1 + b"a" + b"more")
        assert await ours.run(REQUEST) == HEAD % 1 + b"amore"
    async with connected(files) as (ours, theirs):
        theirs.send(HEAD % 1 + b"a", b"more")
        assert (await ours.run(REQUEST)).startswith(HEAD % 1 + b"a")
        assert not ours.tls.quiet or ours.socket.is_readable()
        assert (await ours.run(None)).endswith(b"more"[1:])


# -- the handshake ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 No\r\n\r\n", "WRONG_VERSION_NUMBER"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "SSLV3_ALERT_HANDSHAKE_FAILURE"),
        (b"\x16\x03\x03\x00\x04\x02\x00\x00\x00", "LENGTH_MISMATCH"),
    ],
)
async def test_what_is_no_handshake(files: Files, answer: bytes, reason: str) -> None:
    with sockets() as (ours, theirs):
        client = Ours(ours, files)
        theirs.sendall(answer)
        with pytest.raises(HandshakeError) as caught:
            await client.shake()
        assert caught.value.reason == reason
        assert client.tls.agreed is None


async def test_a_server_that_closes_in_the_handshake(files: Files) -> None:
    for said in (b"", b"\x16\x03\x03\x00\x50\x02\x00"):
        with sockets() as (ours, theirs):
            theirs.sendall(said)
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises(OSError, match="closed in the handshake"):
                await Ours(ours, files).shake()


NAMES = [
    ("DNS:example.org", "example.org", True),
    ("DNS:example.org", "EXAMPLE.org", True),
    ("DNS:example.org", "www.example.org", False),
    ("DNS:*.example.org", "www.example.org", True),
    ("DNS:*.example.org", "example.org", False),
    ("DNS:*.example.org", "a.b.example.org", False),
    ("DNS:w*.example.org", "www.example.org", False),
    ("DNS:*", "localhost", False),
    ("DNS:127.0.0.1", "127.0.0.1", False),
    ("IP:127.0.0.1", "127.0.0.1", True),
    ("IP:127.0.0.1", "127.0.0.2", False),
    ("IP:::1", "::1", True),
]


def python_trusts(files: Files, host: str) -> bool:
    """Whether Python's `ssl` does, without a socket."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*files)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = ssl.create_default_context(cafile=str(files[0]))
    client = ours.wrap_bio(down, up, server_hostname=host)
    server = theirs.wrap_bio(up, down, server_side=True)
    for end in (client, server, client):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return True


@pytest.mark.parametrize(("issued", "host", "good"), NAMES)
async def test_whom_a_certificate_names(tmp_path: Path, issued: str, host: str, good: bool) -> None:
    """As Python judges it. A server is told names only, to choose a certificate by, and why it is left."""
    files = certificate(tmp_path, issued)
    assert python_trusts(files, host) == good
    named: list[str | None] = []
    failed: list[ssl.SSLError] = []
    with sockets() as (ours, theirs):
        client, server = Ours(ours, files, host), Sealing(theirs, files, named=named.append)

        def serve() -> None:
            try:
                server.shake()
                server.asked(1)
            except ssl.SSLError as exc:
                failed.append(exc)

        thread = in_thread(serve)
        if good:
            await client.shake()
            assert client.tls.agreed is not None
            ours.shutdown(socket.SHUT_WR)
        else:
            with pytest.raises(UntrustedError, match=f"mismatch, certificate is not valid for '{host}'"):
                await client.shake()
        await trio.to_thread.run_sync(thread.join)
        assert named == [None if host[0] in "1:" else host]
        assert good or "BAD_CERTIFICATE" in str(failed[0])


async def test_a_server_that_only_knows_what_is_too_old(files: Files) -> None:
    with sockets() as (ours, theirs):
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            server = Sealing(theirs, files, version=ssl.TLSVersion.TLSv1_1)

        def serve() -> None:
            with pytest.raises(ssl.SSLError):
                server.shake()

        thread = in_thread(serve)
        with pytest.raises(HandshakeError, match="ALERT"):
            await Ours(ours, files).shake()
        thread.join()


# -- who lets go -----------------------------------------------------------------------------


async def test_whoever_is_cancelled_has_the_connection_back(files: Files) -> None:
    """In the handshake, before the head, and in the body."""
    with sockets() as (ours, _):
        await _cancelled(Ours(ours, files).shake)
    async with connected(files) as (client, theirs):
        await _cancelled(lambda: client.run(REQUEST))
        theirs.send(HEAD % 100)
        assert await client.run(None) == HEAD % 100
        theirs.send(BODY[:10])
        assert await client.run(None) == BODY[:10]
        await _cancelled(lambda: client.run(None, least=100))
        theirs.send(b"x")
        assert await client.run(None) == b"x"


async def _cancelled(run: Callable[[], object]) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)  # type: ignore[arg-type]
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught


async def test_what_cannot_be_is_refused(files: Files) -> None:
    context = Context(str(files[0]))
    for host in ("", "a\0b", "x" * 300):
        with pytest.raises(ValueError, match=r"no name|null"):
            Tls(context, host)
    with pytest.raises(TypeError):
        Tls(None, "localhost")  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Errno 22"):
        Context(str(files[0].parent / "absent"))
    with pytest.raises(OSError, match=r"(?i)key values mismatch|no start line|no certificate"):
        Context(str(files[0]), str(files[1]))
    with sockets() as (ours, theirs):
        io: Io[None] = Io()
        tls = Tls(context, "localhost")
        job = io.shake(ours.fileno(), tls, None)
        assert not tls.quiet
        assert (tls.reason, tls.untrusted, tls.agreed) == ("", False, None)
        with pytest.raises(ValueError, match="has a job"):
            io.submit(ours.fileno(), None, 1, None, 0, tls)
        with pytest.raises(TypeError):
            io.submit(ours.fileno(), None, 1, None, 0, object())  # type: ignore[arg-type]
        theirs.close()
        io.close()
        assert [done.error != 0 for done in io.done()] == [True]
        assert io.done() == []
        del job
        with pytest.raises(ValueError, match="closed"):
            io.shake(ours.fileno(), tls, None)


async def test_a_socket_that_is_closed_is_nobody_elses(files: Files) -> None:
    """A job of a connection that was closed fails, whoever has its number now."""
    async with connected(files) as (ours, _):
        ours.socket.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            await ours.run(REQUEST)
        ours.tls = Tls(Context(str(files[0])), "localhost")
