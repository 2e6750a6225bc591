"""An origin that lies, breaks off or stalls: every answer is right, or one stated error, in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from mirror.errors import (
    AccessDenied,
    IsAFolder,
    MirrorError,
    NotAFolder,
    NotFound,
    OriginFailed,
    ProtocolError,
    Stalled,
    Transient,
    VersionChanged,
)
from mirror.http.parts import SLOWEST, Chunks
from mirror.remotes.base import Entry, Kind, Listing, NotModified, Part
from mirror.remotes.http import HttpRemote
from tests.remotes.conftest import Opener
from tests.remotes.contract import begun, read
from tests.support.hostile import (
    DATE,
    Behaviour,
    answer,
    burst,
    chunked,
    good,
    hostile,
    in_turn,
    page,
    raw,
    redirect,
    stalls,
    status,
    trickles,
    truncated,
    without_head,
)

BODY = bytes(range(256)) * 40
INDEX = '<title>Index of /</title><a href="a">a</a>'


async def whole(remote: HttpRemote, name: str = "f", **how: Any) -> bytes:
    async with remote.open_part(name, **how) as part:
        return await read(part)


async def gather(part: Part, into: list[bytes]) -> None:
    async for chunk in part:
        into.append(bytes(chunk))  # noqa: PERF401  # the list is wanted although the loop fails


async def unwaited(remote: HttpRemote, name: str = "f", **how: Any) -> bytes:
    """As `whole`, over a connection that waits, with nobody waiting for the answer."""
    async with remote.open_part("ok") as part:
        await read(part)
    asked = await begun(remote, name, how.get("validator"), 5.0)
    assert asked is not None
    if (answer := asked.plain()) is not None:
        asked.close()
        return bytes(answer[1])
    async with asked.open() as part:
        return await read(part)


async def fails(opened: Opener, behaviour: Behaviour, leaf: type[MirrorError], **how: Any) -> str:
    """Check that reading is this error and exactly this, and return its message.

    However it is asked for: with somebody waiting, and with nobody.
    """
    for ask in (whole, unwaited)[: 1 if {"start", "stop"} & how.keys() else 2]:
        with hostile({"/f": behaviour, "/ok": good(b"ok")}) as server:
            with pytest.raises(leaf) as caught:
                await ask(opened(server.url, deadline=5.0), **how)
            assert type(caught.value) is leaf
            assert "\n" not in str(caught.value)
    return str(caught.value)


# -- bodies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("at", [0, 1, len(BODY) - 1])
async def test_truncated(opened: Opener, at: int, reset: bool) -> None:
    await fails(opened, truncated(BODY, at, reset=reset), Transient)


async def test_what_came_before_the_cut_is_delivered(opened: Opener) -> None:
    """The bytes up to the break are good: a next request can go on behind them."""
    with hostile({"/f": truncated(BODY, 5000)}) as server:
        got: list[bytes] = []
        async with opened(server.url).open_part("f") as part:
            with pytest.raises(Transient):
                await gather(part, got)
        assert b"".join(got) == BODY[:5000]


async def test_longer_than_its_length(opened: Opener) -> None:
    await fails(opened, answer(200, {"Content-Length": 100}, BODY[:101]), ProtocolError)


async def test_longer_than_its_range(opened: Opener) -> None:
    headers = {"Content-Range": "bytes 0-99/1000", "ETag": '"one"'}
    await fails(opened, chunked(BODY[:50], BODY[50:101], headers=headers, code=206), ProtocolError, stop=100)


async def test_shorter_than_its_range(opened: Opener) -> None:
    headers = {"Content-Range": "bytes 0-99/1000", "ETag": '"one"'}
    await fails(opened, chunked(BODY[:99], headers=headers, code=206), Transient, stop=100)


async def test_chunks_without_an_end(opened: Opener) -> None:
    await fails(opened, chunked(BODY, end=False), Transient)


async def test_chunks(opened: Opener) -> None:
    """A chunked body is read to its end; its length is known only then."""
    with hostile({"/f": chunked(BODY[:7], BODY[7:])}) as server:
        remote = opened(server.url)
        async with remote.open_part("f") as part:
            assert (part.start, part.stop, part.size) == (0, None, None)
            assert await read(part) == BODY
        assert await whole(remote) == BODY
        assert server.connections == 1


async def test_a_body_without_any_end(opened: Opener) -> None:
    """Neither length nor chunks: a cut would look like the end."""
    await fails(opened, raw(b"HTTP/1.1 200 OK\r\n\r\n" + BODY), ProtocolError)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 1-100/1000"},
        {"Content-Range": "bytes 0-98/1000"},
        {"Content-Range": "bytes 0-99/50"},
        {"Content-Range": "bytes 0-99"},
        {},
        {"Content-Range": "bytes 0-99/1000", "Content-Encoding": "gzip"},
        {"Content-Type": "multipart/byteranges; boundary=x"},
    ],
)
async def test_lying_parts(opened: Opener, headers: dict[str, str | int]) -> None:
    lie = answer(206, {"Content-Length": 100, "ETag": '"one"', **headers}, BODY[:100])
    await fails(opened, lie, ProtocolError, start=0, stop=100)


async def test_a_part_nobody_asked_for(opened: Opener) -> None:
    headers: dict[str, str | int] = {"Content-Length": 100, "Content-Range": "bytes 0-99/1000"}
    await fails(opened, answer(206, headers, BODY[:100]), ProtocolError)


async def test_compressed(opened: Opener) -> None:
    headers: dict[str, str | int] = {"Content-Length": 100, "Content-Encoding": "gzip"}
    await fails(opened, answer(200, headers, BODY[:100]), ProtocolError)


async def test_identity_is_asked_for(opened: Opener) -> None:
    with hostile({"/f": good(BODY)}) as server:
        await whole(opened(server.url))
        assert server.seen[0].headers["accept-encoding"] == "identity"
        assert server.seen[0].headers["user-agent"].startswith("mirrorfs")
        assert "cookie" not in server.seen[0].headers


async def test_a_range_that_is_ignored(opened: Opener) -> None:
    """The whole file from its first byte, and said so."""
    with hostile(
        {"/f": answer(200, {"Content-Length": len(BODY), "Accept-Ranges": "bytes"}, BODY)}
    ) as server:
        async with opened(server.url).open_part("f", 100, 200) as part:
            assert (part.start, part.stop, part.ranges) == (0, len(BODY), False)
            assert await read(part) == BODY


# -- time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [-1, 0, 5000])
async def test_stalls(opened: Opener, at: int) -> None:
    """Before the head, before the body, within it: the deadline ends each."""
    with hostile({"/f": stalls(BODY, at)}) as server, trio.fail_after(10), pytest.raises(Stalled):
        await whole(opened(server.url, deadline=0.1))


async def test_a_trickle_is_a_stall(opened: Opener) -> None:
    """A byte now and then beats no deadline of its own; the average ends it."""
    with hostile({"/f": trickles(BODY, 0.01)}) as server, trio.fail_after(10), pytest.raises(Stalled):
        await whole(opened(server.url, deadline=0.2))


class Metered(httpx.AsyncByteStream):
    """A body of ``count`` chunks that takes ``seconds`` for each."""

    def __init__(self, chunk: bytes, count: int, seconds: float) -> None:
        self.chunk, self.count, self.seconds = chunk, count, seconds

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self.count:
            raise StopAsyncIteration
        self.count -= 1
        await trio.sleep(self.seconds)
        return self.chunk


async def metered(body: Metered, reader: float) -> int:
    """Read it with a deadline of 30 s, taking ``reader`` seconds over each chunk."""
    got = 0
    async for chunk in Chunks(httpx.Response(200, stream=body), "x", 30.0):
        got += len(chunk)
        await trio.sleep(reader)
    return got


async def test_the_readers_own_time_does_not_count(autojump_clock: trio.testing.MockClock) -> None:
    """A reader that takes longer than the deadline between two chunks has not been stalled."""
    assert await metered(Metered(b"x", 100, 0.1), reader=1000.0) == 100
    assert autojump_clock.autojump_threshold == 0.0


async def test_slow_is_not_stalled(autojump_clock: trio.testing.MockClock) -> None:
    """2 KiB a second go on for as long as they need; half of `SLOWEST` does not."""
    assert await metered(Metered(bytes(4096), 1000, 2.0), reader=0.0) == 4096 * 1000
    with pytest.raises(Stalled):
        await metered(Metered(bytes(SLOWEST // 2), 1000, 1.0), reader=0.0)
    assert autojump_clock.autojump_threshold == 0.0


async def test_a_head_without_end(opened: Opener) -> None:
    endless = raw(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: y\r\n" * 20_000)
    await fails(opened, endless, ProtocolError)


async def test_interim_answers_without_end(opened: Opener) -> None:
    await fails(opened, raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 100), ProtocolError)


async def test_interim_answers_are_passed_over(opened: Opener) -> None:
    with hostile(
        {"/f": raw(b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")}
    ) as server:
        assert await whole(opened(server.url)) == b"ok"


@pytest.mark.parametrize(
    "head",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"\x00" * 1000,
    ],
)
async def test_not_http(opened: Opener, head: bytes) -> None:
    await fails(opened, raw(head), ProtocolError)


async def test_no_answer(opened: Opener) -> None:
    await fails(opened, raw(b""), Transient)


async def test_refused(opened: Opener) -> None:
    with hostile({}) as server:
        url = server.url
    with pytest.raises(Transient, match="refused"):
        await whole(opened(url))


async def test_no_such_host(opened: Opener) -> None:
    with pytest.raises(OriginFailed, match=r"host"):
        await whole(opened("http://no-such-host.invalid/"))


# -- versions --------------------------------------------------------------------------------


async def test_the_version_changes_between_parts(opened: Opener) -> None:
    """The part of another version raises before its first byte, whichever condition was honoured."""
    ignoring = answer(
        206, {"Content-Length": 10, "Content-Range": "bytes 0-9/1000", "ETag": '"two"'}, BODY[:10]
    )
    entirely = answer(200, {"Content-Length": len(BODY), "ETag": '"two"'}, BODY)
    weak = answer(
        206, {"Content-Length": 10, "Content-Range": "bytes 0-9/1000", "ETag": 'W/"one"'}, BODY[:10]
    )
    for behaviour in (good(BODY, etag='"two"'), ignoring, entirely, weak, status(412), status(416)):
        await fails(opened, behaviour, VersionChanged, stop=10, validator='etag:"one"')


async def test_the_version_is_not_named(opened: Opener) -> None:
    unnamed = answer(206, {"Content-Length": 10, "Content-Range": "bytes 0-9/1000"}, BODY[:10])
    await fails(opened, unnamed, ProtocolError, stop=10, validator='etag:"one"')


async def test_the_version_is_asked_for(opened: Opener) -> None:
    with hostile({"/f": good(BODY)}) as server:
        assert await whole(opened(server.url), start=5, stop=9, validator='etag:"one"') == BODY[5:9]
        headers = server.seen[0].headers
        assert (headers["if-match"], headers["if-range"], headers["range"]) == ('"one"', '"one"', "bytes=5-8")


@pytest.mark.parametrize(
    ("date", "etag", "strong"),
    [
        ("Mon, 23 Nov 2026 14:03:14 GMT", None, True),
        ("Mon, 23 Nov 2026 14:03:13 GMT", None, False),
        ("Mon, 23 Nov 2026 13:00:00 GMT", None, False),
        ("yesterday", None, False),
        ("Mon, 23 Nov 2026 15:00:00 GMT", 'W/"one"', False),
    ],
)
async def test_a_time_is_a_validator_once_it_is_a_minute_old(
    opened: Opener, date: str, etag: str | None, strong: bool
) -> None:
    """Not where the origin has an ETag and calls it weak: then it says itself that bytes may differ."""
    with hostile({"/f": good(BODY, etag=etag, headers={"Date": date})}) as server:
        known = (await opened(server.url).stat("f")).validator
        assert known == (f"modified:{DATE}" if strong else None)


async def test_a_time_is_asked_for_and_checked(opened: Opener) -> None:
    """An answer of another time is another version; one whose time says nothing yet is none."""
    settled, validator = {"Date": "Tue, 24 Nov 2026 14:02:14 GMT"}, f"modified:{DATE}"
    with hostile({"/f": good(BODY, etag=None, headers=settled)}) as server:
        assert await whole(opened(server.url), start=5, stop=9, validator=validator) == BODY[5:9]
        asked = server.seen[0].headers
        assert (asked["if-unmodified-since"], asked["if-range"]) == (DATE, DATE)
    other = {"Date": "Tue, 24 Nov 2026 14:02:14 GMT", "Last-Modified": "Mon, 23 Nov 2026 14:02:15 GMT"}
    await fails(opened, good(BODY, etag=None, headers=other), VersionChanged, stop=9, validator=validator)
    await fails(opened, good(BODY, etag=None), ProtocolError, stop=9, validator=validator)
    await fails(opened, status(412), VersionChanged, stop=9, validator=validator)


@pytest.mark.parametrize("etag", ['W/"one"', "one", None])
async def test_weak_etags_are_never_kept(opened: Opener, etag: str | None) -> None:
    with hostile({"/f": good(BODY, etag=etag)}) as server:
        remote = opened(server.url)
        assert (await remote.stat("f")).validator is None
        async with remote.open_part("f") as part:
            assert part.entry.validator is None


# -- statuses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "leaf"),
    [
        (401, AccessDenied),
        (403, AccessDenied),
        (404, NotFound),
        (410, NotFound),
        (429, Transient),
        (500, Transient),
        (503, Transient),
        (400, OriginFailed),
        (304, ProtocolError),
        (204, ProtocolError),
    ],
)
async def test_statuses(opened: Opener, code: int, leaf: type[MirrorError]) -> None:
    """Each question gives the status's error; a body that came with it is no content."""
    with hostile({path: status(code) for path in ("/f", "/f/")}) as server:
        remote = opened(server.url)
        for question in (whole(remote), remote.stat("f"), remote.list("f")):
            with pytest.raises(leaf) as caught:
                await question
            assert type(caught.value) is leaf


