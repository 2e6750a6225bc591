"""Every way in which an origin can misbehave, by name: what `tests/e2e/test_hostile.py` runs through a mount.

Each works on a folder of its own, ``/NAME/``, that a listing says holds one file ``f`` of `BODY`'s size. It
says how the origin answers while it is ill, and what a reader may get meanwhile: an errno, or the digest of
a version that the origin has. When it is well again (`well`), `BODY` is read.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from tests.support.data import noise
from tests.support.hostile import (
    DATE,
    Behaviour,
    Hangup,
    Seen,
    Wire,
    answer,
    burst,
    chunked,
    good,
    in_turn,
    raw,
    redirect,
    stalls,
    status,
    trickles,
    truncated,
)

LATER = "Tue, 24 Nov 2026 08:00:00 GMT"

DEADLINE = 2.0
"""Seconds: ``--deadline`` of the mount."""

BODY = noise("as it should be", 1_500_000)
"""More than is gathered in memory, so that it can be continued in the middle."""
SMALL = BODY[:100_000]
OTHER = noise("another version", len(BODY))

_ETAG: dict[str, str | int] = {"ETag": '"one"', "Last-Modified": DATE, "Accept-Ranges": "bytes"}
_HALF = len(BODY) // 2

Routes = Callable[[str, str], Mapping[str, Behaviour]]
"""From the server's URL and the name of the folder, with slashes, to what is under it."""


@dataclass(frozen=True)
class Misbehaviour:
    """One way."""

    routes: Routes
    outcomes: tuple[str, ...]
    """Errnos; ``right``: `BODY`; ``other``: `OTHER`."""
    listing: bool = False
    """The folder is listed, instead of the file being read."""
    names: tuple[str, ...] = ()
    """What the listing shows, where it works."""
    anew: bool = False
    """Nothing tells the ill version from the well one but a later time."""


def entry(name: str, size: int = len(BODY), kind: str = "file") -> dict[str, object]:
    """One line of a listing."""
    return {"name": name, "type": kind, "mtime": DATE} | ({"size": size} if kind == "file" else {})


def listing(*entries: Mapping[str, object]) -> Behaviour:
    """A listing as nginx writes it."""
    return json_page(json.dumps(entries, ensure_ascii=False).encode())


def json_page(body: bytes) -> Behaviour:
    """Any bytes that claim to be one."""
    return answer(200, {"Content-Type": "application/json", "Content-Length": len(body)}, body)


def well(folder: str, mtime: str = DATE) -> dict[str, Behaviour]:
    """How every folder answers when nothing is wrong."""
    headers = {"Last-Modified": mtime}
    return {folder: listing(entry("f") | {"mtime": mtime}), f"{folder}f": good(BODY, headers=headers)}


def by_get(behaviour: Behaviour) -> Behaviour:
    """HEAD is answered as it should be."""

    def behave(seen: Seen, wire: Wire) -> None:
        (good(BODY) if seen.method == "HEAD" else behaviour)(seen, wire)

    return behave


def _file(behaviour: Behaviour, *outcomes: str) -> Misbehaviour:
    return Misbehaviour(lambda _url, folder: {**well(folder), f"{folder}f": behaviour}, outcomes)


def _body(behaviour: Behaviour, *outcomes: str) -> Misbehaviour:
    return _file(by_get(behaviour), *outcomes)


def _folder(behaviour: Behaviour, *outcomes: str, names: tuple[str, ...] = ()) -> Misbehaviour:
    return Misbehaviour(
        lambda _url, folder: {**well(folder), folder: behaviour}, outcomes, listing=True, names=names
    )


def _then(first: Behaviour, *rest: Behaviour) -> Behaviour:
    """HEAD as it should be; GETs in turn."""
    return by_get(in_turn(first, *rest))


def _ranged(headers: Mapping[str, str | int], body: bytes) -> Behaviour:
    """A 206 whose headers are given, of whatever range was asked for."""

    def behave(seen: Seen, wire: Wire) -> None:
        start, stop = seen.range or (0, len(BODY))
        part = body[start:stop]
        stated = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(body)}"}
        wire.head(206, {**stated, "Content-Length": len(part), **headers})
        wire.send(part)

    return behave


def _cut(body: bytes, headers: Mapping[str, str | int]) -> Behaviour:
    """Half of a version, with these headers, then the end of the connection."""

    def behave(_seen: Seen, wire: Wire) -> None:
        wire.head(200, {"Content-Length": len(body), **headers})
        wire.send(body[:_HALF])
        raise Hangup

    return behave


def _endless_page(_seen: Seen, wire: Wire) -> None:
    """Ten million entries of a hundred bytes, one after the other."""
    wire.head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
    line = json.dumps(entry("x" * 40)).encode() + b","
    piece = b"[" + line * 1000
    for _ in range(10_000):
        wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        piece = line * 1000
    raise Hangup


