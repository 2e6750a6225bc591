"""Names: decoded exactly once where they come in, quoted completely where they go out.

A remote name becomes a directory entry, never a path on disk; still a name that means something to
a path walk (empty, ``.``, ``..``, with ``/`` or NUL), that a directory cannot hold (over 255 bytes)
or that has no UTF-8 form is refused. Everything else is a name: spaces, percent signs, newlines,
control characters, ``<b>``. Refused names are left out of a listing by its parser, and logged.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

MAX_BYTES = 255
"""Longest name in bytes of UTF-8: the kernel's NAME_MAX."""

_DOT_SEGMENT = (".", "..")


class BadNameError(ValueError):
    """A name that cannot be an entry; ``str()`` says why, without the name itself."""


def check(name: str) -> str:
    """Return ``name`` if it may name an entry.

    Raises:
        BadNameError: it may not.
    """
    if not name:
        raise BadNameError("it is empty")
    if name in _DOT_SEGMENT:
        raise BadNameError("it is a path segment with a meaning of its own")
    if "/" in name or "\0" in name:
        raise BadNameError("it contains a slash or NUL")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise BadNameError("it is not UTF-8") from None  # a lone surrogate: bytes that were no text
    if size > MAX_BYTES:
        raise BadNameError(f"it has more than {MAX_BYTES} bytes")
    return name


def decode(segment: str) -> str:
    """Decode one percent-encoded path segment, once, and check it.

    A ``%`` without two hexadecimal digits behind it stands for itself, as in every browser.

    Raises:
        BadNameError: the decoded bytes are no UTF-8 or no name.
    """
    if "%" not in segment:
        return check(segment)
    try:
        raw = unquote_to_bytes(segment)
    except UnicodeEncodeError:
        raise BadNameError("it is not UTF-8") from None
    try:
        return check(raw.decode())
    except UnicodeDecodeError:
        raise BadNameError("it is not UTF-8") from None


_PLAIN = re.compile(r"[A-Za-z0-9_.~/-]*")


def to_url(path: str) -> str:
    """Quote a path of decoded names for the path of a URL: all but letters, digits and ``-._~/``."""
    if _PLAIN.fullmatch(path):
        return path
    return quote(path, safe="/")


def shown(name: str) -> str:
    """Return the name for a log line: quoted, escaped, and no longer than a line."""
    text = ascii(name)
    return text if len(text) <= 120 else f"{text[:117]}..."