async def test_bursts(opened: Opener) -> None:
    """A failure says how long to wait, and the connection goes on after it."""
    with hostile({"/f": burst(503, 2, then=good(BODY), headers={"Retry-After": "0"})}) as server:
        remote = opened(server.url)
        for _ in range(2):
            with pytest.raises(Transient) as caught:
                await whole(remote)
            assert caught.value.retry_after == 0.0
        assert await whole(remote) == BODY
        assert server.connections == 1


@pytest.mark.parametrize("code", [405, 501])
async def test_stat_without_head(opened: Opener, code: int) -> None:
    """A server without HEAD is asked for one byte."""
    with hostile({"/f": without_head(good(BODY), code), "/empty": without_head(good(b""), code)}) as server:
        remote = opened(server.url)
        assert await remote.stat("f") == Entry(
            "f", Kind.FILE, len(BODY), 1795442534_000_000_000, validator='etag:"one"'
        )
        assert (await remote.stat("empty")).size == 0


async def test_stat_where_head_lacks_the_size(opened: Opener) -> None:
    """Also where the length is that of a compressed answer."""
    for head in (
        answer(200, {"ETag": '"one"'}),
        answer(200, {"Content-Length": 5, "Content-Encoding": "gzip"}),
    ):
        with hostile({"/f": in_turn(head, good(BODY))}) as server:
            assert (await opened(server.url).stat("f")).size == len(BODY)


