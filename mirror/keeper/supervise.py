"""When to start a worker again, and when to give up: a pure policy.

A worker that dies is replaced, at once the first time, then a little later each time. A mount is given
up when workers keep dying: 5 deaths within 10 s. Not every death says that: one that was killed from
outside after it had served requests is no sign of a worker that cannot work, so a machine short of
memory, or a test that kills without mercy, does not end a mount that goes on working.
"""

from __future__ import annotations

from collections import deque
from signal import SIGKILL, SIGTERM

MOST_DEATHS = 5
WINDOW_SECONDS = 10.0
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 0.8


class Deaths:
    """The deaths of one mount's workers."""

    def __init__(self) -> None:
        self.restarts = 0
        """Workers started after the first."""
        self._counted: deque[float] = deque(maxlen=MOST_DEATHS)

    def record(self, now: float, exit_code: int, *, served: bool) -> float | None:
        """One more death. Returns the seconds to wait before the next start, or None: give up.

        Args:
            now: seconds of a monotonic clock.
            exit_code: negative: the signal that killed it.
            served: whether it answered any request.
        """
        if served and -exit_code in (SIGKILL, SIGTERM):
            self.restarts += 1
            return 0.0
        self._counted.append(now)
        recent = sum(1 for time in self._counted if now - time < WINDOW_SECONDS)
        if recent >= MOST_DEATHS:
            return None
        self.restarts += 1
        return 0.0 if recent == 1 else min(_FIRST_DELAY * 2 ** (recent - 2), _LONGEST_DELAY)
