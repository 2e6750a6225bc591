"""Whether the times in nginx's HTML listings are UTC.

They are unless ``autoindex_localtime`` is on, and the page does not say. A time read in the wrong
zone would differ from the file's own Last-Modified, which looks like another version, for ever. So
one listed file is asked about before the first such page is believed, and one more for the other
half of the year, for daylight saving. Where they differ by a time zone, the listing's times and sizes
are not used, and files are asked about one by one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from cache import Kind
from mirror.errors import AccessDenied, IsAFolder, NotFound
from mirror.remotes.base import Entry
from mirror.remotes.listings.rows import MINUTE

QUARTER = 15 * MINUTE
WIDEST = 15 * 60 * MINUTE
"""Time zones are whole quarters of an hour, and within 15 hours of UTC."""


class ListedTimes:
    """What is known about the clock of one origin's listings."""

    def __init__(self) -> None:
        self._utc: dict[bool, bool] = {}
        """By half of the year (True: April to September): whether listed times were UTC."""

    async def checked(self, entries: Sequence[Entry], ask: Callable[[str], Awaitable[Entry]]) -> list[Entry]:
        """Return the entries with what can be believed; ``ask`` gives one name's own headers.

        Raises whatever ``ask`` raises, but for files that cannot be asked about.
        """
        listed = [entry for entry in entries if entry.mtime_resolution_ns == MINUTE]
        for summer in (False, True):
            if summer not in self._utc:
                await self._compare(summer, listed, ask)
        if all(self._utc.values()):
            return list(entries)
        return [
            replace(entry, size=None, mtime_ns=None) if entry.mtime_resolution_ns == MINUTE else entry
            for entry in entries
        ]

    async def _compare(
        self, summer: bool, listed: Sequence[Entry], ask: Callable[[str], Awaitable[Entry]]
    ) -> None:
        for entry in listed:
            if entry.kind is not Kind.FILE or entry.mtime_ns is None or _summer(entry.mtime_ns) != summer:
                continue
            try:
                own = (await ask(entry.name)).mtime_ns
            except (NotFound, AccessDenied, IsAFolder):
                return  # the next listing asks about another file
            if own is None:
                self._utc[summer] = True  # files have no time of their own to differ from
                return
            apart = abs(own // MINUTE * MINUTE - entry.mtime_ns)
            if apart == 0:
                self._utc[summer] = True
            elif apart % QUARTER == 0 and apart < WIDEST:
                self._utc[summer] = False
            return


def _summer(mtime_ns: int) -> bool:
    return 4 <= datetime.fromtimestamp(mtime_ns / 1e9, UTC).month <= 9