# -- listings --------------------------------------------------------------------------------


async def listed(opened: Opener, behaviour: Behaviour) -> Listing | NotModified:
    with hostile({"/": behaviour}) as server:
        return await opened(server.url, deadline=5.0).list("")


@pytest.mark.parametrize(
    ("behaviour", "leaf"),
    [
        (page("<title>Welcome</title><a href='a'>a</a>"), ProtocolError),
        (
            answer(200, {"Content-Type": "application/octet-stream", "Content-Length": 5}, b"12345"),
            ProtocolError,
        ),
        (
            answer(200, {"Content-Type": "text/html", "Content-Encoding": "gzip", "Content-Length": 0}),
            ProtocolError,
        ),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + INDEX.encode()), Transient),
        (truncated(INDEX.encode(), 10), Transient),
        (status(304), ProtocolError),
        (status(404), NotFound),
    ],
)
async def test_what_is_no_listing_is_an_error(
    opened: Opener, behaviour: Behaviour, leaf: type[MirrorError]
) -> None:
    """Never an empty folder."""
    with pytest.raises(leaf) as caught:
        await listed(opened, behaviour)
    assert type(caught.value) is leaf


async def test_a_listing_may_end_with_the_connection(opened: Opener) -> None:
    """HTTP/1.0 servers do so; the page's own end shows that it is all there."""
    text = f"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>{INDEX}</html>\n"
    listing = await listed(opened, raw(text.encode()))
    assert isinstance(listing, Listing)
    assert [entry.name for entry in listing.entries] == ["a"]


