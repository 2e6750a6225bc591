"""HTTP/2: the contract over it, bodies that are left, servers that leave, answers that break the rules."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import h2.connection
import httpx
import pytest
import trio

from mirror.errors import MirrorError, Stalled, Transient
from mirror.http import http2, streams
from mirror.http.connection import PUBLIC, PUBLIC_ONLY, PrivateAddressError
from mirror.http.transport import Transport
from mirror.http.trust import Trust
from mirror.remotes import How, open_remote
from mirror.remotes.base import Remote
from tests.remotes.contract import RemoteContract, read
from tests.support.certificates import Authority
from tests.support.hostile2 import Answer, good, hostile2
from tests.support.servers import Server, nginx

Opened = Callable[..., Any]
BODY = bytes(range(256)) * 4
ONLY_2 = 'location / { if ($server_protocol != "HTTP/2.0") { return 426; } }'


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("server")


@pytest.fixture
async def opening(authority: Authority) -> AsyncIterator[Opened]:
    async with AsyncExitStack() as stack:

        def opener(url: str, *, deadline: float = 10.0, connections: int = 16) -> Remote:
            how = How(deadline=deadline, connections=connections)
            remote = open_remote(f"{url}?http2&ca={authority.file}", how)
            stack.push_async_callback(remote.aclose)
            return remote

        yield opener


async def whole(remote: Remote, path: str = "f") -> bytes:
    async with remote.open_part(path) as part:
        return await read(part)


# -- the contract ----------------------------------------------------------------------------


@pytest.fixture(scope="class")
def server(root: Path, tls: tuple[Path, Path]) -> Iterator[Server]:
    with nginx(root, autoindex="json", tls=tls, http2=True, extra_conf=ONLY_2) as server:
        yield server


class TestContract(RemoteContract):
    lists_hidden = False
    unwaited = False

    @pytest.fixture
    async def remote(self, server: Server, opening: Opened) -> Remote:
        remote: Remote = opening(server.url)
        return remote


# -- bodies ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "served"
    path.mkdir()
    (path / "f").write_bytes(BODY)
    (path / "large").write_bytes(bytes(64 << 20))
    return path


async def test_bodies_that_are_left(opening: Opened, folder: Path, tls: tuple[Path, Path]) -> None:
    """They take nothing of the connection with them, however many they are."""
    with nginx(folder, tls=tls, http2=True, extra_conf=ONLY_2) as server:
        remote = opening(server.url)
        for _ in range(40):
            async with remote.open_part("large") as part:
                async for _chunk in part:
                    break
        assert await whole(remote) == BODY


async def test_a_body_that_nobody_reads(opening: Opened, folder: Path, tls: tuple[Path, Path]) -> None:
    """It holds up nobody else, and goes on when somebody does."""
    with nginx(folder, tls=tls, http2=True, extra_conf=ONLY_2) as server:
        remote = opening(server.url)
        async with remote.open_part("large") as slow, remote.open_part("large") as other:
            assert await anext(aiter(slow))
            assert sum([len(chunk) async for chunk in other]) == 64 << 20
            for _ in range(20):
                assert await whole(remote) == BODY
            assert sum([len(chunk) async for chunk in slow]) > 62 << 20


async def test_cancelled_exchanges_give_their_turn_back(
    opening: Opened, folder: Path, tls: tuple[Path, Path]
) -> None:
    """Also the one that reads for all others: another one goes on."""
    with nginx(folder, tls=tls, http2=True, rate="8m") as server:
        remote = opening(server.url, connections=4)
        done: list[int] = []

        async def one() -> None:
            async with remote.open_part("large", 0, 3 << 20) as part:
                done.append(len(await read(part)))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(one)
            for _ in range(5):
                with trio.move_on_after(0.02):
                    await whole(remote, "large")
        assert done == [3 << 20] * 3
        assert await whole(remote) == BODY


async def test_connections_are_shared(opening: Opened, folder: Path, tls: tuple[Path, Path]) -> None:
    """As many exchanges as there may be go over one, as long as the server lets them."""
    conf = f"{ONLY_2} http2_max_concurrent_streams 8;"
    with nginx(folder, tls=tls, http2=True, extra_conf=conf) as server:
        remote = opening(server.url, connections=20)
        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(whole, remote)
        transports = remote._client._routes._direct  # type: ignore[attr-defined]
        (known,) = next(iter(transports.values()))._servers.values()
        assert len(known.connections) <= 3


async def test_servers_that_nobody_uses_are_forgotten(
    opening: Opened, folder: Path, tls: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redirects may lead to any number of them."""
    monkeypatch.setattr(http2, "SERVERS", 1)
    with (
        nginx(folder, tls=tls, http2=True, extra_conf=ONLY_2) as other,
        nginx(folder, tls=tls, http2=True, extra_conf=f"location / {{ return 302 {other.url}f; }}") as server,
    ):
        remote = opening(server.url)
        for _ in range(3):
            assert await whole(remote) == BODY
        (transport,) = remote._client._routes._direct.values()  # type: ignore[attr-defined]
        assert len(transport._servers) == 1


# -- servers that leave ----------------------------------------------------------------------


async def test_a_server_that_ends_its_connections(
    opening: Opened, folder: Path, tls: tuple[Path, Path]
) -> None:
    """Between two requests, or by saying that it takes no more: nobody notices."""
    with nginx(folder, tls=tls, http2=True, extra_conf=f"{ONLY_2} keepalive_requests 3;") as server:
        remote = opening(server.url)
        for _ in range(12):
            assert await whole(remote) == BODY
        server.restart()
        assert await whole(remote) == BODY


