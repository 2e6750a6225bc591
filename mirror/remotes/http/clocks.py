"""Whether the times in nginx's HTML listings are UTC.

They are unless ``autoindex_localtime`` is on, and the page does not say. A time read in the wrong
zone differs from the file's own Last-Modified, which looks like another version, for ever. So before
such a page is believed, one of its files is asked about by itself. Where the two differ by a time zone,
the listing's times and sizes are not used, and files are asked about one by one.

nginx adds today's offset to all times, so the answer holds until the clocks change: it is asked for
again every hour.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from cache import Kind
from mirror.errors import AccessDenied, IsAFolder, NotFound
from mirror.remotes.base import Entry
from mirror.remotes.listings.rows import MINUTE

HOUR = 3600.0
QUARTER = 15 * MINUTE
WIDEST = 15 * 60 * MINUTE
"""Time zones are whole quarters of an hour, and within 15 hours of UTC."""


class ListedTimes:
    """What is known about the clock of one origin's listings."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._utc = True
        self._asked_at = clock() - HOUR

    async def checked(self, entries: Sequence[Entry], ask: Callable[[str], Awaitable[Entry]]) -> list[Entry]:
        """Return the entries with what can be believed; ``ask`` gives one name's own headers.

        Raises whatever ``ask`` raises, but for a file that cannot be asked about.
        """
        if not any(entry.mtime_resolution_ns == MINUTE for entry in entries):
            return list(entries)
        if self._clock() - self._asked_at >= HOUR:
            await self._compare(entries, ask)
        if self._utc:
            return list(entries)
        return [
            replace(entry, size=None, mtime_ns=None) if entry.mtime_resolution_ns == MINUTE else entry
            for entry in entries
        ]

    async def _compare(self, entries: Sequence[Entry], ask: Callable[[str], Awaitable[Entry]]) -> None:
        for entry in entries:
            if entry.kind is Kind.FILE and entry.mtime_ns is not None:
                break
        else:
            return  # nothing but folders: their times are only shown
        try:
            own = (await ask(entry.name)).mtime_ns
        except (NotFound, AccessDenied, IsAFolder):
            return  # the next listing asks again
        apart = 0 if own is None else abs(own // MINUTE * MINUTE - entry.mtime_ns)
        if apart == 0 or (apart % QUARTER == 0 and apart < WIDEST):
            self._utc = apart == 0
            self._asked_at = self._clock()
