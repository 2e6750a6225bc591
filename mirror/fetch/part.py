"""One request for a range of a file, and when a second one for the rest of it is worth while.

A connection may hang, or crawl, while its siblings run. Then the rest of its part is asked for once more, on
another connection (a *hedge*), and whichever delivers goes on alone. What that may cost is bounded: one hedge
for each part, and all that comes twice together stays below `SHARE` of the file.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

import trio

from mirror.fetch.pace import Pace
from mirror.fetch.plan import Range
from mirror.retry import Attempts, Schedule

SHARE = 0.1
"""Of a file's bytes may at most come twice."""
COST = 1024 * 1024
"""Bytes that a hedge may bring before it is decided which of both goes on."""
SLOW = 0.2
"""A part that brings less than this share of what its siblings bring is slow."""
JUDGED_AFTER = 2.0
"""Seconds of a request after which its rate means something."""
WORTH = 64 * 1024
"""Bytes that have to be left."""

Chunk = bytes | bytearray | memoryview


class PartUnderWay:
    """One request under way: it has still to deliver ``at`` to ``stop``."""

    __slots__ = (
        "asked_at",
        "at",
        "attempts",
        "came",
        "first_at",
        "flushed_at",
        "gathered",
        "hedged",
        "last_at",
        "original",
        "scope",
        "size",
        "stop",
        "writing",
    )

    def __init__(
        self, start: int, stop: int, attempts: Attempts, original: PartUnderWay | None = None
    ) -> None:
        self.at = start
        self.stop = stop
        self.attempts = attempts
        self.scope = trio.CancelScope()
        self.original = original
        """Of a hedge that is not decided yet: the part whose rest this asks for as well."""
        self.hedged = original is not None
        """It has had its hedge, or is one."""
        self.gathered: list[Chunk] = []
        self.size = 0
        """What came and nobody writes yet, and its bytes."""
        self.writing = 0
        """Bytes before those that are being written."""
        self.flushed_at = 0.0
        self.asked_at: float | None = None
        """When the request was sent; None: there is none at this moment."""
        self.first_at: float | None = None
        self.last_at = 0.0
        """When its first byte and its last one came."""
        self.came = 0
        """Bytes that this request has brought."""

    def asks(self, now: float) -> None:
        """A request is sent."""
        self.asked_at, self.first_at, self.last_at, self.came = now, None, now, 0

    def takes(self, chunk: Chunk, now: float) -> None:
        """A chunk has come."""
        if self.first_at is None:
            self.first_at = self.flushed_at = now
        self.last_at = now
        self.came += len(chunk)
        self.gathered.append(chunk)
        self.size += len(chunk)

    @property
    def reached(self) -> int:
        """Where it is: what stands before has come, and need not come again."""
        return self.at + self.writing + self.size

    def handed_over(self) -> tuple[list[Chunk], int]:
        """Hand over what came, and its bytes; what lies behind the part's end of now is dropped."""
        chunks, size = self.gathered, self.size
        self.gathered, self.size = [], 0
        surplus = self.at + size - self.stop
        while surplus > 0 and chunks:
            last = memoryview(chunks.pop())
            kept = max(0, len(last) - surplus)
            surplus -= len(last) - kept
            size -= len(last) - kept
            if kept:
                chunks.append(last[:kept])
        return chunks, size

    def rate(self, now: float) -> float | None:
        """Bytes a second of this request; None: too early to say."""
        if self.asked_at is None or now - self.asked_at < JUDGED_AFTER:
            return None
        return self.came / (now - self.asked_at)


def lags(
    part: PartUnderWay, parts: Iterable[PartUnderWay], patience: float, usual: float | None, now: float
) -> bool:
    """Whether the rest of a part should be asked for once more.

    Args:
        part: which one.
        parts: all of the file that are under way.
        patience: seconds without a byte that are too many.
        usual: rate of one connection to this origin, for a part without siblings; None: not known.
        now: `trio.current_time`.
    """
    if part.hedged or part.asked_at is None or part.stop - part.reached < WORTH:
        return False
    if now - part.last_at > patience:
        return True
    rate = part.rate(now)
    if rate is None:
        return False
    others = [other for sibling in parts if sibling is not part and (other := sibling.rate(now)) is not None]
    expected = statistics.median(others) if others else usual
    left = part.stop - part.reached
    # Not for what will be there anyway before a second one has begun.
    return expected is not None and rate < SLOW * expected and left > rate * patience


def rests(parts: Iterable[PartUnderWay], now: float) -> list[tuple[Range, float | None]]:
    """What each part has still to bring, and its rate as far as it is known."""
    return [((part.reached, part.stop), part.rate(now)) for part in parts]


class Hedges:
    """The hedges of one file, and what they cost."""

    def __init__(self) -> None:
        self.made = 0
        self.wasted = 0
        """Bytes that came twice."""

    def make(
        self, part: PartUnderWay, parts: Iterable[PartUnderWay], size: int, pace: Pace, schedule: Schedule
    ) -> PartUnderWay | None:
        """Make the hedge of a part of a file of ``size`` bytes; None: it does well, or it would cost much."""
        if self.wasted + COST > SHARE * size:
            return None
        if not lags(part, parts, pace.patience(), pace.connection_rate, trio.current_time()):
            return None
        part.hedged = True
        self.made += 1
        return PartUnderWay(part.at, part.stop, Attempts(schedule), original=part)

    def won(self, hedge: PartUnderWay, parts: Iterable[PartUnderWay]) -> None:
        """A hedge has brought its first bytes: it goes on alone."""
        original, hedge.original = hedge.original, None
        if original is not None and original in parts:
            self.wasted += max(0, original.at - hedge.at) + original.size
            original.scope.cancel()

    def ended(self, part: PartUnderWay, parts: Iterable[PartUnderWay]) -> None:
        """A part ended: its hedge, if it was not decided yet, is not needed any more."""
        for other in parts:
            if other.original is part:
                self.wasted += other.came
                other.scope.cancel()