def _short_entries(_seen: Seen, wire: Wire) -> None:
    """As many entries as fit on a page that is short enough."""
    body = b"<title>Index of /</title>" + b"".join(b"<a href=%x>" % n for n in range(1_000_000))
    wire.head(200, {"Content-Type": "text/html", "Content-Length": len(body)})
    wire.send(body)


def _slow_loop(url: str, folder: str) -> Mapping[str, Behaviour]:
    def behave(_seen: Seen, wire: Wire) -> None:
        wire.pause(DEADLINE * 0.7)
        wire.head(302, {"Location": f"{folder}f?{len(url)}", "Content-Length": 0})

    return {**well(folder), f"{folder}f": behave, f"{folder}f?{len(url)}": behave}


def _elsewhere(location: str, *outcomes: str) -> Misbehaviour:
    return _file(redirect(location), *outcomes)


_OLD = {"Content-Length": len(BODY)}
_GZIP = gzip.compress(BODY, 1)
_BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10 if n else b"&a;" * 10) for n in range(20))
    + b']><list><file mtime="2026-11-23T14:02:14Z" size="1">&a19;</file></list>'
)
_EXTERNAL = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    b'<list><file mtime="2026-11-23T14:02:14Z" size="1">&a;</file></list>'
)


def _xml(body: bytes) -> Behaviour:
    return answer(200, {"Content-Type": "text/xml", "Content-Length": len(body)}, body)


def html_page(body: bytes) -> Behaviour:
    """Any bytes that claim to be a web page."""
    return answer(200, {"Content-Type": "text/html", "Content-Length": len(body)}, body)


