"""Long work of a command on a trio run of its own, that a signal stops in an orderly way.

The first SIGINT or SIGTERM cancels the work: what was done stays, and is safe. A second one has its usual,
sudden effect.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from mirror.errors import MirrorError, SetupError, UsageError

T = TypeVar("T")


def interruptible(work: Callable[[], Awaitable[T]]) -> T | signal.Signals:
    """Run ``work``; returns the signal instead of its result when one stopped it.

    Raises:
        MirrorError: the work failed; what the cache itself says becomes a SetupError.
    """
    import trio

    from cache import BadPattern, CacheError

    results: list[T] = []
    stopped: list[signal.Signals] = []
    failed: list[Exception] = []

    async def stop_at_signal(
        scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                stopped.append(signal.Signals(number))
                break
        # Outside the receiver: from here on another signal has its usual, sudden effect.
        scope.cancel()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            # Signals are heard before any work is begun.
            await nursery.start(stop_at_signal, nursery.cancel_scope)
            try:
                results.append(await work())
            except CacheError as error:
                failed.append(SetupError(str(error)))
            except BadPattern as error:
                failed.append(UsageError(str(error)))
            except Exception as error:  # noqa: BLE001 - raised again outside, where it is no group
                failed.append(error)
            nursery.cancel_scope.cancel()

    trio.run(run)
    if failed:
        raise failed[0]
    if results:
        return results[0]
    if stopped:
        return stopped[0]
    raise MirrorError("the run ended without a result")


def finished(outcome: T | signal.Signals, said: str = "stopped") -> T:
    """The result of `interruptible`; when a signal stopped it, says so and ends with its exit code."""
    if isinstance(outcome, signal.Signals):
        click.echo(f"mirror: {said}", err=True)
        sys.exit(128 + outcome)
    return outcome


class Ticker:
    """Says on standard error how far a long work is, at most every `INTERVAL` seconds."""

    INTERVAL = 5.0

    def __init__(self, *, quiet: bool = False) -> None:
        self._last = time.monotonic()
        self._quiet = quiet

    def say(self, line: Callable[[], str]) -> None:
        """Print ``line()`` when it is time."""
        now = time.monotonic()
        if not self._quiet and now - self._last >= self.INTERVAL:
            self._last = now
            click.echo(line(), err=True)
