"""Https against real servers: every way of sealing brings the same bytes, and failures have their words."""

from __future__ import annotations

import fcntl
import gc
import os
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import httpx
import pytest
import trio

from mirror.errors import MirrorError, OriginFailed, ProtocolError, SetupError, Stalled, Transient
from mirror.http.connection import Asked, Origin
from mirror.http.routes import Reach
from mirror.http.transport import Transport
from mirror.http.trust import Trust
from tests.remotes.conftest import Opener
from tests.remotes.test_transport import whole
from tests.support.certificates import Authority, certificate
from tests.support.data import noise
from tests.support.sealing import Files, Sealing
from tests.support.servers import nginx
from tests.support.waiting import eventually

SIZES = {"0": 0, "1": 1, "k": 70_001, "m": 5 << 20}
BODIES = {name: noise(("tls", name), size) for name, size in SIZES.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    for name, body in BODIES.items():
        (folder / name).write_bytes(body)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return certificate(tmp_path_factory.mktemp("certificate"), "IP:127.0.0.1")


async def bodies(url: str, files: Files, *, limit: int = 4) -> Transport:
    """Fetch all of them, some at once and over connections that are used again; returns what has those."""
    trust = Trust.of(str(files[0]))
    transport = Transport(limit, lambda: trust)
    origin = Origin.of(httpx.URL(url))

    async def one(name: str) -> None:
        headers = [(b"Host", b"127.0.0.1")]
        response = await transport.ask(origin, Asked("GET", f"/{name}".encode(), headers, 30.0))
        assert b"".join([bytes(chunk) async for chunk in response.aiter_raw()]) == BODIES[name]
        await response.aclose()

    for _ in range(3):
        async with trio.open_nursery() as nursery:
            for name in BODIES:
                nursery.start_soon(one, name)
    return transport


WAYS = [
    ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "ec"),
    ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "rsa"),
    ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256", "ec"),
    ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", "ec"),
    ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305", "ec"),
    ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384", "rsa"),
    ("TLSv1.2", "ECDHE-RSA-AES256-SHA384", "rsa"),
    ("TLSv1.2", "DHE-RSA-AES128-GCM-SHA256", "rsa"),
]


@pytest.mark.parametrize(("version", "cipher", "key"), WAYS)
async def test_every_way_of_sealing(
    folder: Path, tmp_path: Path, version: str, cipher: str, key: str
) -> None:
    """All bytes are right: of nothing, of one, of many records."""
    files = certificate(tmp_path, "IP:127.0.0.1", key=key)
    conf = f"ssl_protocols {version};"
    if version == "TLSv1.3":
        conf += f"ssl_conf_command Ciphersuites {cipher};"
    else:
        conf += f"ssl_ciphers {cipher};"
    if cipher.startswith("DHE"):
        make = "openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 -out"
        subprocess.run([*make.split(), tmp_path / "dh.pem"], check=True)
        conf += f"ssl_dhparam {tmp_path}/dh.pem;"
    with nginx(folder, tls=files, extra_conf=conf) as server:
        transport = await bodies(server.url, files)
        [idle] = transport._idle.values()
        for connection in idle:
            assert connection.tls is not None
            assert connection.tls.agreed == (version, cipher)
        await transport.aclose()


async def test_small_buffers_of_a_server(folder: Path, files: Files) -> None:
    """Records of whatever size it makes them."""
    for size in ("1k", "7777", "64k"):
        with nginx(folder, tls=files, extra_conf=f"ssl_buffer_size {size};") as server:
            await (await bodies(server.url, files)).aclose()


# -- a server that does as it is told --------------------------------------------------------


