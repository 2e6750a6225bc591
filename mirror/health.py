"""Whether the origin is worth asking when a cached answer is at hand.

An unreachable origin must not cost every look-up of a cached name a time-out. After a failure the
cached answer is used at once for a pause that doubles up to a minute; one request after each pause
finds out whether the origin is back. Requests that have no cached answer never ask this class.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


class OriginHealth:
    """What the last requests to one origin say about the next. Times in seconds of ``clock``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pause = 0.0
        self._not_before = 0.0

    @property
    def down(self) -> bool:
        """The last request failed for a reason that lies with the origin or the way to it."""
        return self._pause > 0

    def worth_asking(self) -> bool:
        """Whether to ask the origin although a cached answer is at hand."""
        return self._clock() >= self._not_before

    def answered(self) -> None:
        """The origin answered, whatever it said."""
        if self.down:
            log.warning("the origin answers again")
        self._pause = self._not_before = 0.0

    def failed(self, why: Exception) -> None:
        """A request failed; cached answers are used without asking for a while."""
        if not self.down:
            log.warning("the origin does not answer, serving what is cached: %s", why)
        self._pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, self._pause * 2))
        self._not_before = self._clock() + self._pause
