"""What a helper does: it opens source and cache for itself, and fetches what it is told."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from cache import CacheError
from cache.patterns import Patterns
from mirror.background import background
from mirror.crew.hands import Own
from mirror.crew.messages import BYTES, LONGEST_WHY, MOST, Message, failure, packed, unpacked
from mirror.engine import Engine, open_engine
from mirror.errors import MirrorError
from mirror.traffic import Traffic

INTERVAL = 0.1
"""Seconds between two reports of what has come."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a helper helps with."""

    source: str
    patterns: Patterns
    """What the run wants: none of it is evicted for the rest of it."""
    cache: Path
    since: float
    """See `mirror.engine.How`."""
    deadline: float
    traffic: Traffic
    """The helper's share of it."""


async def help_out(job: Job, connection: socket.socket) -> None:
    """Do what is said over ``connection`` until that ends; what came is safe on disk on return.

    When it is closed without a word, the process at the other end has gone: what is under way is left, and
    goes on there in the next run.
    """
    with trio.socket.from_stdlib_socket(connection) as caller:
        _log_to(connection)
        async with open_engine(
            job.source, job.cache, ttl=0.0, since=job.since, deadline=job.deadline, traffic=job.traffic
        ) as engine:
            helper = _Helper(engine, caller)
            async with (
                engine.cache.pins.sparing(engine.namespace.root.id, job.patterns),
                background() as nursery,
            ):
                nursery.start_soon(helper.report_now_and_then)
                if await helper.serve():
                    await engine.cache.objects.sync()
                    await helper.report()
                    await helper.tell({"safe": True})


class _Helper:
    def __init__(self, engine: Engine, caller: trio.socket.SocketType) -> None:
        self._engine = engine
        self._own = Own(engine)
        self._caller = caller

    async def serve(self) -> bool:
        """True: it was said that there is nothing more to do, and all is done."""
        async with trio.open_nursery() as nursery:
            while packet := await self._caller.recv(MOST):
                asked = unpacked(packet)
                if "end" in asked:
                    return True
                nursery.start_soon(self._answer, asked)
            nursery.cancel_scope.cancel()
        return False

    async def _answer(self, asked: Message) -> None:
        said: Message
        try:
            node = self._engine.namespace.node(asked["node"])
            if asked["want"] == BYTES:
                said = {"fetched": await self._own.fetch(asked["path"], node)}
            else:
                said = {"now": (await self._own.fresh(node)).id}
        except (MirrorError, CacheError) as exc:
            said = failure(exc)
        await self.tell({"node": asked["node"]} | said)

    async def report_now_and_then(self) -> None:
        while True:
            await trio.sleep(INTERVAL)
            await self.report()

    async def report(self) -> None:
        fetcher = self._engine.fetcher
        await self.tell({"came": fetcher.bytes_fetched, "under_way": fetcher.bytes_under_way})

    async def tell(self, message: Message) -> None:
        with suppress(OSError):  # nobody is there any more: reading says so as well
            await self._caller.send(packed(message))


class _ToCaller(logging.Handler):
    """Hands lines of the log to the process that shows them beside its progress."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits: a line for which there is no room is lost."""
        message = {"level": record.levelno, "says": record.getMessage()[:LONGEST_WHY]}
        with suppress(OSError):
            self._connection.send(packed(message), socket.MSG_DONTWAIT)


def _log_to(connection: socket.socket) -> None:
    root = logging.getLogger()
    for handler in [*root.handlers]:
        root.removeHandler(handler)
    root.addHandler(_ToCaller(connection))
