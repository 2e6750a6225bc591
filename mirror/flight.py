"""One flight per key: whoever asks while an answer is under way waits for that answer.

The first caller does the work in its own task, so the work has an owner and is cancelled with it;
when that happens the next of those waiting takes over. An error is everybody's: a hundred readers
of a dead origin wait for one time-out, not for a hundred in a row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import trio

from mirror.errors import MirrorError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class _Flight(Generic[T]):
    """One answer under way. Neither `value` nor `error` is set when its owner was cancelled."""

    __slots__ = ("error", "landed", "value")

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.value: list[T] = []
        self.error: MirrorError | None = None


class SingleFlight(Generic[K, T]):
    """Runs at most one operation per key at a time and shares its outcome."""

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[T]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    async def run(self, key: K, operation: Callable[[], Awaitable[T]]) -> T:
        """The outcome of ``operation``, or of the one that is already under way for ``key``.

        Raises:
            MirrorError: what the operation raised, for all who waited for it.
        """
        while (flight := self._flights.get(key)) is not None:
            await flight.landed.wait()
            if (error := flight.error) is not None:
                try:
                    # A fresh instance would lose the cause; the traceback grows by one frame a waiter.
                    raise error
                finally:
                    del error, flight  # as below
            if flight.value:
                return flight.value[0]
        flight = self._flights[key] = _Flight()
        try:
            value = await operation()
        except MirrorError as exc:
            flight.error = exc
            raise
        else:
            flight.value.append(value)
            return value
        finally:
            del self._flights[key]
            flight.landed.set()
            # An error has this frame in its traceback: they would keep each other, and all frames below with
            # what is in them (a page of 16 MiB) until the collector comes.
            del flight
