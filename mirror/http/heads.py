"""Heads of HTTP/1.1 messages: the request's written, and the usual answer's read, without a state machine.

Nearly all answers of a file server look alike: 2xx to 4xx, one Content-Length, no transfer coding, all
in the first read. Such a head is read here by one strict pattern, in a fifth of the time that h11
takes. Whatever is not exactly so (chunked, interim answers, repeated lengths, a head in two
reads, anything malformed) is not judged here: `usual` returns None, and h11 reads it from its start.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import httpx

from mirror.http.light import LightHeaders, Raw, pairs

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# No two parts of this pattern can match the same byte, so it takes linear time on any input.
_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5]\d\d)(?: [^\r\n\0]*)?\r\n((?:" + _TOKEN + rb":[^\r\n\0]*\r\n)*)\r\n", re.DOTALL
)
_LENGTH = re.compile(r"[0-9]{1,18}")
_TARGET = re.compile(rb"[!-~]+")
MOST_KNOWN = 128
"""Characters of a header line that is kept at most."""
_VALUE = re.compile(rb"[^\r\n\0]*")


class UsualHead(NamedTuple):
    """An answer whose body has a length that is known."""

    status: int
    headers: httpx.Headers
    length: int
    keeps_alive: bool
    end: int
    """Where the body begins in the data that was read."""


def request(method: str, target: bytes, headers: Raw) -> bytes:
    """Write the head of a request.

    Raises:
        ValueError: something in it would break out of its line.
    """
    if not _TARGET.fullmatch(target):
        raise ValueError("the target of a request has no spaces or control characters")
    lines = [b"%b %b HTTP/1.1\r\n" % (method.encode("ascii"), target)]
    for name, value in headers:
        if not _VALUE.fullmatch(value):
            raise ValueError("the value of a header is one line")
        lines.append(b"%b: %b\r\n" % (name, value))
    lines.append(b"\r\n")
    return b"".join(lines)


def _field(line: str) -> tuple[str, str]:
    """The name of a header line, in lower case, and its value."""
    name, _, value = line.partition(":")
    return name.lower(), value.strip(" \t")


# Most lines of an answer are those of the one before.
_known = lru_cache(maxsize=256)(_field)


def usual(data: bytes | memoryview) -> UsualHead | None:
    """Read the head that ``data`` begins with, if it is a usual one."""
    found = _HEAD.match(data)
    if found is None:
        return None
    lines = found[2].decode("latin-1")
    values: dict[str, str] = {}
    for line in lines.split("\r\n"):
        key, value = _known(line) if len(line) <= MOST_KNOWN else _field(line)
        values[key] = f"{values[key]}, {value}" if key in values else value
    del values[""]  # what is behind the last line's end
    stated = values.get("content-length")
    if stated is None or "transfer-encoding" in values or not _LENGTH.fullmatch(stated):
        return None
    status = int(found[1])
    if status in (204, 304):
        return None
    headers = LightHeaders(lines, values) if lines.isascii() else httpx.Headers(pairs(lines, "latin-1"))
    keeps_alive = "close" not in values.get("connection", "").lower()
    return UsualHead(status, headers, int(stated), keeps_alive, found.end())
