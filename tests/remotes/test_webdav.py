"""WebDAV: the contract against two real servers, and answers that no real server gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from mirror.errors import AccessDenied, IsAFolder, NotAFolder, OriginFailed, ProtocolError, Transient
from mirror.remotes import How, canonical, open_remote
from mirror.remotes.base import Entry, Kind, Listing, Remote
from mirror.remotes.webdav import multistatus
from mirror.remotes.webdav.remote import HOUR, Believed
from tests.remotes.contract import RemoteContract, read
from tests.support.hostile import Behaviour, answer, hostile, raw, status
from tests.support.servers import Server, nginx
from tests.support.webdav import apache_dav, wsgidav

Opened = Callable[..., Any]


@pytest.fixture
async def opening() -> AsyncIterator[Opened]:
    """Open the folder at an http URL over WebDAV, closed at the end."""
    async with AsyncExitStack() as stack:

        def opener(url: str) -> Remote:
            remote = open_remote(url.replace("http", "webdav", 1), How(deadline=20.0))
            stack.push_async_callback(remote.aclose)
            return remote

        yield opener


@pytest.fixture(scope="class")
def server(request: pytest.FixtureRequest, root: Path) -> Iterator[Server]:
    """The class's server, started once for all of its tests."""
    with request.cls.start(root) as server:
        yield server


class WebdavContract(RemoteContract):
    start: ClassVar[Any]

    @pytest.fixture
    async def remote(self, server: Server, opening: Opened) -> Remote:
        remote: Remote = opening(server.url)
        return remote

    async def test_listing_and_answers_agree(self, remote: Remote, root: Path) -> None:
        """What a listing says of a file is what its own headers say: one version, one validator."""
        listing = await remote.list("folder")
        assert isinstance(listing, Listing)
        assert len(listing.entries) == 2
        for entry in listing.entries:
            assert entry.validator is not None
            assert entry == await remote.stat(f"folder/{entry.name}")


class TestApache(WebdavContract):
    start = staticmethod(apache_dav)


class TestWsgidav(WebdavContract):
    start = staticmethod(wsgidav)


async def test_a_file_is_not_listed(opening: Opened, root: Path) -> None:
    """Whatever a server says to it, the error says that it is a file."""
    for start in (apache_dav, wsgidav):
        with start(root) as server:
            with pytest.raises(NotAFolder):
                await opening(server.url).list("folder/deep.bin")
            with pytest.raises(NotAFolder):
                await opening(f"{server.url}plain.bin/").list("")


async def test_a_server_without_webdav(opening: Opened, root: Path) -> None:
    with nginx(root) as server, pytest.raises(OriginFailed, match="no WebDAV server"):
        await opening(server.url).list("")


async def test_credentials(opening: Opened, root: Path, tmp_path: Path) -> None:
    """Basic authentication, from netrc."""
    with wsgidav(root, user="someone", password="s3cret") as server:
        with pytest.raises(AccessDenied, match="netrc"):
            await opening(server.url).list("")
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password s3cret\n")
        remote = opening(server.url)
        assert await remote.list("folder")
        async with remote.open_part("folder/deep.bin", 0, 3) as part:
            assert await read(part) == bytes(range(3))


def test_canonical() -> None:
    """One spelling, as of web servers; a source is a folder."""
    assert canonical("WebDAVS://Host.Example:443/a%20b/c") == "webdavs://host.example/a%20b/c/"
    assert canonical("webdav://h:81") == "webdav://h:81/"


# -- answers ---------------------------------------------------------------------------------

PAGE = """<?xml version="1.0"?>
<multistatus xmlns="DAV:">{}</multistatus>
"""
OWN = (
    "<response><href>/d/</href><propstat><prop><resourcetype><collection/></resourcetype></prop></propstat>"
    "</response>"
)


def page(*responses: str, own: str = OWN) -> bytes:
    return PAGE.format(own + "".join(responses)).encode()


def said(href: str, prop: str = "<getcontentlength>1</getcontentlength>") -> str:
    return (
        f"<response><href>{href}</href><propstat><prop><resourcetype/>{prop}</prop>"
        "<status>HTTP/1.1 200 OK</status></propstat></response>"
    )


