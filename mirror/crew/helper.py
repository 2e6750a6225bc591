"""What a helper does: a run of its own, over the source and the cache that it opens for itself."""

from __future__ import annotations

import logging
import math
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from cache import CacheError, Node
from cache.patterns import Patterns
from mirror.background import background
from mirror.budget import Budget
from mirror.crew.messages import END, LONGEST, MOST, Message, packed
from mirror.engine import Engine, open_engine
from mirror.errors import MirrorError
from mirror.fetching import Run
from mirror.traffic import Traffic

log = logging.getLogger(__name__)

INTERVAL = 0.1
"""Seconds between two reports of what has come."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a helper helps with."""

    source: str
    patterns: Patterns
    cache: Path
    since: float
    """See `mirror.engine.How`."""
    deadline: float
    jobs: int
    """Files fetched at once by this helper."""
    traffic: Traffic
    """Its share of it."""


async def help_out(job: Job, connection: socket.socket) -> None:
    """Fetch what nobody else fetches, until nothing is left, or ``connection`` says that all is done.

    When that is closed without a word, the process at the other end has gone: what is under way is left, and
    goes on there in the next run.
    """
    caller = trio.socket.from_stdlib_socket(connection)  # closed with the process: its last words go there
    _log_to(connection)
    try:
        async with open_engine(
            job.source, job.cache, ttl=0.0, since=job.since, deadline=job.deadline, traffic=job.traffic
        ) as engine:
            budget = await Budget.of(engine.cache, engine.namespace.root.id)
            await _work(engine, Run(engine, job.patterns, budget, job.jobs), caller)
    except (MirrorError, CacheError) as exc:
        # Whoever called meets the same, and says so.
        log.info("a process that helped has ended: %s", exc)
    await _tell(caller, {"ended": True})


async def _work(engine: Engine, run: Run, caller: trio.socket.SocketType) -> None:
    async def report() -> None:
        fetcher = engine.fetcher
        came = {"came": fetcher.bytes_fetched, "under_way": fetcher.bytes_under_way}
        await _tell(caller, {"fetched": run.fetched} | came)

    async def report_now_and_then() -> None:
        while True:
            await trio.sleep(INTERVAL)
            await report()

    failures, to_tell = trio.open_memory_channel[Message](math.inf)

    def failed(node: Node, path: str, why: MirrorError, origin: bool) -> None:
        said = {"failed": node.id, "path": path, "why": str(why)[:LONGEST], "origin": origin}
        failures.send_nowait(said)

    async def tell_failures() -> None:
        async for said in to_tell:
            await _tell(caller, said)

    async def heed(scope: trio.CancelScope) -> None:
        """Stop when it is said, or when nobody is there any more."""
        with suppress(OSError):
            while (await caller.recv(MOST)) not in (END, b""):
                pass
        scope.cancel()

    run.failed = failed
    async with background() as nursery:
        nursery.start_soon(report_now_and_then)
        nursery.start_soon(tell_failures)
        with trio.CancelScope() as scope:
            nursery.start_soon(heed, scope)
            await run.everything()
        await report()


async def _tell(caller: trio.socket.SocketType, message: Message) -> None:
    with suppress(OSError):  # nobody is there any more: reading says so as well
        await caller.send(packed(message))


class _ToCaller(logging.Handler):
    """Hands lines of the log to the process that shows them beside its progress."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits: a line for which there is no room is lost."""
        message = {"level": record.levelno, "says": record.getMessage()[:LONGEST]}
        with suppress(OSError):
            self._connection.send(packed(message), socket.MSG_DONTWAIT)


def _log_to(connection: socket.socket) -> None:
    root = logging.getLogger()
    for handler in [*root.handlers]:
        root.removeHandler(handler)
    root.addHandler(_ToCaller(connection))
