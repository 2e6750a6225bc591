"""The short way through a head is taken only where it says the same as h11."""

from __future__ import annotations

import h11
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.http.heads import request, usual

NGINX = (
    b"HTTP/1.1 206 Partial Content\r\nServer: nginx\r\nContent-Length: 10\r\nConnection: keep-alive\r\n"
    b'ETag:  "a:b" \r\nContent-Range: bytes 0-9/100\r\n\r\n0123456789'
)


def test_a_usual_head() -> None:
    head = usual(NGINX)
    assert head is not None
    assert (head.status, head.length, head.keeps_alive, NGINX[head.end :]) == (206, 10, True, b"0123456789")
    assert head.headers.raw[3] == (b"ETag", b'"a:b"')


@pytest.mark.parametrize(
    ("value", "alive"), [(b"close", False), (b"Foo, Close", False), (b"keep-alive", True)]
)
def test_the_connections_future(value: bytes, alive: bool) -> None:
    head = usual(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: " + value + b"\r\n\r\n")
    assert head is not None
    assert head.keeps_alive == alive


@pytest.mark.parametrize(
    "data",
    [
        b"",
        NGINX[:50],
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\ntransfer-ENCODING: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n folded: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 1\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX: a\rb\r\n\r\n",
        b" HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n",
    ],
)
def test_all_else_is_left_to_h11(data: bytes) -> None:
    assert usual(data) is None


HEADERS = st.sampled_from(
    [
        b"Content-Length: 5",
        b"Content-Length: 05",
        b"content-length:5",
        b"Transfer-Encoding: chunked",
        b"X: y",
        b"X:",
        b"X: \t y \t",
        b"X : y",
        b": y",
        b" y",
        b"",
        b"X: \xff",
        b"X: \x01",
        b"Connection: close",
        b"\n",
        b"\r",
    ]
)


@given(
    st.sampled_from(
        [b"HTTP/1.1 200 OK", b"HTTP/1.1 404 ", b"HTTP/1.1 200", b"HTTP/1.1 304 x", b"HTTP/1.1 2000 x"]
    ),
    st.lists(HEADERS, max_size=5),
)
def test_never_different_from_h11(first: bytes, headers: list[bytes]) -> None:
    """Where both read a head, they read the same; what h11 refuses outright is refused here too."""
    data = b"\r\n".join([first, *headers, b"", b"body!"])
    head = usual(data)
    if head is None:
        return
    wire = h11.Connection(h11.CLIENT)
    wire.send(h11.Request(method=b"GET", target=b"/", headers=[(b"Host", b"x")]))
    wire.send(h11.EndOfMessage())
    wire.receive_data(data)
    answer = wire.next_event()
    assert isinstance(answer, h11.Response)
    assert answer.status_code == head.status
    assert answer.headers.raw_items() == head.headers.raw
    assert int(dict(answer.headers)[b"content-length"]) == head.length
    assert wire.trailing_data[0] == data[head.end :]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"X-A", b"x-a", b"Etag", b"DATE"]),
            st.sampled_from([b"1", b"", b" a,b", b"\xe4"]),
        ),
        max_size=6,
    ),
    st.sampled_from(["x-a", "X-A", "etag", "date", "content-length", "absent"]),
)
def test_headers_say_what_those_of_httpx_say(fields: list[tuple[bytes, bytes]], name: str) -> None:
    lines = [b"%b: %b" % field for field in fields]
    head = usual(b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: 0", *lines, b"", b""]))
    assert head is not None
    theirs = httpx.Headers([(b"Content-Length", b"0"), *((name, value.strip()) for name, value in fields)])
    assert head.headers.get(name, "none") == theirs.get(name, "none")
    assert (name in head.headers) == (name in theirs)
    assert head.headers.multi_items() == theirs.multi_items()
    assert head.headers == theirs


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    head = usual(data)
    assert head is None or head.end <= len(data)


def test_a_request() -> None:
    assert request("GET", b"/a", [(b"Host", b"h"), (b"Range", b"bytes=0-1")]) == (
        b"GET /a HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("target", "value"), [(b"/a b", b""), (b"/a\r\n", b""), (b"", b""), (b"/", b"a\r\nX: y"), (b"/", b"a\0")]
)
def test_nothing_breaks_out_of_its_line(target: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match=r"no spaces|one line"):
        request("GET", target, [(b"X", value)])
