"""How much to ask of an origin at once: learned from how it answers, decided without any I/O.

Three things are measured: the time to the first byte of an answer, the rate of one connection, and the
rate of all of them together. What follows from them:

- *Near and fast* (an answer within `NEAR`, `FAST` or more on one connection): four parts of one file. One
  keeps such a link busy, the others hide the gaps while what came is written; more bring nothing.
- Else as many as pay: the number doubles for as long as the new ones bring at least half of what they
  should, measured over a time in which exactly that many were under way. When they bring less,
  it steps back and is tried again after `HOLD`, for links change.
- A part is so large that waiting for its first byte is a twentieth of its time, and no larger: the smaller
  the parts, the sooner a reader that goes forward has all that comes before its place.
- The farther an origin, the more small files are fetched ahead of a reader at once.

All times are seconds of one monotonic clock, rates bytes a second.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

MiB = 1024 * 1024

NEAR = 0.02
"""An origin that answers within so many seconds is near."""
FAST = 32 * MiB
"""Rate of one connection from which on a near origin needs no more than `NEAR_PARTS`."""
NEAR_PARTS = 4
FAR_PARTS = 8
"""Parts of one file at first."""
NEAR_PART_SIZE = 16 * MiB
SMALLEST_PART = MiB
LARGEST_PART = 64 * MiB
FIRST_PART = MiB
"""Size of a part of an origin that is not known yet."""
ROUND_TRIPS = 20
"""A part takes so many times as long as the wait for its first byte."""
PAYS = 0.5
"""Share of what further connections should bring that they have to bring."""
HOLD = 30.0
"""Seconds after which a number that did not pay is tried again."""
SETTLE = 4
WINDOW = 4
"""Waits for a first byte that new connections are given to find their rate, and that are measured then."""
SHORTEST_WINDOW = 0.25
AHEAD = 8
"""Small files fetched ahead at once from a near origin."""
WEIGHT = 0.25
"""Of the newest measurement, in the averages."""
REMEMBERED = 32
"""Answers whose shortest wait says how far the origin is."""
LEAST_MEASURED = 256 * 1024
"""Bytes that a connection has to bring before its rate means something."""
STALL = 4
SHORTEST_STALL = 1.0
"""A part that brings no byte for so many waits for a first byte, and for so many seconds, has stalled."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """What a number of parts brought, before more were tried."""

    parts: int
    rate: float


class Pace:
    """What is known of one origin. `limit` is the most requests that there may be at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.first_byte: float | None = None
        """Usual time to the first byte of an answer; None: none has come yet."""
        self._shortest: deque[float] = deque(maxlen=REMEMBERED)
        self.connection_rate: float | None = None
        """Usual rate of one connection."""
        self.total_rate: float | None = None
        """Of all connections together, in the last window that was measured."""
        self._parts: int | None = None  # None: as many as one begins with
        self._before: _Trial | None = None
        self._hold_until = 0.0
        self._since: float | None = None  # begin of the window; in the future: connections settle
        self._came = 0

    # -- what is seen ------------------------------------------------------------------------

    def answered(self, seconds: float) -> None:
        """Note how long an answer took to begin."""
        self.first_byte = _average(self.first_byte, seconds)
        self._shortest.append(seconds)

    def finished(self, size: int, seconds: float) -> None:
        """Note that one connection brought ``size`` bytes in so many seconds, its first byte not counted."""
        if size >= LEAST_MEASURED and seconds > 0:
            self.connection_rate = _average(self.connection_rate, size / seconds)

    def received(self, size: int, busy: int, now: float) -> None:
        """Note bytes of a large file, while ``busy`` requests are under way."""
        parts = self.parts
        if abs(busy - parts) > max(1, parts // 4):  # one part ends a moment before the next one begins
            # Too few say nothing about so many, and more are of several files, which are many enough.
            self._since = None
            return
        if self._since is None:
            self._since, self._came = now + SETTLE * (self.first_byte or 0.0), 0
        elif now >= self._since:
            self._came += size
            if now - self._since >= max(SHORTEST_WINDOW, WINDOW * (self.first_byte or 0.0)):
                self._judge(self._came / (now - self._since), now)
                self._since = None

    # -- what follows from it ----------------------------------------------------------------

    @property
    def near(self) -> bool:
        """Whether the origin answers at once, as far as is known."""
        # The shortest of the last ones: the others tell of our own load.
        return bool(self._shortest) and min(self._shortest) < NEAR

    @property
    def quick(self) -> bool:
        """Whether one connection or two are all that such an origin needs."""
        return self.near and (self.connection_rate is None or self.connection_rate >= FAST)

    @property
    def parts(self) -> int:
        """Parts of one file to have under way at once."""
        if self.quick:
            return min(NEAR_PARTS, self.limit)
        return min(self._parts or FAR_PARTS, self.limit)

    def part_size(self, left: int) -> int:
        """Bytes of the next part of a file of which ``left`` are missing."""
        if self.quick:
            return NEAR_PART_SIZE
        if self.first_byte is None or self.connection_rate is None:
            return FIRST_PART
        size = int(self.connection_rate * self.first_byte * ROUND_TRIPS)
        size = NEAR_PART_SIZE if self.near else min(size, LARGEST_PART)
        # Towards the end smaller ones, so that all connections have something to do until then.
        return max(SMALLEST_PART, min(size, left // self.parts))

    def delay(self) -> float:
        """Seconds until another request has come to its usual rate."""
        return SETTLE * (self.first_byte or 0.0)

    def touch_size(self) -> int:
        """Bytes that cost no more than the wait for the first of them: as many are worth asking for."""
        size = int((self.connection_rate or 0.0) * (self.first_byte or 0.0))
        return max(64 * 1024, min(size, MiB))

    def ahead(self, spare: int) -> int:
        """Small files to have under way ahead of a reader, when ``spare`` requests may be made for that."""
        if self.first_byte is None or self.near:
            return min(AHEAD, max(1, spare))
        return max(1, spare)

    def patience(self) -> float:
        """Seconds without a byte after which a request has stalled."""
        return max(SHORTEST_STALL, STALL * (self.first_byte or 0.0))

    def _judge(self, rate: float, now: float) -> None:
        self.total_rate = rate
        if self.quick or now < self._hold_until:
            return
        parts, before = self.parts, self._before
        if before is not None and before.parts < parts:
            share = (rate - before.rate) * before.parts / (before.rate * (parts - before.parts))
            if share < PAYS:
                self._parts, self._before, self._hold_until = before.parts, None, now + HOLD
                return
        self._before = _Trial(parts, max(rate, 1.0))
        self._parts = min(2 * parts, self.limit)


def _average(old: float | None, new: float) -> float:
    return new if old is None else (1 - WEIGHT) * old + WEIGHT * new
