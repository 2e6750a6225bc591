"""Connections: kept, limited, dropped when in doubt; TLS is verified."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import httpx
import pytest
import trio

from mirror.errors import MirrorError, OriginFailed, SetupError
from mirror.http.connection import CHUNK
from mirror.http.transport import Transport
from mirror.http.trust import Trust
from mirror.remotes.http import HttpRemote
from tests.remotes.conftest import Opener
from tests.remotes.contract import read
from tests.support.certificates import certificate
from tests.support.hostile import Hangup, Seen, Wire, good, hostile, in_turn, status, truncated
from tests.support.servers import nginx

BODY = bytes(range(256)) * 40


async def whole(remote: HttpRemote, name: str = "f") -> bytes:
    async with remote.open_part(name) as part:
        return await read(part)


async def test_one_connection_serves_many_requests(opened: Opener) -> None:
    """Bodies read, refused, and empty ones all leave it usable."""
    with hostile({"/f": good(BODY), "/e": good(b"")}) as server:
        remote = opened(server.url)
        for _ in range(5):
            assert await whole(remote) == BODY
            assert await whole(remote, "e") == b""
            await remote.stat("f")
            with pytest.raises(MirrorError):
                await remote.stat("absent")
        assert server.connections == 1
        assert remote.requests == len(server.seen) == 20


async def test_a_body_left_unread_costs_its_connection(opened: Opener) -> None:
    with hostile({"/f": good(bytes(64 << 20)), "/g": good(BODY)}) as server:
        remote = opened(server.url)
        async with remote.open_part("f"):
            pass
        assert await whole(remote, "g") == BODY
        assert server.connections == 2


async def test_a_connection_closed_while_idle_is_replaced(opened: Opener) -> None:
    """Whether that shows before the next request is sent or only after: no failure of that request."""

    def last_word(seen: Seen, wire: Wire) -> None:
        good(BODY)(seen, wire)
        raise Hangup

    def no_word(_seen: Seen, _wire: Wire) -> None:
        raise Hangup

    behaviours = {"/f": last_word, "/g": in_turn(good(BODY), no_word, good(BODY))}
    with hostile(behaviours) as server:
        remote = opened(server.url)
        for _ in range(3):
            assert await whole(remote) == BODY
        assert await whole(remote, "g") == BODY
        assert await whole(remote, "g") == BODY


async def test_unasked_bytes_end_a_connection(opened: Opener) -> None:
    """What comes between two answers is never read as the second."""
    read_first, sent = threading.Event(), threading.Event()

    def and_more(seen: Seen, wire: Wire) -> None:
        good(BODY)(seen, wire)
        read_first.wait(10)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        sent.set()

    with hostile({"/f": and_more, "/g": good(BODY)}) as server:
        remote = opened(server.url)
        assert await whole(remote) == BODY
        read_first.set()
        await trio.to_thread.run_sync(sent.wait)
        assert await whole(remote, "g") == BODY
        assert server.connections == 2


async def test_no_more_exchanges_than_the_limit(opened: Opener) -> None:
    """Further requests wait for their turn, and get it when one ends or fails."""
    with hostile({"/f": in_turn(good(BODY), status(500), truncated(BODY, 5), good(BODY))}) as server:
        remote = opened(server.url, connections=2)

        async def one() -> None:
            try:
                await whole(remote)
            except MirrorError:
                return

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(one)
        assert len(server.seen) == 30
        assert server.connections <= 3  # two, and one for the cut body


async def test_cancelled_requests_give_their_turn_back(opened: Opener) -> None:
    with hostile({"/f": lambda _seen, wire: wire.pause(None), "/g": good(BODY)}) as server:
        remote = opened(server.url, connections=1)
        for _ in range(3):
            with trio.move_on_after(0.02):
                await whole(remote)
        assert await whole(remote, "g") == BODY


async def test_large_bodies_come_in_large_chunks(opened: Opener, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(32 << 20))
    with nginx(tmp_path) as server:
        async with opened(server.url).open_part("big") as part:
            sizes = [len(chunk) async for chunk in part]
    assert sum(sizes) == 32 << 20
    assert max(sizes) <= CHUNK
    assert len(sizes) < 32 * 16


async def test_it_is_an_httpx_transport(tmp_path: Path) -> None:
    """An httpx client works on it, and the remote on httpx's own."""
    (tmp_path / "f").write_bytes(BODY)
    with nginx(tmp_path) as server:
        async with httpx.AsyncClient(transport=Transport(4, Trust.usual)) as client:
            response = await client.get(server.url + "f", headers={"Range": "bytes=5-9"})
            assert (response.status_code, response.content) == (206, BODY[5:10])