async def test_a_server_that_stands_still(
    opening: Opened, folder: Path, tls: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has stalled; when it goes on it is asked over another connection."""
    monkeypatch.setattr(streams, "SEND_SECONDS", 0.5)
    with nginx(folder, tls=tls, http2=True, extra_conf=ONLY_2) as server:
        remote = opening(server.url, deadline=0.5)
        assert await whole(remote) == BODY
        server.pause()
        with pytest.raises(Stalled):
            await whole(remote)
        server.resume()
        assert await whole(remote) == BODY


# -- answers that break the rules ------------------------------------------------------------


def _reset(state: h2.connection.H2Connection, number: int, _: socket.socket) -> None:
    state.reset_stream(number, 2)


def _goes(state: h2.connection.H2Connection, _number: int, _: socket.socket) -> None:
    state.close_connection(last_stream_id=0)


def _refuses(state: h2.connection.H2Connection, number: int, _: socket.socket) -> None:
    state.reset_stream(number, 7)


def _hangs_up(_state: h2.connection.H2Connection, _number: int, wire: socket.socket) -> None:
    wire.shutdown(socket.SHUT_RDWR)


def _short(state: h2.connection.H2Connection, number: int, _: socket.socket) -> None:
    state.send_headers(number, [(":status", "200"), ("content-length", "1000"), ("etag", '"x"')])
    state.send_data(number, b"short", end_stream=True)


def _long(state: h2.connection.H2Connection, number: int, _: socket.socket) -> None:
    state.send_headers(number, [(":status", "200"), ("content-length", "3"), ("etag", '"x"')])
    state.send_data(number, b"longer", end_stream=True)


def _cut(state: h2.connection.H2Connection, number: int, _: socket.socket) -> None:
    state.send_headers(number, [(":status", "200"), ("content-length", "1000"), ("etag", '"x"')])
    state.send_data(number, b"begun")
    state.reset_stream(number, 2)


def _garbage(_state: h2.connection.H2Connection, _number: int, wire: socket.socket) -> None:
    wire.sendall(b"HTTP/1.1 200 OK\r\n\r\n" * 10)


def _no_status(state: h2.connection.H2Connection, number: int, _: socket.socket) -> None:
    state.send_headers(number, [("etag", '"x"')], end_stream=True)


def _huge_head(state: h2.connection.H2Connection, number: int, _: socket.socket) -> None:
    state.send_headers(number, [(":status", "200"), *((f"x-{n}", "y" * 4000) for n in range(40))])


BROKEN: dict[str, Answer] = {
    "reset": _reset,
    "cut": _cut,
    "short": _short,
    "longer than stated": _long,
    "hung up": _hangs_up,
    "garbage": _garbage,
    "no status": _no_status,
    "a huge head": _huge_head,
}


@pytest.mark.parametrize("how", BROKEN)
async def test_an_answer_that_is_none(how: str, opening: Opened, tls: tuple[Path, Path]) -> None:
    """Never a short file, never a hang; the next request is answered."""
    with hostile2(tls, [BROKEN[how], good(BODY)]) as url:
        remote = opening(url, deadline=2.0)
        # The garbage is the beginning of a very long frame.
        with pytest.raises(Stalled if how == "garbage" else Transient):
            await whole(remote)
        assert await whole(remote) == BODY


async def test_a_request_that_the_server_has_not_begun(opening: Opened, tls: tuple[Path, Path]) -> None:
    """It is asked again, on another connection, and nobody hears of it."""
    with hostile2(tls, [_goes, good(BODY)]) as url:
        assert await whole(opening(url)) == BODY


async def test_a_server_that_begins_nothing(opening: Opened, tls: tuple[Path, Path]) -> None:
    """It is not asked for ever."""
    for refusal in (_goes, _refuses):
        with hostile2(tls, [refusal]) as url, pytest.raises(Transient, match="begins no exchange"):
            await whole(opening(url))
        with hostile2(tls, [refusal, good(BODY)]) as url:
            assert await whole(opening(url)) == BODY


async def test_who_may_send_us_where(
    tls: tuple[Path, Path], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer says whether it came from the Internet, and a request may be for the Internet alone."""
    trust = Trust.of(str(authority.file))
    with hostile2(tls, [good(BODY)]) as url:
        for public in (False, True):
            monkeypatch.setattr(streams, "is_public", lambda _address, public=public: public)
            transport = http2.Http2(4, lambda: trust, Transport(4, lambda: trust))

            async def ask(transport: http2.Http2, *, public_only: bool) -> httpx.Response:
                extensions = {"timeout": {"read": 5.0}, PUBLIC_ONLY: public_only}
                request = httpx.Request("GET", f"{url}f", extensions=extensions)
                response = await transport.handle_async_request(request)
                assert await response.aread() == BODY
                return response

            assert (await ask(transport, public_only=False)).extensions[PUBLIC] is public
            if public:
                await ask(transport, public_only=True)
            else:
                with pytest.raises(PrivateAddressError, match="not public"):
                    await ask(transport, public_only=True)
            await transport.aclose()


async def test_a_connection_that_was_closed_while_idle(opening: Opened, tls: tuple[Path, Path]) -> None:
    with hostile2(tls, [good(BODY), _hangs_up, good(BODY)]) as url:
        remote = opening(url)
        for _ in range(2):
            assert await whole(remote) == BODY


async def test_one_bad_answer_is_no_fault_of_the_others(
    opening: Opened, tls: tuple[Path, Path], authority: Authority
) -> None:
    """What breaks the connection is worth another try for all that went over it."""
    with hostile2(tls, [_hangs_up]) as url:
        remote = opening(url)
        failures: list[MirrorError] = []

        async def one() -> None:
            with pytest.raises(Transient) as caught:
                await whole(remote)
            failures.append(caught.value)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
        assert len(failures) == 5
