"""Reading the pages of an origin: one is asked for while another is written, and again when it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import trio

from mirror.background import background
from mirror.errors import MirrorError, OriginFailed, ProtocolError, Transient
from mirror.remotes.base import Page
from mirror.remotes.following import Onward
from mirror.retry import Attempts, Schedule

AHEAD = 1
"""Pages that wait to be written."""

Ask = Callable[[str | None], AsyncIterator[Page]]
"""Asks for the pages behind a cursor: `Scanner.scan` or `Pager.pages` of some folder."""


class Pages:
    """The pages behind a cursor, the last of which has none. To be read by one task."""

    def __init__(self, receive: trio.MemoryReceiveChannel[Page], failures: list[MirrorError]) -> None:
        self._receive = receive
        self._failures = failures
        self._ended = False

    def __aiter__(self) -> Pages:
        return self

    async def __anext__(self) -> Page:
        """The next page.

        Raises:
            OriginFailed: no try is left.
            ProtocolError: the pages end before the last one.
            MirrorError: what the origin says otherwise.
        """
        if self._ended:
            raise StopAsyncIteration
        try:
            page = await self._receive.receive()
        except trio.EndOfChannel:
            # The error is not left to the nursery: there it would come beside one of the body.
            raise self._failures[0] from None
        self._ended = page.cursor is None
        return page


@asynccontextmanager
async def reading(ask: Ask, cursor: str | None, schedule: Schedule, where: str) -> AsyncIterator[Pages]:
    """Read ahead what lies behind a cursor.

    Args:
        ask: asks the origin.
        cursor: of the page before; None: from the beginning.
        schedule: how often and for how long to try, without progress in between.
        where: what is asked for, for messages.
    """
    send, receive = trio.open_memory_channel[Page](AHEAD)
    failures: list[MirrorError] = []

    async def read() -> None:
        with send:
            try:
                await _read(ask, cursor, schedule, where, send)
            except MirrorError as exc:
                failures.append(exc)

    async with receive, background() as nursery:
        nursery.start_soon(read)
        yield Pages(receive, failures)


async def _read(
    ask: Ask, cursor: str | None, schedule: Schedule, where: str, send: trio.MemorySendChannel[Page]
) -> None:
    attempts = Attempts(schedule)
    begun = cursor is not None
    # The remote sees only as far back as the last failure.
    onward = Onward(where)
    while True:
        try:
            # A generator, though the protocol need not say so.
            async with aclosing(cast("Any", ask(cursor))) as pages:
                async for page in pages:
                    attempts.progressed()
                    begun = True
                    cursor = page.cursor
                    if cursor is not None:
                        onward.past(cursor, [path for path, _ in page.files])
                    await send.send(page)
                    if cursor is None:
                        return
        except Transient as exc:
            pause = attempts.failed(exc)
            if pause is None:
                raise OriginFailed(str(exc)) from exc
            await trio.sleep(pause)
            continue
        if begun:
            raise ProtocolError(f"{where}: the listing ends before its last page")
        await send.send(Page((), None))
        return
