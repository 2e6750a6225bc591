"""An HTTP server of our own that misbehaves: one way for each path, as the test says.

::

    with hostile({"/a": truncated(b"x" * 100, at=40), "/b": burst(503, 2, then=good(b"abc"))}) as server:
        httpx.get(server.url + "a")
    assert [seen.path for seen in server.seen] == ["/a"]

A behaviour is a function from a request and the wire to send on; it returns when it is done with the
connection's turn and raises `Hangup` to close it. All waiting is on one event that the end of the
context sets, so a server that stalls for ever is gone at once.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader

DATE = "Mon, 23 Nov 2026 14:02:14 GMT"

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Hangup(Exception):
    """Close this connection now."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By lower-case name."""

    @property
    def range(self) -> tuple[int, int | None] | None:
        """First byte and one past the last (None: open) that were asked for."""
        found = _RANGE.fullmatch(self.headers.get("range", ""))
        return None if found is None else (int(found[1]), int(found[2]) + 1 if found[2] else None)


class Wire:
    """What a behaviour sends on."""

    def __init__(self, conn: socket.socket, over: threading.Event) -> None:
        self._conn = conn
        self._over = over

    def send(self, data: bytes) -> None:
        self._conn.sendall(data)

    def head(self, status: int, headers: Mapping[str, str | int]) -> None:
        lines = [f"HTTP/1.1 {status} Said So", *(f"{name}: {value}" for name, value in headers.items())]
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")

    def pause(self, seconds: float | None) -> None:
        """Wait; None: until the server's end."""
        if self._over.wait(seconds):
            raise Hangup

    def reset(self) -> None:
        """Break the connection with an RST instead of an end."""
        self._conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Hangup


Behaviour = Callable[[Seen, Wire], None]


@dataclass
class Hostile:
    """A running server."""

    url: str
    routes: dict[str, Behaviour]
    """What it does for which path; may be changed while it runs."""
    seen: list[Seen] = field(default_factory=list)
    """Requests in the order of their arrival."""
    connections: int = 0


@contextmanager
def hostile(
    routes: Mapping[str, Behaviour], *, host: str = "127.0.0.1", listener: socket.socket | None = None
) -> Iterator[Hostile]:
    """Start a server; a path without a behaviour is 404. ``listener``: in another network, at ``host``."""
    over = threading.Event()
    listener = listener or socket.create_server((host, 0), backlog=64)
    url = f"http://{host}:{listener.getsockname()[1]}/"
    # A dictionary that the test goes on changing is followed.
    server = Hostile(url, routes if isinstance(routes, dict) else dict(routes))
    open_connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            server.connections += 1
            open_connections.append(conn)
            threads.append(threading.Thread(target=serve, args=(conn,)))
            threads[-1].start()

    def serve(conn: socket.socket) -> None:
        wire = Wire(conn, over)
        with conn, conn.makefile("rb") as lines:
            try:
                while (seen := _read(lines)) is not None:
                    server.seen.append(seen)
                    server.routes.get(seen.path, status(404))(seen, wire)
            except (Hangup, OSError):
                return

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield server
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for conn in open_connections:
            try:
                conn.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed long ago
        for thread in threads:
            thread.join()


def _read(lines: BufferedReader) -> Seen | None:
    first = next(lines, b"").split()
    if len(first) != 3:
        return None
    headers = {}
    for line in lines:
        if line in (b"\r\n", b"\n"):
            break
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    lines.read(int(headers.get("content-length", 0)))
    return Seen(first[0].decode("latin-1"), first[1].decode("latin-1"), headers)


# -- behaviours ------------------------------------------------------------------------------