async def test_a_proxy_only_where_the_environment_is_trusted(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hostile({"/f": good(BODY), "http://example.invalid/f": good(BODY[:50])}) as server:
        monkeypatch.setenv("http_proxy", server.url)
        assert await whole(opened(server.url, trust_env=False)) == BODY
        with pytest.raises(OriginFailed):
            await whole(opened("http://example.invalid/"))
        assert await whole(opened("http://example.invalid/", trust_env=True)) == BODY[:50]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert await whole(opened(server.url, trust_env=True)) == BODY


# -- TLS -------------------------------------------------------------------------------------


async def test_tls(opened: Opener, tmp_path: Path) -> None:
    """A trusted certificate of the right host, over one kept connection, for bodies of many records."""
    tls = certificate(tmp_path, "IP:127.0.0.1")
    (tmp_path / "f").write_bytes(BODY * 100)
    with nginx(tmp_path, tls=tls) as server:
        remote = opened(server.url, trust=Trust.of(str(tls[0])))
        for _ in range(3):
            assert await whole(remote) == BODY * 100
        listing = await remote.list("")
        assert "f" in str(listing)


async def test_tls_without_trust(opened: Opener, tmp_path: Path) -> None:
    tls = certificate(tmp_path, "IP:127.0.0.1")
    with nginx(tmp_path, tls=tls) as server, pytest.raises(OriginFailed, match="certificate is not trusted"):
        await whole(opened(server.url))


async def test_tls_of_another_host(opened: Opener, tmp_path: Path) -> None:
    tls = certificate(tmp_path, "DNS:example.org")
    trusting = Trust.of(str(tls[0]))
    with nginx(tmp_path, tls=tls) as server, pytest.raises(OriginFailed, match="certificate is not trusted"):
        await whole(opened(server.url, trust=trusting))


AUTHORITY = """
[ca]
default_ca = d
[d]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = p
x509_extensions = x
[p]
commonName = supplied
[x]
subjectAltName = IP:127.0.0.1
"""


async def test_tls_that_has_expired(opened: Opener, tmp_path: Path) -> None:
    _, key = certificate(tmp_path, "IP:127.0.0.1")
    for name, content in {"ca.cnf": AUTHORITY, "index.txt": "", "serial": "01"}.items():
        (tmp_path / name).write_text(content)
    dates = ("-startdate", "20200101000000Z", "-enddate", "20200102000000Z")
    for command in (
        "req -new -subj /CN=test -key key.pem -out request.pem",
        "ca -selfsign -batch -notext -config ca.cnf -keyfile key.pem -in request.pem -out old.pem",
    ):
        words = command.split()
        words += dates if words[0] == "ca" else ()
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=tmp_path)
    old = tmp_path / "old.pem"
    trusting = Trust.of(str(old))
    with (
        nginx(tmp_path, tls=(old, key)) as server,
        pytest.raises(OriginFailed, match="certificate has expired"),
    ):
        await whole(opened(server.url, trust=trusting))


async def test_tls_where_there_is_none(opened: Opener) -> None:
    with hostile({}) as server, pytest.raises(MirrorError):
        await whole(opened(server.url.replace("http:", "https:"), deadline=2.0))


async def test_never_from_https_to_http(opened: Opener, tmp_path: Path) -> None:
    tls = certificate(tmp_path, "IP:127.0.0.1")
    with hostile({"/f": good(BODY)}) as plain:
        redirecting = f"location /f {{ return 302 {plain.url}f; }}"
        with nginx(tmp_path, tls=tls, extra_conf=redirecting) as server:
            remote = opened(server.url, trust=Trust.of(str(tls[0])))
            with pytest.raises(OriginFailed, match="https to http"):
                await whole(remote)
        assert plain.seen == []


async def test_authorities_that_cannot_be_read(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate(tmp_path, "IP:127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent"))
    with nginx(tmp_path, tls=(cert, key)) as server, pytest.raises(SetupError, match="SSL_CERT_FILE"):
        await whole(opened(server.url))
