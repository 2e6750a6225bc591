"""How an origin is reached, and as whom: the options of http sources, against real servers and proxies."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from mirror.errors import AccessDenied, MirrorError, OriginFailed, ProtocolError, SetupError, UsageError
from mirror.http import access
from mirror.remotes import How, open_remote
from mirror.remotes.base import Listing, Remote
from mirror.remotes.options import Options
from tests.remotes.contract import read
from tests.support.certificates import Authority
from tests.support.hostile import good, hostile, raw, redirect
from tests.support.proxies import accounts, protected, proxy
from tests.support.servers import nginx
from tests.support.waiting import eventually

Opened = Callable[..., Any]
BODY = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("server")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "served"
    path.mkdir()
    (path / "f").write_bytes(BODY)
    return path


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in os.environ if name.startswith("MIRROR_") or name.lower().endswith("_proxy")
    ]:
        monkeypatch.delenv(name)


@pytest.fixture
async def opening(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opened]:
    """Open a source with options, as if they were set in the environment."""
    async with AsyncExitStack() as stack:

        def opener(url: str, **options: object) -> Remote:
            scheme = url.partition(":")[0].upper()
            with monkeypatch.context() as patch:
                for name, value in options.items():
                    patch.setenv(f"MIRROR_{scheme}_{name.upper()}", str(value))
                remote = open_remote(url, How(deadline=10.0))
            stack.push_async_callback(remote.aclose)
            return remote

        yield opener


async def whole(remote: Remote, path: str = "f") -> bytes:
    async with remote.open_part(path) as part:
        return await read(part)


async def fails(remote: Remote, error: type[MirrorError], *words: str) -> None:
    with pytest.raises(error) as caught:
        await whole(remote)
    line = str(caught.value)
    assert all(word in line for word in words), line
    assert "\n" not in line


# -- as whom ---------------------------------------------------------------------------------


async def test_user_and_password(opening: Opened, folder: Path, tmp_path: Path) -> None:
    """Both set; or the user alone, and the password in netrc; a wrong one is refused."""
    with protected(folder, accounts(tmp_path, "some", "pass:w\u00f6rd")) as server:
        assert await whole(opening(server.url, user="some", password="pass:w\u00f6rd")) == BODY
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login some password pass:w\u00f6rd\n")
        assert await whole(opening(server.url, user="some")) == BODY
        assert await whole(opening(server.url)) == BODY
        await fails(opening(server.url, user="some", password="other"), AccessDenied, "401")


async def test_a_token(opening: Opened, folder: Path, tmp_path: Path) -> None:
    """A bearer token goes before netrc."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    conf = 'location / { if ($http_authorization != "Bearer t0ken") { return 401; } }'
    with nginx(folder, extra_conf=conf) as server:
        assert await whole(opening(server.url, token="t0ken")) == BODY
        await fails(opening(server.url, token="another"), AccessDenied, "401", "mirror.toml")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"token": "t", "user": "u"}, UsageError, "two ways"),
        ({"token": "t", "password": "p"}, UsageError, "two ways"),
        ({"token": "s3cret t"}, SetupError, "token"),
        ({"password": "s3cret"}, UsageError, "user"),
        ({"user": "a:b", "password": "s3cret"}, UsageError, "':'"),
        ({"user": "nobody"}, SetupError, "netrc"),
        ({"client-key": "/k"}, UsageError, "client-cert"),
        ({"client-key-password": "s3cret"}, UsageError, "client-cert"),
        ({"client-cert": "/absent"}, SetupError, "/absent"),
        ({"ca": "/absent"}, SetupError, "/absent"),
        ({"proxy-password": "s3cret", "proxy": "http://h:1"}, UsageError, "together"),
        ({"proxy-user": "u", "proxy": "http://h:1"}, UsageError, "together"),
        ({"proxy-user": "u", "proxy-password": "s3cret"}, UsageError, "set it"),
        ({"proxy-user": "u", "proxy-password": "s3cret", "proxy": "environment"}, UsageError, "set it"),
    ],
)
def test_what_cannot_be(options: dict[str, str], error: type[MirrorError], words: str) -> None:
    """Options that contradict each other, or name what is not there, in one line without a secret."""
    url = httpx.URL("https://127.0.0.1/")
    with pytest.raises(error) as caught:
        _prepare(url, Options(options))
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def _prepare(url: httpx.URL, options: Options) -> None:
    access.open_client(url, How(options=options))
    access.credentials(url, options)


@pytest.mark.parametrize("options", [{"http2": "true"}, {"client-cert": "/c"}])
def test_what_is_for_https_only(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="https only"):
        access.open_client(httpx.URL("http://h/"), How(options=Options(options)))


def test_http2_takes_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "find_spec", lambda _: None)
    with pytest.raises(SetupError, match=r"mirrorfs\[http2\]"):
        access.open_client(httpx.URL("https://h/"), How(options=Options({"http2": "true"})))