async def test_listings_are_revalidated(opened: Opener) -> None:
    """With the strong ETag they came with; a 304 is believed only then."""
    body = INDEX.encode()
    headers: dict[str, str | int] = {"Content-Type": "text/html", "Content-Length": len(body), "ETag": '"l1"'}
    with hostile({"/": in_turn(answer(200, headers, body), status(304))}) as server:
        remote = opened(server.url)
        listing = await remote.list("")
        assert isinstance(listing, Listing)
        assert listing.validator == 'etag:"l1"'
        assert isinstance(await remote.list("", listing.validator), NotModified)
        assert server.seen[1].headers["if-none-match"] == '"l1"'


async def test_a_page_without_end(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.remotes.http.remote.MAX_PAGE", 100_000)
    headers = {"Content-Type": "text/html", "Transfer-Encoding": "chunked"}

    def endless(_seen: object, wire: object) -> None:
        wire.head(200, headers)  # type: ignore[attr-defined]
        while True:
            wire.send(b"10000\r\n" + bytes(65536) + b"\r\n")  # type: ignore[attr-defined]

    with pytest.raises(ProtocolError):
        await listed(opened, endless)


# -- redirects -------------------------------------------------------------------------------


async def test_redirects_are_followed(opened: Opener) -> None:
    routes = {"/f": redirect("/a/b?x=1", 301), "/a/b?x=1": redirect("../c", 307), "/c": good(BODY)}
    with hostile(routes) as server:
        remote = opened(server.url)
        assert await whole(remote, start=3, stop=9) == BODY[3:9]
        assert (await remote.stat("f")).size == len(BODY)
        assert [seen.headers["range"] for seen in server.seen[:3]] == ["bytes=3-8"] * 3


@pytest.mark.parametrize(
    ("location", "leaf"),
    [
        ("/f", OriginFailed),
        ("", ProtocolError),
        ("file:///etc/passwd", OriginFailed),
        ("ftp://127.0.0.1/", OriginFailed),
        ("javascript:alert(1)", OriginFailed),
        ("http://user:secret@127.0.0.1/", ProtocolError),
        ("http://[bad/", OriginFailed),
        ("http://127.0.0.1:1/", Transient),
        ("http://127.0.0.1:99999999/", ProtocolError),
        ("/" + "x" * 70_000, ProtocolError),
    ],
)
async def test_redirects_that_lead_nowhere(opened: Opener, location: str, leaf: type[MirrorError]) -> None:
    message = await fails(opened, redirect(location), leaf)
    assert "secret" not in message


async def test_a_redirect_is_followed_ten_times(opened: Opener) -> None:
    routes: dict[str, Behaviour] = {f"/{n}": redirect(f"/{n + 1}") for n in range(20)}
    routes["/12"] = good(BODY)
    with hostile(routes) as server:
        remote = opened(server.url)
        assert await whole(remote, "2") == BODY
        with pytest.raises(OriginFailed, match="10 times"):
            await whole(remote, "1")


async def test_a_slash_more_is_a_folder(opened: Opener) -> None:
    """Also where a proxy in front makes the server redirect to another name of itself."""
    with hostile({"/f": redirect("http://backend.invalid/f/"), "/f/": redirect("/f")}) as server:
        remote = opened(server.url)
        for question in (whole(remote), remote.stat("f")):
            with pytest.raises(IsAFolder):
                await question
        with pytest.raises(NotAFolder):
            await remote.list("f")


async def test_the_query_of_a_redirect_is_a_secret(opened: Opener) -> None:
    with hostile({"/f": redirect("/signed?key=secret"), "/signed?key=secret": status(403)}) as server:
        with pytest.raises(AccessDenied) as caught:
            await whole(opened(server.url))
        assert "signed" in str(caught.value)
        assert "secret" not in str(caught.value)