@contextmanager
def serving(files: Files, *turns: Callable[[Sealing], None], shakes: bool = True) -> Iterator[str]:
    """A server whose connections go so, one after the other; then each is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for turn in turns:
                with suppress(OSError):  # the client has left, or the listener has been closed
                    conn, _ = listener.accept()
                    with conn:
                        conn.settimeout(30.0)
                        server = Sealing(conn, files)
                        if shakes:
                            server.shake()
                        turn(server)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


HEAD = b'HTTP/1.1 200 OK\r\nETag: "one"\r\nContent-Length: %d\r\n\r\n'


def answer(server: Sealing, *contents: bytes) -> None:
    """Read a request, and send these records."""
    asked = b""
    while not asked.endswith(b"\r\n\r\n"):
        asked += server.asked(1)
    server.send(*contents)


async def test_a_kept_connection_is_used_again(opened: Opener, files: Files) -> None:
    def twice(server: Sealing) -> None:
        answer(server, HEAD % 3 + b"one")
        answer(server, HEAD % 3, b"two")

    with serving(files, twice) as url:
        remote = opened(url, trust=Trust.of(str(files[0])))
        assert await whole(remote) == b"one"
        assert await whole(remote) == b"two"


@pytest.mark.parametrize("later", [False, True])
async def test_unasked_records_end_a_connection(opened: Opener, files: Files, later: bool) -> None:
    """What comes after an answer is never read as the next one, however it came."""
    asked = threading.Event()
    evil = HEAD % 4 + b"evil"

    def first(server: Sealing) -> None:
        if later:
            answer(server, HEAD % 3 + b"one")
            server.send(evil)
        else:
            answer(server, HEAD % 3 + b"one", evil)
        asked.wait(30)

    with serving(files, first, lambda server: answer(server, HEAD % 3 + b"two")) as url:
        remote = opened(url, trust=Trust.of(str(files[0])))
        assert await whole(remote) == b"one"
        transport = remote._client.transport(Origin.of(httpx.URL(url)))
        assert isinstance(transport, Transport)
        [[connection]] = transport._idle.values()
        eventually(lambda: not connection.quiet(), "it has come")
        asked.set()
        assert await whole(remote) == b"two"


async def test_a_goodbye_ends_an_idle_connection(opened: Opener, files: Files) -> None:
    over = threading.Event()

    def first(server: Sealing) -> None:
        answer(server, HEAD % 3, b"one")
        server.socket.sendall(server.goodbye())
        over.wait(30)

    with serving(files, first, lambda server: answer(server, HEAD % 3 + b"two")) as url:
        remote = opened(url, trust=Trust.of(str(files[0])))
        assert await whole(remote) == b"one"
        over.set()
        assert await whole(remote) == b"two"


async def test_more_than_was_stated(opened: Opener, files: Files) -> None:
    for contents in ((HEAD % 3 + b"more",), (HEAD % 20_000, bytes(20_001))):
        with (
            serving(files, lambda server, contents=contents: answer(server, *contents)) as url,
            pytest.raises(ProtocolError, match="longer than"),
        ):
            await whole(opened(url, trust=Trust.of(str(files[0]))))


@pytest.mark.parametrize("size", [100, 3 << 20])
@pytest.mark.parametrize("ending", ["polite", "cut", "garbage"])
async def test_a_body_that_is_cut(opened: Opener, files: Files, ending: str, size: int) -> None:
    """A failure that may pass, with a goodbye or without."""

    def cut(server: Sealing) -> None:
        answer(server, HEAD % size, bytes(size - 1))
        if ending != "cut":
            server.socket.sendall(server.goodbye() if ending == "polite" else bytes(50))

    with serving(files, cut) as url, pytest.raises(Transient, match="the connection broke"):
        await whole(opened(url, trust=Trust.of(str(files[0]))))


async def test_a_server_that_is_silent_in_the_handshake(opened: Opener, files: Files) -> None:
    over = threading.Event()
    with serving(files, lambda _server: over.wait(30) and None, shakes=False) as url:
        with pytest.raises(Stalled, match=r"no connection within 0\.2 s"):
            await whole(opened(url, deadline=0.2, trust=Trust.of(str(files[0]))))
        over.set()


async def test_the_words_are_those_of_http2(opened: Opener, files: Files, tmp_path: Path) -> None:
    """Which Python's `ssl` makes its connections for: the same failure is told in the same way."""
    (tmp_path / "other").mkdir()
    other = certificate(tmp_path / "other", "DNS:example.org")

    async def said(url: str, trust: Trust | None) -> str:
        lines: set[str] = set()
        for http2 in (False, True):
            with pytest.raises(MirrorError) as caught:
                await whole(opened(url, deadline=5.0, reach=Reach(trust=trust, http2=http2)))
            lines.add(f"{type(caught.value).__name__}: {caught.value}".replace(url, "URL"))
        [line] = lines
        return line

    def plainly(server: Sealing) -> None:
        server.socket.sendall(b"HTTP/1.1 400 No\r\n\r\n")
        server.socket.recv(65536)

    with nginx(tmp_path, tls=files) as server:
        assert await said(server.url, None) == (
            "OriginFailed: URLf: the server's certificate is not trusted (self-signed certificate)"
        )
    with nginx(tmp_path, tls=other) as server:
        assert await said(server.url, Trust.of(str(other[0]))) == (
            "OriginFailed: URLf: the server's certificate is not trusted "
            "(IP address mismatch, certificate is not valid for '127.0.0.1'.)"
        )
        named = server.url.replace("127.0.0.1", "localhost")
        assert await said(named, Trust.of(str(other[0]))) == (
            "OriginFailed: URLf: the server's certificate is not trusted "
            "(Hostname mismatch, certificate is not valid for 'localhost'.)"
        )
    with serving(files, plainly, plainly, shakes=False) as url:
        assert await said(url, None) == (
            "OriginFailed: URLf: no TLS connection (WRONG_VERSION_NUMBER); is it http: only?"
        )