BODIES: dict[str, Misbehaviour] = {
    "truncated": _body(truncated(BODY, _HALF), "EIO"),
    "truncated once": _file(_then(truncated(BODY, _HALF), good(BODY)), "right"),
    "reset before the body": _body(truncated(BODY, 0, reset=True), "EIO"),
    "reset after a byte": _body(truncated(BODY, 1, reset=True), "EIO"),
    "reset in the middle": _body(truncated(BODY, _HALF, reset=True), "EIO"),
    "reset before the last byte": _body(truncated(BODY, len(BODY) - 1, reset=True), "EIO"),
    "longer than promised": _body(answer(200, {**_ETAG, **_OLD}, BODY + b"surplus"), "right", "EIO"),
    "a length too small": _body(answer(200, {**_ETAG, "Content-Length": len(BODY) - 5}, BODY), "ESTALE"),
    "a length too large": _body(answer(200, {**_ETAG, "Content-Length": len(BODY) + 5}, BODY), "ESTALE"),
    "two lengths": _body(
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"), "EIO"
    ),
    "200 instead of 206": _file(_then(truncated(BODY, _HALF), answer(200, {**_ETAG, **_OLD}, BODY)), "right"),
    "another range": _file(
        _then(
            truncated(BODY, _HALF),
            answer(
                206, {**_ETAG, "Content-Range": f"bytes 5-99/{len(BODY)}", "Content-Length": 95}, BODY[5:100]
            ),
        ),
        "EIO",
    ),
    "a range that says nothing": _file(
        _then(truncated(BODY, _HALF), answer(206, {**_ETAG, "Content-Length": 95}, BODY[5:100])), "EIO"
    ),
    "several ranges": _file(
        _then(
            truncated(BODY, _HALF),
            answer(
                206,
                {**_ETAG, "Content-Type": "multipart/byteranges; boundary=x", "Content-Length": 5},
                b"--x--",
            ),
        ),
        "EIO",
    ),
    "a part nobody asked for": _body(
        answer(206, {**_ETAG, "Content-Range": f"bytes 0-99/{len(BODY)}", "Content-Length": 100}, BODY[:100]),
        "EIO",
    ),
    "compressed": _body(
        answer(200, {**_ETAG, "Content-Encoding": "gzip", "Content-Length": len(_GZIP)}, _GZIP), "EIO"
    ),
    "compressed in parts": _file(
        _then(truncated(BODY, _HALF), _ranged({**_ETAG, "Content-Encoding": "gzip"}, BODY)), "EIO"
    ),
    "a byte now and then": _body(trickles(BODY, 0.2), "ETIMEDOUT"),
    "no answer": _body(stalls(BODY, -1), "ETIMEDOUT"),
    "no body": _body(stalls(BODY, 0), "ETIMEDOUT"),
    "half a body": _body(stalls(BODY, _HALF), "ETIMEDOUT"),
    "empty": _body(answer(200, {**_ETAG, "Content-Length": 0}), "ESTALE"),
    "chunks without an end": _body(chunked(BODY[:-1], headers={"ETag": '"one"'}, end=False), "EIO"),
    "no length and no chunks": _body(raw(b'HTTP/1.1 200 OK\r\nETag: "one"\r\n\r\n' + BODY), "EIO"),
    "closed without an answer": _body(raw(b""), "EIO"),
    "no HTTP": _body(raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "EIO"),
    "zeros": _body(raw(bytes(100_000)), "EIO"),
    "headers without end": _body(raw(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: y\r\n" * 20_000), "EIO"),
    "interim answers without end": _body(raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "EIO"),
}

_WEAK: dict[str, str | int] = {"ETag": 'W/"one"', "Last-Modified": DATE, "Accept-Ranges": "bytes"}
_BARE: dict[str, str | int] = {"Accept-Ranges": "bytes"}
_YOUNG: dict[str, str | int] = {"Last-Modified": DATE, "Accept-Ranges": "bytes", "Date": DATE}
_NEW: dict[str, str | int] = {**_ETAG, "ETag": '"two"'}


def _switches(headers: Mapping[str, str | int], after: Mapping[str, str | int] | None = None) -> Misbehaviour:
    """Half of one version, then any range of another one of the same size and time."""
    head: Behaviour = answer(200, {**_OLD, **headers})
    later = after or headers

    def rest(seen: Seen, wire: Wire) -> None:
        if seen.range is None:
            answer(200, {**_OLD, **later}, OTHER)(seen, wire)
        else:
            _ranged(later, OTHER)(seen, wire)

    gets = in_turn(_cut(BODY, headers), rest)

    def behave(seen: Seen, wire: Wire) -> None:
        (head if seen.method == "HEAD" else gets)(seen, wire)

    return replace(_file(behave, "ESTALE", "other", "EIO"), anew=True)


VERSIONS: dict[str, Misbehaviour] = {
    "another ETag in the next part": _switches(_ETAG, _NEW),
    "a weak ETag": _switches(_WEAK),
    "no validator": _switches(_BARE),
    "a time that is too young": _switches(_YOUNG),
    "an ETag that becomes weak": _switches(_ETAG, _WEAK),
    "an ETag that is gone": _switches(_ETAG, _BARE),
    "an ETag that appears": _switches(_BARE, _ETAG),
    "another size": _file(good(OTHER[:-7], etag='"two"'), "shorter", "ESTALE"),
    "another size in GET only": _body(good(OTHER[:-7], etag='"two"'), "ESTALE"),
    "a folder now": Misbehaviour(
        lambda _url, folder: {**well(folder), f"{folder}f": redirect(f"{folder}f/")},
        ("EISDIR", "ESTALE", "EIO"),
    ),
    "404 after the listing": _file(status(404), "ENOENT"),
    "410 after the listing": _file(status(410), "ENOENT"),
    "404 to GET only": _body(status(404), "ENOENT", "ESTALE"),
    "412 without a reason": _body(status(412), "ESTALE"),
    "416 without a reason": _body(status(416), "EIO", "ESTALE"),
    "304 without a reason": _body(status(304), "EIO"),
}

_WAIT: dict[str, str | int] = {"Retry-After": 1}
ERRORS: dict[str, Misbehaviour] = {
    "401": _file(status(401), "EACCES"),
    "403": _file(status(403), "EACCES"),
    "403 in the middle": _file(_then(truncated(BODY, _HALF), status(403)), "EACCES"),
    "407": _file(status(407), "EACCES"),
    "451": _file(status(451), "EACCES"),
    "400": _file(status(400), "EIO"),
    "408 once": _file(_then(status(408), good(BODY)), "right"),
    "408": _body(status(408), "EIO"),
    "429 for a moment": _file(_then(status(429), good(BODY)), "right"),
    "429 with Retry-After for a moment": _file(_then(status(429, _WAIT), good(BODY)), "right"),
    "429": _body(status(429), "EIO"),
    "503 with Retry-After": _body(status(503, {"Retry-After": 1}), "EIO", "ETIMEDOUT"),
    "503 with a Retry-After of nonsense": _body(status(503, {"Retry-After": "soon"}), "EIO", "ETIMEDOUT"),
    "500 in a burst": _file(by_get(burst(500, 3, then=good(BODY))), "right"),
    "500": _body(status(500), "EIO"),
    "502": _body(status(502), "EIO"),
    "no such host": _elsewhere("http://no-such-host.invalid/f", "EIO"),
    "refused": _elsewhere("http://127.0.0.1:1/f", "EIO"),
    "no TLS": Misbehaviour(
        lambda url, folder: {**well(folder), f"{folder}f": redirect(url.replace("http:", "https:"))},
        ("EIO", "ETIMEDOUT"),
    ),
}

_GOOD = entry("f")
LISTINGS: dict[str, Misbehaviour] = {
    "names that lead elsewhere": _folder(
        listing(_GOOD, *(entry(name) for name in ("..", ".", "../x", "/etc/passwd", "a/b", ""))),
        "right",
        names=("f",),
    ),
    "links that lead elsewhere": _folder(
        html_page(
            b"<title>Index of /</title><a href=f>f</a><a href=../../x>x</a><a href=/x>x</a>"
            b"<a href=//h/x>x</a><a href=%2e%2e%2fx>x</a><a href=a%2fb>x</a><a href=javascript:x>x</a><a href=file:///x>x</a>"
        ),
        "right",
        names=("f",),
    ),
    "NUL in a name": _folder(listing(_GOOD, entry("a\0b")), "right", names=("f",)),
    "a newline in a name": _folder(listing(_GOOD, entry("a\nb")), "right", names=("a\nb", "f")),
    "a name of 256 bytes": _folder(listing(_GOOD, entry("a" * 256)), "right", names=("f",)),
    "a name of 5,000 bytes": _folder(listing(_GOOD, entry("ä" * 2500)), "right", names=("f",)),
    "names that differ in their quoting": _folder(
        html_page(b"<title>Index of /</title><a href=%66>f</a><a href=f>f</a><a href='./f'>f</a>"),
        "right",
        names=("f",),
    ),
    "names that differ in their form": _folder(
        listing(_GOOD, entry("\u00e9"), entry("e\u0301")), "right", names=("e\u0301", "f", "\u00e9")
    ),
    "a file and a folder of one name": _folder(
        listing(_GOOD, entry("x"), entry("x", kind="directory")), "right", names=("f",)
    ),
    "ten million entries": _folder(_endless_page, "EIO"),
    "a million short entries": _folder(_short_entries, "EIO"),
    "a home page": _folder(html_page(b"<title>Welcome</title><a href=f>f</a>"), "EIO"),
    "a login form": _folder(html_page(b"<form action=/login><input name=password></form>"), "EIO"),
    "a billion laughs": _folder(_xml(_BOMB), "EIO"),
    "an external entity": _folder(_xml(_EXTERNAL), "EIO"),
    "JSON within JSON without end": _folder(json_page(b"[" * 1_000_000), "EIO"),
    "a size of 5,000 digits": _folder(
        html_page(
            b"<title>Index of /</title><pre><a href=f>f</a>  23-Nov-2026 14:02  " + b"9" * 5000 + b"\n</pre>"
        ),
        "right",
        names=("f",),
    ),
    "a listing cut short": _folder(
        raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<title>Index of /</title><a href=f>"), "EIO"
    ),
    "a listing that stalls": _folder(stalls(b"[]", -1), "ETIMEDOUT"),
    "a listing that is compressed": _folder(
        answer(200, {"Content-Type": "text/html", "Content-Encoding": "gzip", "Content-Length": 0}), "EIO"
    ),
    "a listing that is forbidden": _folder(status(403), "EACCES"),
    "an empty answer": _folder(answer(200, {"Content-Length": 0}), "EIO"),
}

REDIRECTS: dict[str, Misbehaviour] = {
    "a loop": Misbehaviour(
        lambda _url, folder: {**well(folder), f"{folder}f": redirect(f"{folder}f")}, ("EIO",)
    ),
    "a loop that takes its time": Misbehaviour(_slow_loop, ("ETIMEDOUT",)),
    "to a file": _elsewhere("file:///etc/passwd", "EIO"),
    "to another scheme": _elsewhere("gopher://127.0.0.1/", "EIO"),
    "to no URL": _elsewhere("http://[bad/", "EIO"),
    "to nowhere": _file(status(302), "EIO"),
    "with a password": _elsewhere("http://user:secret@127.0.0.1/", "EIO"),
    "to 70,000 bytes": _elsewhere("/" + "x" * 70_000, "EIO"),
}

ALL: dict[str, Misbehaviour] = {**BODIES, **VERSIONS, **ERRORS, **LISTINGS, **REDIRECTS}


HEALTHY = tuple(f"healthy-{number}" for number in range(8))
"""Folders that stay well."""


@dataclass
class Ward:
    """All of them on one server: the folder of each is well until it is made ill."""

    routes: dict[str, Behaviour] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = ["deep", *HEALTHY, *map(folder_of, ALL)]
        self.routes["/"] = listing(*(entry(name, kind="directory") for name in names))
        for name in names:
            self.routes |= well(f"/{name}/")


def folder_of(name: str) -> str:
    """The name of a misbehaviour's folder."""
    return "".join(char if char.isalnum() else "-" for char in name)


def digests() -> Iterator[tuple[str, bytes]]:
    """What the outcomes that are no errno mean."""
    yield "right", BODY
    yield "other", OTHER
    yield "shorter", OTHER[:-7]
