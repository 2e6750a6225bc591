"""What every listing format shares: the row it yields, and how rows become entries."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from cache import Kind
from mirror.remotes.base import Entry
from mirror.remotes.names import BadNameError, check, decode, shown

log = logging.getLogger(__name__)

SECOND = 1_000_000_000
MINUTE = 60 * SECOND

LARGEST = 2**63
"""A size from here on is no size that a file can have, whatever the page says."""

MOST_ENTRIES = 100_000
"""Entries of one folder: what they take in memory is to stay below 64 MiB."""

MOST_LINKS = 2 * MOST_ENTRIES
"""Links and lines on a page, those that name no entry or one once more included: each takes 30 µs."""

MOST_LOGGED = 5
"""Left-out entries named in the log for one page; the rest are counted."""


DIGITS = 19
"""Of the largest size that can be one; Python refuses to read a number of more than 4,300."""


def whole_number(text: str) -> int | None:
    """Read a size in ASCII digits; None where it is none, or one that no file can have."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= DIGITS else None


class NotAListingError(ValueError):
    """The page is not the listing of a folder; ``str()`` says how that shows."""


CADDY_LIMIT = 10_000
"""Entries after which Caddy silently ends a listing, unless its ``file_limit`` says otherwise."""


def refuse_cut(count: int) -> None:
    """Refuse a page of Caddy that has just as many entries as it has at most.

    Taken for the whole folder it would make every further file one that "does not exist".

    Raises:
        NotAListingError: it is cut, in all likelihood.
    """
    if count == CADDY_LIMIT:
        raise NotAListingError(
            f"Caddy has cut it after {count} entries; give its browse directive a higher file_limit"
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a listing page."""

    name: str
    """Percent-encoded where ``quoted`` (HTML), else as it is."""
    folder: bool
    size: int | None = None
    mtime_ns: int | None = None
    resolution_ns: int = SECOND
    quoted: bool = True


def collect(rows: Iterable[Row], url: str) -> list[Entry]:
    """Make entries of rows, in their order.

    Names are decoded once and checked; bad ones are left out. Of rows that repeat a name the first
    wins; a name that is a file and a folder at once is left out, for nobody can say which is meant.

    Raises:
        NotAListingError: there are more than `MOST_ENTRIES`; half of a folder is none.
    """
    entries: dict[str, Entry] = {}
    left_out = LeftOut(url)
    for count, row in enumerate(rows):
        if count >= MOST_LINKS:
            raise NotAListingError(f"it has more than {MOST_LINKS:,} lines")
        try:
            name = decode(row.name) if row.quoted else check(row.name)
        except BadNameError as exc:
            left_out.add(row.name, str(exc))
            continue
        kind = Kind.FOLDER if row.folder else Kind.FILE
        known = entries.get(name)
        if known is None:
            if len(entries) >= MOST_ENTRIES:
                raise NotAListingError(f"it has more than {MOST_ENTRIES:,} entries")
            size = None if row.folder or (row.size or 0) >= LARGEST else row.size
            entries[name] = Entry(name, kind, size, row.mtime_ns, row.resolution_ns)
        elif known.kind is not kind:
            left_out.add(name, "it is a file and a folder")
            left_out.ambiguous.add(name)
    left_out.report()
    return [entry for name, entry in entries.items() if name not in left_out.ambiguous]


class LeftOut:
    """Names left out of one listing: a page of a million bad names is not a million log lines."""

    def __init__(self, url: str) -> None:
        """``url``: of what the listing is, for the log."""
        self.ambiguous: set[str] = set()
        """Names that are a file and a folder."""
        self._url = url
        self._count = 0

    def add(self, name: str, why: str) -> None:
        """Note one, for the reason ``why``."""
        self._count += 1
        if self._count <= MOST_LOGGED:
            log.warning("%s: left out the name %s: %s", self._url, shown(name), why)

    def report(self) -> None:
        """Say how many there were, where not all of them were named."""
        if self._count > MOST_LOGGED:
            log.warning("%s: left out %d names in all", self._url, self._count)
