"""One row of a manifest: all of it is checked before any of it is used.

``path`` and ``url`` are needed. ``size``, ``sha256``, ``md5``, ``crc32c``, ``etag`` and ``mtime`` may be
missing, empty or null, row by row. Fields of other names are passed over: a list may serve others as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cache import Entry, Kind
from cache.digests import Algorithm, Digest, from_hex
from mirror.http import answers
from mirror.remotes.manifest.links import BadLinkError, Links
from mirror.remotes.names import BadNameError, check
from mirror.times import SECOND, rfc3339

FIELDS = ("path", "url", "size", "sha256", "md5", "crc32c", "etag", "mtime")
"""The fields that are read."""

LONGEST_PATH = 4096
"""Bytes: no program could name a file below a longer path."""
LARGEST = 2**63

_SECONDS = re.compile(r"(-?\d{1,10})(?:\.(\d{1,9}))?", re.ASCII)
_FRACTION = re.compile(r"\.(\d{1,9})")
_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')


class BadRowError(ValueError):
    """A row that cannot be used; ``str()`` says why, and shows no URL."""


@dataclass(frozen=True, slots=True)
class Row:
    """One file of a manifest."""

    path: str
    place: str
    """Its URL up to the last slash of the path."""
    rest: str
    """And what follows."""
    size: int | None = None
    mtime_ns: int | None = None
    resolution_ns: int = SECOND
    sha256: bytes | None = None
    md5: bytes | None = None
    crc32c: bytes | None = None
    etag: str | None = None
    """With its quotes."""

    @property
    def name(self) -> str:
        """The last name of the path."""
        return self.path.rpartition("/")[2]

    @property
    def validator(self) -> str | None:
        """What tells this version from others, if the manifest says."""
        if self.sha256 is not None:
            return f"sha-256:{self.sha256.hex()}"
        if self.md5 is not None:
            return f"md5:{self.md5.hex()}"
        return None if self.etag is None else answers.ETAG + self.etag

    @property
    def digest(self) -> Digest | None:
        """The strongest digest that the manifest has."""
        for algorithm, value in (
            (Algorithm.SHA256, self.sha256),
            (Algorithm.MD5, self.md5),
            (Algorithm.CRC32C, self.crc32c),
        ):
            if value is not None:
                return Digest(algorithm, value)
        return None

    def entry(self) -> Entry:
        """What the manifest says of it."""
        return Entry(
            self.name, Kind.FILE, self.size, self.mtime_ns, self.resolution_ns, validator=self.validator
        )


def read_row(fields: Mapping[str, object], links: Links) -> Row:
    """Make a row of what stands in it.

    Raises:
        BadRowError: it cannot be used.
    """
    path = _path(fields.get("path"))
    url = fields.get("url")
    if not isinstance(url, str) or not url:
        raise BadRowError("it has no url")
    try:
        place, rest = links.resolve(url)
    except BadLinkError as exc:
        raise BadRowError(str(exc)) from None
    mtime_ns, resolution = _mtime(fields.get("mtime"))
    return Row(
        path,
        place,
        rest,
        _size(fields.get("size")),
        mtime_ns,
        resolution,
        _hex(fields, "sha256", 32),
        _hex(fields, "md5", 16),
        _hex(fields, "crc32c", 4),
        _etag(fields.get("etag")),
    )


def _path(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise BadRowError("it has no path")
    if value.startswith("/"):
        raise BadRowError("its path begins with a '/'; paths are below the source")
    try:
        for name in value.split("/"):
            check(name)
    except BadNameError as exc:
        raise BadRowError(f"its path has a name that cannot be used: {exc}") from None
    if len(value) * 4 > LONGEST_PATH and len(value.encode()) > LONGEST_PATH:
        raise BadRowError(f"its path has more than {LONGEST_PATH} bytes")
    return value


def _size(value: object) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < LARGEST:
        raise BadRowError("its size is not a whole number of bytes")
    return value


def _hex(fields: Mapping[str, object], name: str, size: int) -> bytes | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) != 2 * size:
        raise BadRowError(f"its {name} has not {2 * size} hexadecimal digits")
    try:
        return from_hex(value)
    except ValueError:
        raise BadRowError(f"its {name} has not {2 * size} hexadecimal digits") from None


def _etag(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or value.startswith("W/"):
        raise BadRowError("its etag is not a strong one; leave it out")
    quoted = value if value.startswith('"') else f'"{value}"'
    if not _ETAG.fullmatch(quoted):
        raise BadRowError("its etag is none")
    return quoted


def _mtime(value: object) -> tuple[int | None, int]:
    """Nanoseconds since the epoch, and how exact they are: as exact as they are written."""
    if value is None or value == "":
        return None, SECOND
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadRowError("its mtime is no time; write seconds since 1970, or 2026-11-23T14:02:14Z")
    text = str(value)
    if found := _SECONDS.fullmatch(text):
        digits = found[2] or ""
        below = int(digits.ljust(9, "0"))
        moment: int | None = int(found[1]) * SECOND + (-below if text.startswith("-") else below)
    else:
        moment = rfc3339(text)
        fraction = _FRACTION.search(text)
        digits = fraction[1] if fraction else ""
    if moment is None or abs(moment) >= LARGEST:
        raise BadRowError("its mtime is no time; write seconds since 1970, or 2026-11-23T14:02:14Z")
    return moment, 10 ** (9 - len(digits))