# -- certificates ----------------------------------------------------------------------------


async def test_an_authority_of_ones_own(
    opening: Opened, folder: Path, tls: tuple[Path, Path], authority: Authority
) -> None:
    """It is trusted instead of the usual ones; a file without any is said."""
    with nginx(folder, tls=tls) as server:
        await fails(opening(server.url), OriginFailed, "not trusted")
        assert await whole(opening(server.url, ca=authority.file)) == BODY
        with pytest.raises(SetupError, match="no certificate in it"):
            opening(server.url, ca=folder / "f")


CLIENTS = "ssl_client_certificate {}; ssl_verify_client on;"


async def test_a_client_certificate(
    opening: Opened, folder: Path, tls: tuple[Path, Path], authority: Authority
) -> None:
    """Key in a file of its own, in the same one, or encrypted."""
    certificate, key = authority.issue("client")
    both = authority.folder / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())
    secret = authority.encrypted(key, "s3cret pass")
    with nginx(folder, tls=tls, extra_conf=CLIENTS.format(authority.file)) as server:
        known = {"ca": authority.file, "client_cert": certificate}
        await fails(opening(server.url, ca=authority.file), OriginFailed, "400")
        assert await whole(opening(server.url, **known, client_key=key)) == BODY
        assert await whole(opening(server.url, ca=authority.file, client_cert=both)) == BODY
        encrypted = {**known, "client_key": secret}
        assert await whole(opening(server.url, **encrypted, client_key_password="s3cret pass")) == BODY
        for options, words in (
            (encrypted, "is encrypted"),
            ({**encrypted, "client_key_password": "wr0ng"}, "cannot be decrypted"),
            ({**known, "client_key": tls[1]}, "not the key"),
            (known, "client-key"),
            ({**known, "client_key": authority.file}, "no certificate with its key"),
        ):
            with pytest.raises(SetupError) as caught:
                opening(server.url, **options)
            assert words in str(caught.value)
            assert "wr0ng" not in str(caught.value)


STRICT = """
ssl_client_certificate {}; ssl_verify_client optional;
location / {{
    if ($http_authorization) {{ return 400; }}
    if ($ssl_client_verify = SUCCESS) {{ return 400; }}
    if ($http_proxy_authorization) {{ return 400; }}
}}
"""


@pytest.mark.parametrize("http2", ["false", "true"])
@pytest.mark.parametrize("through", ["directly", "a proxy"])
async def test_nothing_reaches_another_origin(
    http2: str,
    through: str,
    opening: Opened,
    folder: Path,
    tls: tuple[Path, Path],
    authority: Authority,
    tmp_path: Path,
) -> None:
    """Neither password nor certificate is shown to where a redirect leads, over whatever transport."""
    certificate, key = authority.issue("client")
    basic = 'if ($http_authorization != "Basic c29tZTpzM2NyZXQ=") { return 401; }'
    (folder / "own").write_bytes(BODY)
    with (
        nginx(folder, tls=tls, extra_conf=STRICT.format(authority.file), http2=http2 == "true") as other,
        nginx(
            folder,
            tls=tls,
            http2=http2 == "true",
            extra_conf=f"{CLIENTS.format(authority.file)} {basic}"
            f"location = /f {{ {basic} return 302 {other.url}f; }}",
        ) as server,
        proxy(tmp_path, file=accounts(tmp_path, "pr", "oxy")) as between,
    ):
        options: dict[str, object] = {"ca": authority.file, "client_cert": certificate, "client_key": key}
        options |= {"user": "some", "password": "s3cret", "http2": http2}
        if through == "a proxy":
            options |= {"proxy": between.url, "proxy_user": "pr", "proxy_password": "oxy"}
        remote = opening(server.url, **options)
        assert await whole(remote, "own") == BODY
        assert await whole(remote) == BODY
        await remote.aclose()
        if through == "a proxy":
            tunnels = eventually(between.requests, "a tunnel ends")
            assert {request.method for request in tunnels} == {"CONNECT"}


# -- HTTP/2 ----------------------------------------------------------------------------------

ONLY_2 = 'location / { if ($server_protocol != "HTTP/2.0") { return 426; } }'


async def test_http2(opening: Opened, folder: Path, tls: tuple[Path, Path], authority: Authority) -> None:
    """Listing, stat and parts over HTTP/2, checked as over HTTP/1.1."""
    with nginx(folder, tls=tls, http2=True, autoindex="json", extra_conf=ONLY_2) as server:
        remote = opening(server.url, ca=authority.file, http2="true")
        listing = await remote.list("")
        assert isinstance(listing, Listing)
        assert [entry.size for entry in listing.entries] == [len(BODY)]
        entry = await remote.stat("f")
        async with remote.open_part("f", 10, 20, validator=entry.validator) as part:
            assert await read(part) == BODY[10:20]
        assert await whole(remote) == BODY
        await fails(opening(server.url, ca=authority.file), OriginFailed, "426")


