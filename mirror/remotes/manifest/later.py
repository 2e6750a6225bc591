"""Work of a thread that nobody has to wait for to its end.

A large manifest takes longer to read than one question may take. The question is given up then; the work goes
on, and is there for the next one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import outcome
import trio

T = TypeVar("T")

SHORT = 0.0002
"""Seconds that the work rests at each step: a thread that waits for the interpreter's lock gets it then."""


class StoppedError(Exception):
    """The work saw that nobody wants it any more."""


class Going:
    """What the work and those who wait for it know of each other."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.steps = 0
        """How far it is: whoever sees it stand still may take the work for stuck."""

    def step(self) -> None:
        """For the work, now and then: says that it goes on, and lets other threads do so too.

        Raises:
            StoppedError: nobody wants it any more.
        """
        self.steps += 1
        if self.stopped.wait(SHORT):
            raise StoppedError


class Later(Generic[T]):
    """One piece of work, begun at once."""

    def __init__(self, work: Callable[[Going], T], discard: Callable[[T], None]) -> None:
        """Begin.

        Args:
            work: runs in a thread, and calls `Going.step` now and then.
            discard: gets a result that came after `stop`, in that thread.
        """
        self._wanted = threading.Lock()
        self.going = Going()
        self._done = trio.Event()
        self._outcome: outcome.Outcome[T] | None = None
        self._discard = discard
        token = trio.lowlevel.current_trio_token()

        def deliver(came: outcome.Outcome[T]) -> None:
            with self._wanted:
                self._outcome = came
                if self.going.stopped.is_set():
                    self._throw_away(came)
                    return
            try:
                token.run_sync_soon(self._done.set)
            except trio.RunFinishedError:
                self._throw_away(came)

        trio.lowlevel.start_thread_soon(lambda: work(self.going), deliver, "manifest")

    async def result(self) -> T:
        """Wait for the end of it, as often as one likes; returns or raises what the work did."""
        await self._done.wait()
        match self._outcome:
            case outcome.Value(value):
                return cast("T", value)
            case outcome.Error(error):
                raise error
        raise AssertionError("the outcome is set before the event")

    def stop(self) -> None:
        """Nobody wants it any more."""
        with self._wanted:
            self.going.stopped.set()
            if self._outcome is not None:
                self._throw_away(self._outcome)

    def _throw_away(self, came: outcome.Outcome[T]) -> None:
        if isinstance(came, outcome.Value):
            self._discard(came.value)
