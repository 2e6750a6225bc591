"""A trio run of its own for a command: a signal ends it in an orderly way, a second one at once."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from cache import BadPattern, CacheError
from mirror.errors import MirrorError, SetupError, UsageError

T = TypeVar("T")


def run(work: Callable[[], Awaitable[T]]) -> T | signal.Signals:
    """Run ``work``; returns the signal instead when one stopped it.

    Raises:
        MirrorError: what the work raised; a `CacheError` becomes a `SetupError`, a `BadPattern` a
            `UsageError`.
    """
    outcome: list[T | MirrorError | signal.Signals] = []

    async def stop_at_signal(scope: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                outcome.append(signal.Signals(number))
                break
        # Outside the receiver: from here on another signal has its usual, sudden effect.
        scope.cancel()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_at_signal, nursery.cancel_scope)
            try:
                outcome.append(await work())
            except MirrorError as error:
                outcome.append(error)
            except CacheError as error:
                outcome.append(SetupError(str(error)))
            except BadPattern as error:
                outcome.append(UsageError(str(error)))
            nursery.cancel_scope.cancel()

    trio.run(main)
    # A signal and a result may come in the same moment: the first counts.
    first = outcome[0] if outcome else MirrorError("the run ended without a result")
    if isinstance(first, MirrorError):
        raise first
    return first
