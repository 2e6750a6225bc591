"""How much of a large file is fetched because somebody reads a little of it. Pure.

A reader that goes forward wants the whole file, and one that has read a tenth of it here and there probably
will; one that looks up a record now and then does not, and the file may be larger than the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mirror.config import FetchMode
from mirror.fetch.plan import Range
from mirror.fetch.window import Runs

SHARE = 0.1
"""Of a file that has to be there before the rest is fetched unasked, in `FetchMode.AUTO`."""
RUN = 2 * 1024 * 1024
"""Bytes read in a row that have the same effect."""
MOST_AHEAD = 16 * 1024 * 1024
"""Bytes fetched ahead of a reader, when that is all that is."""


class Appetite:
    """What may be fetched of one file."""

    def __init__(self, mode: FetchMode) -> None:
        self._mode = mode
        self._runs = Runs()
        self._in_a_row = 0
        self.whole = mode is FetchMode.WHOLE
        """All of it; once true it stays so."""

    def read(self, start: int, stop: int) -> None:
        """Note a read."""
        self._in_a_row = self._runs.note(start, stop)
        if self._mode is FetchMode.AUTO and self._in_a_row >= RUN:
            self.whole = True

    def has(self, present: int, size: int) -> None:
        """Note how many of all bytes are there."""
        if self._mode is FetchMode.AUTO and present >= SHARE * size:
            self.whole = True

    def wanted(
        self, missing: Sequence[Range], demands: Iterable[Range], cursor: int, least: int
    ) -> list[Range]:
        """What of the missing ranges is to be fetched now.

        Args:
            missing: sorted and disjoint.
            demands: what readers wait for.
            cursor: where the last read ended.
            least: bytes that one request should be for at least.
        """
        if self.whole:
            return list(missing)
        wanted = [(start, max(stop, start + least)) for start, stop in demands]
        if self._in_a_row:
            wanted.append((cursor, cursor + min(max(self._in_a_row, least), MOST_AHEAD)))
        return [
            (max(a, start), min(b, stop))
            for start, stop in _joined(wanted)
            for a, b in missing
            if a < stop and start < b
        ]


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes as sorted, disjoint ranges."""
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined
