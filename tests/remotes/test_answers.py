"""Which heads are believed, and what the others are."""

from __future__ import annotations

import httpx
import pytest

from mirror.errors import (
    AccessDenied,
    MirrorError,
    NotFound,
    OriginFailed,
    ProtocolError,
    Transient,
    VersionChanged,
)
from mirror.http.answers import (
    Span,
    failure,
    modified,
    partial,
    refuse_encoded,
    retry_after,
    validator,
)
from mirror.http.files import Dialect


@pytest.mark.parametrize(
    ("status", "leaf"),
    [
        (404, NotFound),
        (410, NotFound),
        (401, AccessDenied),
        (403, AccessDenied),
        (407, AccessDenied),
        (451, AccessDenied),
        (412, VersionChanged),
        (416, VersionChanged),
        (408, Transient),
        (425, Transient),
        (429, Transient),
        (500, Transient),
        (502, Transient),
        (503, Transient),
        (504, Transient),
        (599, Transient),
        (400, OriginFailed),
        (405, OriginFailed),
        (418, OriginFailed),
        (501, OriginFailed),
        (505, OriginFailed),
        (201, ProtocolError),
        (204, ProtocolError),
        (304, ProtocolError),
        (299, ProtocolError),
    ],
)
def test_status_table(status: int, leaf: type[MirrorError]) -> None:
    error = failure(httpx.Response(status), "http://h/x", conditional=True)
    assert type(error) is leaf
    assert str(error).startswith(f"http://h/x: the server answered {status}")


def test_412_and_416_are_failures_when_no_condition_was_sent() -> None:
    for status in (412, 416):
        assert type(failure(httpx.Response(status), "x", conditional=False)) is OriginFailed


def test_retry_after_goes_along() -> None:
    error = failure(httpx.Response(503, headers={"Retry-After": "7"}), "x", conditional=False)
    assert isinstance(error, Transient)
    assert error.retry_after == 7.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("9" * 400, None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Foo, 99 Jan 1970 00:00:00 GMT", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, now=10.0) == seconds


@pytest.mark.parametrize(
    ("etag", "expected"),
    [
        ('"abc"', 'etag:"abc"'),
        ('""', 'etag:""'),
        ('"ü"', None),
        ('W/"abc"', None),
        ("abc", None),
        ('"a"b"', None),
        ('"a b"', None),
        ('"abc', None),
    ],
)
def test_only_strong_etags_are_validators(etag: str, expected: str | None) -> None:
    assert validator(httpx.Headers([(b"ETag", etag.encode("latin-1"))])) == expected


@pytest.mark.parametrize(
    ("start", "stop", "stated", "span"),
    [
        (0, 10, "bytes 0-9/100", Span(0, 10, 100)),
        (90, 200, "bytes 90-99/100", Span(90, 100, 100)),
        (90, None, "bytes 90-99/100", Span(90, 100, 100)),
        (0, 10, "bytes 0-9/*", Span(0, 10, None)),
        (0, 10, "Bytes 0-9/100", Span(0, 10, 100)),
        (0, 10, "bytes 0-8/100", None),
        (0, 10, "bytes 1-9/100", None),
        (0, 10, "bytes 0-10/100", None),
        (0, 10, "bytes 10-19/100", None),
        (0, None, "bytes 0-9/*", None),
        (0, None, "bytes 0-9/100", None),
        (50, 60, "bytes 50-59/55", None),
        (90, 200, "bytes 90-199/100", None),
        (0, 10, "bytes 9-0/100", None),
        (0, 10, "bytes */100", None),
        (0, 10, "items 0-9/100", None),
        (0, 10, "", None),
        (0, 10, "bytes 0-9/100, bytes 20-29/100", None),
        (0, 10, "bytes 0-9/" + "9" * 30, None),
    ],
)
def test_content_range_must_be_what_was_asked_for(
    start: int, stop: int | None, stated: str, span: Span | None
) -> None:
    headers = httpx.Headers({"Content-Range": stated} if stated else {})
    if span is None:
        with pytest.raises(ProtocolError):
            partial(headers, start, stop, "x")
    else:
        assert partial(headers, start, stop, "x") == span


def test_the_length_must_fit_the_range() -> None:
    with pytest.raises(ProtocolError):
        partial(httpx.Headers({"Content-Range": "bytes 0-9/100", "Content-Length": "11"}), 0, 10, "x")


def test_several_ranges_are_refused() -> None:
    headers = httpx.Headers({"Content-Type": "multipart/byteranges; boundary=x"})
    with pytest.raises(ProtocolError, match="several"):
        partial(headers, 0, 10, "x")


def test_the_version_must_be_the_one_asked_for() -> None:
    dialect = Dialect()
    dialect.check_version(httpx.Headers({"ETag": '"a"'}), 'etag:"a"', "x")
    for other in ('"b"', 'W/"a"'):
        with pytest.raises(VersionChanged):
            dialect.check_version(httpx.Headers({"ETag": other}), 'etag:"a"', "x")
    with pytest.raises(ProtocolError):
        dialect.check_version(httpx.Headers(), 'etag:"a"', "x")


def test_compressed_bodies_are_refused() -> None:
    refuse_encoded(httpx.Headers(), "x")
    refuse_encoded(httpx.Headers({"Content-Encoding": "identity"}), "x")
    for encoding in ("gzip", "br", "identity, gzip", "unknown"):
        with pytest.raises(ProtocolError):
            refuse_encoded(httpx.Headers({"Content-Encoding": encoding}), "x")


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Mon, 23 Nov 2026 14:02:14 GMT", 1795442534),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228799),
        ("Mon, 31 Feb 2026 14:02:14 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Mon, 23 Nov 2026 14:02:14 +0100", None),
        ("yesterday", None),
    ],
)
def test_dates(date: str, seconds: int | None) -> None:
    expected = None if seconds is None else seconds * 1_000_000_000
    assert modified(httpx.Headers({"Last-Modified": date})) == expected
