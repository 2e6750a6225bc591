"""When to try a failed request again: pure arithmetic, and the one loop that applies it.

Exponential back-off with full jitter, so that many readers of one origin do not come back in step;
what the origin itself asks for (``Retry-After``) is honoured when it is longer. An operation that
got nowhere for ``deadline`` seconds is given up: its last error is what the caller sees.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

import trio

from mirror.errors import OriginFailed, Stalled, Transient

T = TypeVar("T")

JITTER = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long to wait between tries. All values in seconds except `tries`."""

    first: float = 0.1
    """Upper bound of the first pause."""
    longest: float = 10.0
    """No pause is longer, except at the origin's own wish."""
    tries: int = 6
    """Attempts in all, without progress in between."""
    deadline: float = 30.0
    """Time in all, without progress in between."""
    extends: bool = True
    """`progressed` begins the deadline anew; False: something else stands by, and is used after it."""

    def pause(self, failures: int, retry_after: float | None, elapsed: float, luck: float) -> float | None:
        """Seconds to wait after the ``failures``-th failure in a row, or None to give up.

        ``luck`` is a number from 0 to 1. A wish of the origin that lies beyond the deadline is
        not waited for.
        """
        if failures >= self.tries:
            return None
        pause = luck * min(self.longest, self.first * 2.0 ** (failures - 1))
        if retry_after is not None:
            # On top of its wish a little luck of our own: everyone was told the same moment.
            pause = max(pause, retry_after + luck * self.first)
        return None if elapsed + pause > self.deadline else pause


class Attempts:
    """The failures of one operation since it last made progress."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._failures = 0
        self._since = trio.current_time()

    def asks(self) -> None:
        """The origin is asked for bytes from now on: before, it was not its turn to make progress."""
        if not self._failures:
            self._since = trio.current_time()

    def progressed(self) -> None:
        """Bytes arrived: what failed before does not count any more."""
        if self._failures:
            self._failures = 0
        self._since = trio.current_time()

    def moved(self) -> None:
        """Bytes arrive, but all of them may have to come again: what failed before goes on counting."""
        self._since = trio.current_time()

    def failed(self, error: Transient) -> float | None:
        """Note a failure; returns the seconds to wait before the next try, None to give up."""
        self._failures += 1
        elapsed = trio.current_time() - self._since
        return self._schedule.pause(self._failures, error.retry_after, elapsed, JITTER.random())


_under_way: ContextVar[Callable[[], None] | None] = ContextVar("under_way", default=None)


def progressed() -> None:
    """Note that what this task does for `retrying` gets somewhere, though it may take long.

    For one operation that is much work: reading a list of a million files.
    """
    if (extend := _under_way.get()) is not None:
        extend()


async def retrying(schedule: Schedule, operation: Callable[[], Awaitable[T]], where: str) -> T:
    """Run ``operation`` until it succeeds, fails for good, or the schedule is used up.

    Args:
        schedule: how often, how far apart, and for how long.
        operation: one try.
        where: what is asked for, for the message.

    Raises:
        OriginFailed: the last transient failure, once no try is left, or no time.
        Stalled: a request was under way for most of the deadline when that passed.
        MirrorError: any other failure of the operation, at once.
    """
    attempts = Attempts(schedule)
    failure: Transient | None = None
    asked_at = trio.current_time()
    with trio.move_on_after(schedule.deadline) as scope:

        def extend() -> None:
            if schedule.extends:
                scope.deadline = trio.current_time() + schedule.deadline

        token = _under_way.set(extend)
        try:
            while True:
                asked_at = trio.current_time()
                try:
                    return await operation()
                except Transient as exc:
                    failure = exc
                    pause = attempts.failed(exc)
                    if pause is None:
                        raise OriginFailed(str(exc)) from exc
                await trio.sleep(pause)
        finally:
            _under_way.reset(token)
    if failure is not None and trio.current_time() - asked_at < schedule.deadline / 2:
        raise OriginFailed(str(failure)) from failure
    raise Stalled(f"{where}: no answer within {schedule.deadline:g} s")