# -- what only a program that is given commands does -----------------------------------------


async def test_keys_that_change_on_the_way(files: Files) -> None:
    """The other side may renew its keys, and ask us to renew ours, at any time; tickets come as well."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_3", "-num_tickets", "5"]
    with subprocess.Popen(
        [*command, "-cert", files[0], "-key", files[1]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
    ) as server:
        stdin, stdout = server.stdin, server.stdout
        assert stdin is not None
        assert stdout is not None
        trust = Trust.of(str(files[0]))
        transport = Transport(1, lambda: trust)

        def answer_to(number: int) -> None:
            _until(stdout, b"GET /%d" % number)
            stdin.write(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n")

        try:
            _until(stdout, b"ACCEPT")
            for number in range(3):
                thread = threading.Thread(target=answer_to, args=(number,))
                thread.start()
                asked = Asked("GET", b"/%d" % number, [(b"Host", b"h")], 30.0)
                response = await transport.ask(Origin("https", "127.0.0.1", port), asked)
                thread.join()
                # It takes a command for one when it comes alone: after what was said before has come.
                assert isinstance(response.stream, httpx.AsyncByteStream)
                chunks = aiter(response.stream)
                for renew in (b"k\n", b"K\n", b"K\n"):
                    stdin.write(renew)
                    eventually(lambda: unread(stdin.fileno()) == 0, "it is taken")
                    stdin.write(b"123456789\n")
                    assert bytes(await anext(chunks)) == b"123456789\n"
                await response.aclose()
            await transport.aclose()
        finally:
            server.kill()


def unread(pipe: int) -> int:
    """Bytes in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def _until(stream: object, words: bytes) -> None:
    """Read until these have come."""
    came = b""
    while words not in came:
        more = os.read(stream.fileno(), 4096)  # type: ignore[attr-defined]
        assert more, came
        came += more


# -- what is left ----------------------------------------------------------------------------


async def test_nothing_is_left_of_a_thousand_connections(files: Files) -> None:
    """Neither descriptors nor memory, whether they end well or not."""
    trust = Trust.of(str(files[0]))
    origin = Origin.of(httpx.URL("https://127.0.0.1/"))
    asked = Asked("GET", b"/", [(b"Host", b"h")], 30.0)

    async def many(count: int) -> None:
        turns: list[Callable[[Sealing], None]] = [
            lambda server: answer(server, HEAD % 20_000, bytes(20_000), b"unasked"),
            lambda server: answer(server, HEAD % 20_000, bytes(10_000)),
            lambda server: server.socket.sendall(bytes(100)),
        ]
        with serving(files, *(turns[number % 3] for number in range(count))) as url:
            there = Origin("https", origin.host, httpx.URL(url).port or 443)
            for number in range(count):
                transport = Transport(1, lambda: trust)
                with nullcontext() if number % 3 == 0 else pytest.raises(httpx.TransportError):
                    await (await transport.ask(there, asked)).aread()
                await transport.aclose()

    await many(300)
    gc.collect()
    before = _descriptors(), _resident()
    await many(999)
    gc.collect()
    assert _descriptors() <= before[0]  # fewer: earlier tests may have left some that are gone by now
    # OpenSSL has some 40 KiB for a connection.
    assert _resident() - before[1] < 8 << 20


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


# -- whom to trust ---------------------------------------------------------------------------


def test_a_password_is_in_no_text(tmp_path: Path) -> None:
    """Neither of the settings nor of what is wrong with them, and it is not kept."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("client")
    secret = authority.encrypted(key, "s3cret pass")
    trust = Trust.of(str(authority.file), str(cert), str(secret), "s3cret pass")
    assert "s3cret" not in repr(trust)
    for wrong in ("wr0ng", None, "x" * 5000):
        with pytest.raises(SetupError) as caught:
            Trust.of(str(authority.file), str(cert), str(secret), wrong)
        assert not (wrong and wrong in str(caught.value))
        assert caught.value.__cause__ is None


async def test_usual_authorities_do_not_vouch_for_a_test(
    opened: Opener, folder: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SSL_CERT_FILE` names others, instead of them."""
    with nginx(folder, tls=files) as server:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        with pytest.raises(OriginFailed, match="not trusted"):
            await whole(opened(server.url), "k")
        monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
        assert await whole(opened(server.url), "k") == BODIES["k"]
