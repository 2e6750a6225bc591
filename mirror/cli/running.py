"""Long work of a command on a trio run of its own, that a signal stops in an orderly way.

The first SIGINT or SIGTERM cancels the work: what was done stays, and is safe. A second one has its usual,
sudden effect.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mirror.errors import MirrorError, SetupError

T = TypeVar("T")


def interruptible(work: Callable[[], Awaitable[T]]) -> T | signal.Signals:
    """Run ``work``; returns the signal instead of its result when one stopped it.

    Raises:
        MirrorError: the work failed; what the cache itself says becomes a SetupError.
    """
    import trio

    from cache import CacheError

    results: list[T] = []
    stopped: list[signal.Signals] = []
    failed: list[MirrorError] = []

    async def stop_at_signal(scope: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                stopped.append(signal.Signals(number))
                break
        # Outside the receiver: from here on another signal has its usual, sudden effect.
        scope.cancel()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_at_signal, nursery.cancel_scope)
            try:
                results.append(await work())
            except MirrorError as error:
                failed.append(error)
            except CacheError as error:
                failed.append(SetupError(str(error)))
            nursery.cancel_scope.cancel()

    trio.run(run)
    if failed:
        raise failed[0]
    if results:
        return results[0]
    if stopped:
        return stopped[0]
    raise MirrorError("the run ended without a result")