def seen(body: bytes) -> dict[str, Entry]:
    found = multistatus.folder(multistatus.resources(body), httpx.URL("http://host:81/d/"))
    return {entry.name: entry for entry in found.entries}


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("/d/a", "a"),
        ("/%64/%61", "a"),
        ("http://host:81/d/a%20b", "a b"),
        ("HTTP://HOST:81/d/a", "a"),
        ("//host:81/d/a", "a"),
        ("a%20b", "a b"),
        ("/d/100%", "100%"),
        ("/d/caf%C3%A9", "caf\u00e9"),
        ("/d/caf\u00e9", "caf\u00e9"),
        ("/d/%25%34%31", "%41"),
        ("/d/a&amp;b", "a&b"),
    ],
)
def test_hrefs_in_all_spellings(href: str, name: str) -> None:
    assert set(seen(page(said(href)))) == {name}


@pytest.mark.parametrize(
    "href",
    [
        "",
        "/d/../a",
        "../a",
        "/d/%2e%2e/a",
        "/d/a/b",
        "/d/a%2Fb",
        "/e/a",
        "/a",
        "/",
        "http://other:81/d/a",
        "http://host/d/a",
        "https://host:81/d/a",
        "http://user@host:81/d/a",
        "file:///d/a",
        "http://[/d/a",
        "/d/a?b",
        "/d/a#b",
        "/d//a",
        "/d/%00",
        "/d/%ff",
        "/d/" + "a" * 256,
    ],
)
def test_hrefs_that_are_left_out(href: str, caplog: pytest.LogCaptureFixture) -> None:
    """Other hosts, other folders, names that no file can have: never an entry, and a line in the log."""
    assert set(seen(page(said(href), said("/d/b")))) == {"b"}
    assert "left out" in caplog.text


def test_properties() -> None:
    """Only what a propstat of status 200 says counts; weak ETags are none."""
    strong = '<getetag>"x"</getetag><getlastmodified>Mon, 23 Nov 2026 14:02:14 GMT</getlastmodified>'
    missing = (
        "<propstat><prop><getcontentlength>7</getcontentlength></prop>"
        "<status>HTTP/1.1 404 Not Found</status></propstat>"
    )
    entries = seen(
        page(
            said("/d/strong", strong),
            said("/d/weak", '<getetag>W/"x"</getetag>'),
            said("/d/bare", "<getetag>x</getetag>"),
            said("/d/odd", "<getcontentlength>-1</getcontentlength><getetag>&#233;</getetag>"),
            f"<response><href>/d/none</href>{missing}</response>",
            "<response><href>/d/gone</href><status>HTTP/1.1 404 Not Found</status></response>",
            "<response><href>/d/sub/</href><propstat><prop><resourcetype><collection/></resourcetype></prop>"
            "<status>HTTP/1.1 200 OK</status></propstat></response>",
        )
    )
    assert entries["strong"] == Entry("strong", Kind.FILE, None, 1795442534_000_000_000, validator='etag:"x"')
    assert entries["weak"].validator is None
    assert entries["bare"].validator == 'etag:"x"'
    assert entries["odd"] == Entry("odd", Kind.FILE)
    assert entries["none"] == Entry("none", Kind.FILE)
    assert entries["sub"] == Entry("sub", Kind.FOLDER)
    assert "gone" not in entries


def test_a_name_that_is_two_things(caplog: pytest.LogCaptureFixture) -> None:
    folder = said("/d/a/", "<resourcetype><collection/></resourcetype>")
    assert set(seen(page(said("/d/a"), folder, said("/d/b"), said("/d/b")))) == {"b"}
    assert "named twice" in caplog.text


BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE multistatus [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<multistatus xmlns="DAV:"><response><href>/d/&b;</href></response></multistatus>"""
REACHING = b"""<?xml version="1.0"?>
<!DOCTYPE multistatus [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<multistatus xmlns="DAV:"><response><href>/d/&a;</href></response></multistatus>"""


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html><body>Welcome</body></html>", id="html"),
        pytest.param(b'<multistatus xmlns="other">x</multistatus>', id="another namespace"),
        pytest.param(page(said("/d/a"))[:-20], id="cut"),
        pytest.param(page() + b"<x/>", id="two documents"),
        pytest.param(BOMB, id="bomb"),
        pytest.param(REACHING, id="reaching for a file"),
        pytest.param(page("<x>" * 1000 + "</x>" * 1000), id="deep"),
        pytest.param(page(said("/d/" + "a" * 100_000)), id="long"),
        pytest.param(page().replace(b'version="1.0"', b'version="1.0" encoding="utf-7"'), id="encoding"),
        pytest.param(page("\x01"), id="control"),
    ],
)
async def test_an_answer_that_is_no_listing(body: bytes, opening: Opened) -> None:
    """Never an empty folder, and never more than what came: no entity is expanded."""
    with hostile({"/d/": _multistatus(body)}) as server, pytest.raises(ProtocolError):
        await opening(f"{server.url}d/").list("")


def _multistatus(body: bytes) -> Behaviour:
    return answer(207, {"Content-Type": "text/xml", "Content-Length": len(body)}, body)


async def test_an_answer_about_something_else(opening: Opened, caplog: pytest.LogCaptureFixture) -> None:
    """A server that calls its folders otherwise (behind a proxy that changes paths) is no empty folder."""
    body = page(own=OWN.replace("/d/", "/inner/d/"))
    routes = {"/d/": _multistatus(body)}
    with hostile(routes) as server, pytest.raises(ProtocolError, match="check the URL"):
        await opening(f"{server.url}d/").list("")
    assert "left out" in caplog.text


async def test_an_answer_that_is_cut(opening: Opened) -> None:
    """Where only the end of the connection ends it, a listing without its end is asked for again."""
    body = page(said("/d/a"))[:-30]
    cut = raw(b"HTTP/1.1 207 Multi-Status\r\nContent-Type: text/xml\r\n\r\n" + body)
    with hostile({"/d/": cut}) as server, pytest.raises(Transient, match="cut short"):
        await opening(f"{server.url}d/").list("")


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500])
async def test_refusals(code: int, opening: Opened) -> None:
    with hostile({"/d/": status(code)}) as server:
        with pytest.raises((AccessDenied, OriginFailed, Exception)) as caught:
            await opening(f"{server.url}d/").list("")
        assert str(code) in str(caught.value)


async def test_a_page_about_a_folder_is_no_file(opening: Opened) -> None:
    """An answer with neither version nor time is looked at twice."""
    own = page(own=OWN.replace("/d/", "/d/sub"))
    routes = {
        "/d/sub": _by_method(PROPFIND=_multistatus(own), else_=answer(200, {"Content-Length": 4}, b"page"))
    }
    with hostile(routes) as server:
        remote = opening(f"{server.url}d/")
        with pytest.raises(IsAFolder):
            await remote.stat("sub")
        with pytest.raises(IsAFolder):
            async with remote.open_part("sub"):
                pass


def _by_method(*, PROPFIND: Behaviour, else_: Behaviour) -> Behaviour:  # noqa: N803 - the method's name
    return lambda asked, wire: (PROPFIND if asked.method == "PROPFIND" else else_)(asked, wire)


# -- what a listing states and an answer does not ---------------------------------------------

LISTED = [Entry("f", Kind.FILE, 1, 5_000_000_000, validator='etag:"a"'), Entry("sub", Kind.FOLDER)]


@pytest.mark.parametrize(
    ("own", "validator", "mtime"),
    [
        (LISTED[0], 'etag:"a"', 5_000_000_000),
        (Entry("f", Kind.FILE, 1, 5_000_000_000, validator='etag:"b"'), None, 5_000_000_000),
        (Entry("f", Kind.FILE, 1, 5_000_000_000), None, 5_000_000_000),
        (Entry("f", Kind.FILE, 1, 6_000_000_000, validator='etag:"a"'), 'etag:"a"', None),
    ],
)
async def test_what_answers_contradict_is_not_believed(
    own: Entry, validator: str | None, mtime: int | None
) -> None:
    """One file is asked about, once an hour; what it contradicts is believed of none."""
    now = [0.0]
    asked: list[str] = []

    async def ask(name: str) -> Entry:
        asked.append(name)
        return own

    believed = Believed(lambda: now[0])
    for _ in range(2):
        checked = await believed.checked(LISTED, ask)
        assert [(entry.validator, entry.mtime_ns) for entry in checked] == [(validator, mtime), (None, None)]
    assert asked == ["f"]
    now[0] += HOUR
    await believed.checked(LISTED, ask)
    assert asked == ["f", "f"]