async def test_a_server_without_http2(
    opening: Opened, folder: Path, tls: tuple[Path, Path], authority: Authority
) -> None:
    """It is an offer: HTTP/1.1 is spoken where the server knows no other."""
    with nginx(folder, tls=tls) as server:
        assert await whole(opening(server.url, ca=authority.file, http2="true")) == BODY


async def test_a_server_that_goes_away(
    opening: Opened, folder: Path, tls: tuple[Path, Path], authority: Authority
) -> None:
    """A stream that ends early is a failure that may pass, never a short file."""
    (folder / "large").write_bytes(bytes(64 << 20))
    with nginx(folder, tls=tls, http2=True, rate="1m") as server:
        remote = opening(server.url, ca=authority.file, http2="true")
        async with remote.open_part("large") as part:
            chunks = aiter(part)
            assert await anext(chunks)
            server.stop()
            with pytest.raises(OriginFailed):
                await read(part)


# -- proxies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True])
async def test_through_a_proxy(
    secure: bool, opening: Opened, folder: Path, tls: tuple[Path, Path], authority: Authority, tmp_path: Path
) -> None:
    """Forwarded for http, by CONNECT for https; a password is the proxy's alone."""
    file = accounts(tmp_path, "me", "p:w")
    strict = "location / { if ($http_proxy_authorization) { return 400; } }"
    with nginx(folder, tls=tls if secure else None, extra_conf=strict) as server:
        options = {"ca": authority.file} if secure else {}
        with proxy(tmp_path) as between:
            remote = opening(server.url, **options, proxy=between.url)
            assert await whole(remote) == BODY
            await remote.aclose()  # a tunnel is logged at its end
            (request,) = eventually(between.requests, "the proxy logs a request")
            assert request.method == ("CONNECT" if secure else "GET")
        with proxy(tmp_path, file=file) as between:
            options["proxy"] = between.url
            known = opening(server.url, **options, proxy_user="me", proxy_password="p:w")
            assert await whole(known) == BODY
            await fails(opening(server.url, **options), AccessDenied, "proxy-user")
            wrong = opening(server.url, **options, proxy_user="me", proxy_password="wr0ng")
            await fails(wrong, AccessDenied, "proxy-user")
            await known.aclose()  # else the proxy waits for the end of the tunnel
        await fails(opening(server.url, **options), OriginFailed)


async def test_a_proxy_that_is_spoken_to_in_https(
    opening: Opened, folder: Path, tls: tuple[Path, Path], authority: Authority, tmp_path: Path
) -> None:
    with nginx(folder) as server, proxy(tmp_path, tls=tls) as between:
        where = f"https://127.0.0.1:{between.port}"
        assert await whole(opening(server.url, proxy=where, ca=authority.file)) == BODY


async def test_the_proxies_of_the_environment(
    opening: Opened, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are used when that is asked for, a password in them included; no_proxy holds."""
    with nginx(folder) as server, proxy(tmp_path, file=accounts(tmp_path, "me", "pw")) as between:
        monkeypatch.setenv("http_proxy", f"me:pw@127.0.0.1:{between.port}")
        assert await whole(opening(server.url)) == BODY
        assert between.requests() == []
        assert await whole(opening(server.url, proxy="environment")) == BODY
        assert len(between.requests()) == 1
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert await whole(opening(server.url, proxy="environment")) == BODY
        assert len(between.requests()) == 1
        monkeypatch.delenv("no_proxy")
        for useless in ("socks5://me:pw@127.0.0.1:1", "ftp://me:pw@h", "http://"):
            monkeypatch.setenv("http_proxy", useless)
            with pytest.raises(SetupError, match="names a proxy") as caught:
                await whole(opening(server.url, proxy="environment"))
            assert "pw" not in str(caught.value)


async def test_a_body_that_is_cut_behind_a_proxy(opening: Opened) -> None:
    """Where nothing says how long a body is, a cut would not show: the same as without a proxy."""
    head = b'HTTP/1.1 200 OK\r\nETag: "x"\r\n\r\n'
    with hostile({"http://example.invalid/f": raw(head + BODY[:100])}) as server:
        await fails(opening("http://example.invalid/", proxy=server.url), ProtocolError, "where it ends")


async def test_a_redirect_behind_a_proxy(opening: Opened) -> None:
    """Httpx follows none by itself, and carries no credentials along."""
    routes = {
        "http://one.invalid/f": redirect("http://two.invalid/f", headers={"Set-Cookie": "a=b"}),
        "http://two.invalid/f": good(BODY),
    }
    with hostile(routes) as server:
        remote = opening("http://one.invalid/", proxy=server.url, token="t0ken")
        assert await whole(remote) == BODY
        assert [asked.headers.get("authorization") for asked in server.seen] == ["Bearer t0ken", None]
        assert all("cookie" not in asked.headers for asked in server.seen)