def good(body: bytes, *, etag: str | None = '"one"', headers: Mapping[str, str] | None = None) -> Behaviour:
    """As it should be: ranges, If-Match, If-Range, a strong ETag unless another is given."""

    def behave(seen: Seen, wire: Wire) -> None:
        always = {"Last-Modified": DATE, "Accept-Ranges": "bytes"}
        always |= ({"ETag": etag} if etag is not None else {}) | dict(headers or {})
        wanted = seen.range
        if "if-match" in seen.headers and seen.headers["if-match"] != etag:
            wire.head(412, {**always, "Content-Length": 0})
            return
        if seen.headers.get("if-unmodified-since", always["Last-Modified"]) != always["Last-Modified"]:
            wire.head(412, {**always, "Content-Length": 0})
            return
        if seen.headers.get("if-range", etag) not in (etag, always["Last-Modified"]):
            wanted = None
        if wanted is not None and wanted[0] >= len(body):
            wire.head(416, {**always, "Content-Range": f"bytes */{len(body)}", "Content-Length": 0})
            return
        if wanted is None:
            part, code = body, 200
        else:
            start = wanted[0]
            stop = min(len(body), len(body) if wanted[1] is None else wanted[1])
            part, code = body[start:stop], 206
            always["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
        wire.head(code, {**always, "Content-Length": len(part)})
        if seen.method != "HEAD":
            wire.send(part)

    return behave


def answer(code: int, headers: Mapping[str, str | int], body: bytes = b"") -> Behaviour:
    """Exactly this, whatever was asked: lengths, ranges and encodings may lie."""

    def behave(seen: Seen, wire: Wire) -> None:
        wire.head(code, headers)
        if seen.method != "HEAD":
            wire.send(body)

    return behave


def raw(data: bytes) -> Behaviour:
    """These bytes instead of an answer, then the end of the connection."""

    def behave(_seen: Seen, wire: Wire) -> None:
        wire.send(data)
        raise Hangup

    return behave


def status(code: int, headers: Mapping[str, str | int] | None = None) -> Behaviour:
    """A status without a body."""
    return answer(code, {"Content-Length": 0, **(headers or {})})


def page(html: str) -> Behaviour:
    """A web page."""
    body = html.encode()
    return answer(200, {"Content-Type": "text/html", "Content-Length": len(body)}, body)


def truncated(body: bytes, at: int, *, reset: bool = False) -> Behaviour:
    """The connection ends (or is reset) after ``at`` bytes of the body."""

    def behave(seen: Seen, wire: Wire) -> None:
        wire.head(200, {"Content-Length": len(body), "ETag": '"one"', "Last-Modified": DATE})
        if seen.method != "HEAD":
            wire.send(body[:at])
            if reset:
                wire.reset()
            raise Hangup

    return behave


def stalls(body: bytes, at: int) -> Behaviour:
    """Nothing more comes after ``at`` bytes; with -1 not even the head."""

    def behave(_seen: Seen, wire: Wire) -> None:
        if at >= 0:
            wire.head(200, {"Content-Length": len(body), "ETag": '"one"', "Last-Modified": DATE})
            wire.send(body[:at])
        wire.pause(None)

    return behave


def trickles(body: bytes, seconds: float) -> Behaviour:
    """One byte of the body at a time, ``seconds`` apart."""

    def behave(_seen: Seen, wire: Wire) -> None:
        wire.head(200, {"Content-Length": len(body), "ETag": '"one"', "Last-Modified": DATE})
        for at in range(len(body)):
            wire.send(body[at : at + 1])
            wire.pause(seconds)

    return behave


def chunked(
    *chunks: bytes, headers: Mapping[str, str] | None = None, code: int = 200, end: bool = True
) -> Behaviour:
    """A body in chunks; without ``end`` the last one is missing and the connection ends."""

    def behave(seen: Seen, wire: Wire) -> None:
        wire.head(code, {"Transfer-Encoding": "chunked", **(headers or {})})
        if seen.method == "HEAD":
            return
        for chunk in chunks:
            wire.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if not end:
            raise Hangup
        wire.send(b"0\r\n\r\n")

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One after the other, a request each; the last one stays."""
    left = list(behaviours)
    lock = threading.Lock()

    def behave(seen: Seen, wire: Wire) -> None:
        with lock:
            chosen = left.pop(0) if len(left) > 1 else left[0]
        chosen(seen, wire)

    return behave


def burst(
    code: int, times: int, *, then: Behaviour, headers: Mapping[str, str | int] | None = None
) -> Behaviour:
    """Fail ``times`` times, then behave."""
    return in_turn(*[status(code, headers)] * times, then)


def redirect(location: str, code: int = 302, headers: Mapping[str, str | int] | None = None) -> Behaviour:
    """Send elsewhere."""
    return status(code, {"Location": location, **(headers or {})})


def without_head(behaviour: Behaviour, code: int = 405) -> Behaviour:
    """HEAD is not allowed, all else as ``behaviour``."""

    def behave(seen: Seen, wire: Wire) -> None:
        (status(code) if seen.method == "HEAD" else behaviour)(seen, wire)

    return behave
