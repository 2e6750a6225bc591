"""What an origin may send, made at random: grammars that are nearly right, then bytes that are changed.

Seeded, so that a finding can be had again by its number. Hypothesis makes better small inputs and shrinks
them (`tests/fuzz/test_fuzz.py`); this makes a million of them in minutes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

NAMES = (
    "a",
    "f.bin",
    "a b",
    "..",
    ".",
    "",
    "/",
    "a/b",
    "\0",
    "\n",
    "\r\n",
    "%",
    "%2e%2e",
    "%2F",
    "%00",
    "%ff",
    "%C3%A9",
    "é",
    "e\u0301",
    "\U0001f600",
    "\u202e",
    "\ufffd",
    "\ud800",
    "x" * 256,
    "y" * 5000,
    "?C=N",
    "#",
    "//h/",
    "http://h/a",
    "http://[",
    "//[",
    "file:///x",
    "javascript:x",
    "./a",
    "../",
    "/data/",
    "/data/a",
    "/data/a/b",
    "/DATA/a",
    "http://h:99999/data/a",
    "http://h/data/a",
    "http://h:80/data/a",
    "&amp;",
    "&#0;",
    "&#xD800;",
    "<b>",
    '"',
    "'",
)
SIZES = (
    "0",
    "1000",
    "-",
    "-1",
    "1.2K",
    "9" * 18,
    "9" * 19,
    "9" * 20,
    "9" * 5000,
    "²",
    "\u0663",
    "1e9",
    "NaN",
    "",
    "0x1",
    " 5 ",
)
TIMES = (
    "23-Nov-2026 14:02",
    "99-Foo-9999 99:99",
    "Mon, 23 Nov 2026 14:02:14 GMT",
    "Mon, 31 Feb 2026 14:02:60 GMT",
    "Mon, 23 Nov 0000 14:02:14 GMT",
    "Mon, 23 Nov 9999 14:02:14 GMT",
    "2026-11-23T14:02:14Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "2026-13-99T99:99:99Z",
    "2026-11-23T14:02:14.999999999+99:99",
    "",
    "yesterday",
    "0",
)
VALUES = (
    "",
    " ",
    "0",
    "1",
    "-1",
    "100",
    "9" * 18,
    "9" * 19,
    "9" * 400,
    "bytes 0-9/10",
    "bytes 0-9/*",
    "bytes */10",
    "bytes 5-9/10",
    "bytes 9-0/10",
    "bytes 0-9",
    "bytes 0-9/10, bytes 0-9/10",
    "Bytes 0-9/10",
    "bytes 0-99999999999999999999/10",
    "gzip",
    "identity",
    "chunked",
    "gzip, chunked",
    '"one"',
    'W/"one"',
    "one",
    '"',
    '"a"b"',
    '"é"',
    "multipart/byteranges",
    "text/html",
    "application/json",
    "keep-alive",
    "close",
    "sha-256=:AAAA:",
    "sha-256=:=:",
    "md5=x",
    "sha-256=AAAA,md5=",
    "soon",
    "1e3",
    "\u0661",
    "http://h/",
    "/",
    "//",
    "..",
    "\t",
    "a\tb",
    "\x7f",
    "\xff",
    "bytes",
    "none",
    *TIMES,
)
HEADERS = (
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Content-Encoding",
    "Transfer-Encoding",
    "ETag",
    "Last-Modified",
    "Date",
    "Accept-Ranges",
    "Retry-After",
    "Location",
    "Connection",
    "Repr-Digest",
    "Digest",
    "Content-MD5",
    "Content-Digest",
    "x-goog-hash",
    "x-amz-checksum-crc32c",
    "x-checksum-sha256",
    "Set-Cookie",
    "X",
    " X",
    "X ",
    "",
)
STATUSES = (
    100,
    101,
    103,
    200,
    204,
    206,
    301,
    302,
    304,
    307,
    400,
    401,
    403,
    404,
    408,
    410,
    412,
    416,
    429,
    500,
    503,
    599,
    999,
)

PAGES = ("text/html", "application/json", "text/xml", "", "application/octet-stream")


def page(luck: random.Random) -> tuple[bytes, str]:
    """A listing and its Content-Type."""
    form = luck.choice((_nginx_html, _caddy_html, _json, _caddy_json, _xml))
    body = form(luck).encode("utf-8", "surrogatepass")
    return mangled(luck, body), luck.choice(PAGES)


def _rows(luck: random.Random) -> range:
    return range(luck.choice((0, 1, 2, 3, 8)))


def _nginx_html(luck: random.Random) -> str:
    rows = (
        f'<a href={luck.choice(("", chr(34), chr(39)))}{luck.choice(NAMES)}">{luck.choice(NAMES)}</a>'
        f"  {luck.choice(TIMES)}  {luck.choice(SIZES)}\n"
        for _ in _rows(luck)
    )
    title = luck.choice(("Index of /data/", "Directory listing for", "Welcome", ""))
    head = f"<html><title>{title}</title><h1>{title}</h1><pre>"
    return f"{head}<a href='../'>../</a>\n{''.join(rows)}</pre></html>"


def _caddy_html(luck: random.Random) -> str:
    rows = (
        f'<tr class="file"><td><a href="{luck.choice(NAMES)}">'
        f'<use xlink="{luck.choice(("#shortcut", "#file"))}"/>'
        f'<span class="name">{luck.choice(NAMES)}</span></a></td><td data-order="{luck.choice(SIZES)}"></td>'
        f'<td><time datetime="{luck.choice(TIMES)}"></time></td></tr>'
        for _ in _rows(luck)
    )
    return f"<table>{''.join(rows)}</table>"


def _value(luck: random.Random) -> object:
    return luck.choice(
        (
            luck.choice(NAMES),
            luck.choice(SIZES),
            luck.choice(TIMES),
            None,
            True,
            0,
            -1,
            2**63,
            10**400,
            1.5,
            [],
            {},
            [[]],
            {"a": 1},
        )
    )


def _json(luck: random.Random) -> str:
    rows = [
        {
            "name": luck.choice((luck.choice(NAMES), _value(luck))),
            "type": luck.choice(("file", "directory", "other", _value(luck))),
        }
        | {key: luck.choice((_value(luck), 1000)) for key in ("size", "mtime") if luck.random() < 0.8}
        for _ in _rows(luck)
    ]
    return json.dumps(rows, ensure_ascii=luck.random() < 0.5)


def _caddy_json(luck: random.Random) -> str:
    rows = [
        {key: luck.choice((luck.choice(NAMES), _value(luck))) for key in ("name", "url", "mod_time", "size")}
        | {"is_dir": luck.choice((True, False, _value(luck))), "is_symlink": luck.choice((True, False, None))}
        for _ in _rows(luck)
    ]
    return json.dumps(rows, ensure_ascii=luck.random() < 0.5)


def _xml(luck: random.Random) -> str:
    rows = (
        f'<{kind} mtime="{luck.choice(TIMES)}" size="{luck.choice(SIZES)}">{luck.choice(NAMES)}</{kind}>'
        for kind in (luck.choice(("file", "directory", "other", "x")) for _ in _rows(luck))
    )
    return f'<?xml version="1.0"?>\n<list>\n{"".join(rows)}</list>'


def headers(luck: random.Random) -> list[tuple[bytes, bytes]]:
    """Headers as a transport hands them on."""
    chosen = luck.choices(HEADERS[:-4], k=luck.choice((0, 1, 2, 4, 8)))
    return [(name.encode(), luck.choice(VALUES).encode("utf-8").strip()) for name in chosen]


def message(luck: random.Random) -> bytes:
    """A whole answer as it is on the wire."""
    status = luck.choice((*STATUSES, 200, 206, 206, 200))
    lines = [f"HTTP/1.{luck.choice('0111112')} {status} {luck.choice(('OK', '', 'é', chr(9)))}"]
    body = luck.choice(
        (b"", b"0123456789", b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", bytes(100))
    )
    if luck.random() < 0.6:
        lines.append(f"Content-Length: {len(body)}")
    lines += (f"{name}: {luck.choice(VALUES)}" for name in luck.choices(HEADERS, k=luck.choice((0, 1, 2, 5))))
    head = "\r\n".join(lines) + luck.choice(("\r\n\r\n", "\r\n\r\n", "\r\n\r\n", "\n\n", "\r\n", ""))
    return mangled(luck, head.encode("utf-8") + body)


def mangled(luck: random.Random, data: bytes) -> bytes:
    """Half of them as they are; the others cut, repeated, or with some bytes changed."""
    if not data or luck.random() < 0.5:
        return data
    changed = bytearray(data)
    for _ in range(luck.choice((1, 1, 2, 8))):
        at = luck.randrange(len(changed) + 1)
        match luck.randrange(5):
            case 0:
                changed[at:] = b""
            case 1:
                changed[at:at] = changed[: luck.randrange(40)]
            case 2:
                changed[at : at + 1] = bytes([luck.randrange(256)])
            case 3:
                changed[at : at + luck.randrange(20)] = b""
            case _:
                changed[at:at] = luck.choice(PIECES)
    return bytes(changed)


PIECES: Sequence[bytes] = (
    b"\0",
    b"\r\n",
    b"\n",
    b"\xff",
    b"<a href=",
    b'"',
    b"]",
    b"[",
    b"{",
    b"}",
    b",",
    b"&",
    b"\xed\xa0\x80",
    b"%",
)
