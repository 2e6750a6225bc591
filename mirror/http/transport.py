"""The httpx transport that remotes send through: a pool of HTTP/1.1 connections on trio.

httpx's own transport is made for any use and any event loop, and spends 300 to 500 µs of CPU on a file
of 100 KB where this one spends 130. It does what fetching files needs: any method over kept
connections, large reads, no redirects, no proxies, one time-out for each wait. It implements httpx's
interface, so that wherever more is needed (a proxy) httpx's own takes its place and nothing above
notices.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import httpx
import trio

from mirror.http.begun import Begun
from mirror.http.connection import PUBLIC_ONLY, Asked, Connection, NotSentError, Origin, connect
from mirror.http.trust import Trust

IDLE_SECONDS = 60.0
"""How long a connection is kept without use; most servers close theirs after 5 to 75."""
SERVERS = 64
"""Servers whose turns are kept while nobody uses them."""


class Transport(httpx.AsyncBaseTransport):
    """Keeps connections, ``limit`` exchanges with each server at once; more wait their turn in order."""

    def __init__(self, limit: int, trust: Callable[[], Trust]) -> None:
        self._limit = limit
        self._trust = trust
        self._turns: dict[Origin, trio.Semaphore] = {}
        self._idle: dict[Origin, list[Connection]] = {}
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; the connection is taken until its body is read or closed."""
        asked = Asked(
            request.method,
            request.url.raw_path,
            request.headers.raw,
            request.extensions["timeout"]["read"],
            await request.aread(),
            request.extensions.get(PUBLIC_ONLY, False),
        )
        return await self.ask(Origin.of(request.url), asked)

    def has_idle(self, origin: Origin) -> bool:
        """Whether a connection to a server waits for a request."""
        return bool(self._idle.get(origin))

    def begin(self, origin: Origin, asked: Asked, told: Callable[[Begun], None]) -> Begun | None:
        """Send a request over a connection that waits for one, with nobody waiting for the answer.

        None: there is none, or none that can be used so; nothing was sent.
        """
        turns = self._turns_with(origin)
        if asked.public_only or not turns.value:
            return None
        connection = self._take(origin)
        if connection is None:
            return None
        begun = Begun(self, origin, connection, asked)
        if not begun.send(told):
            connection.close()  # so rare that it is not worth more
            return None
        turns.acquire_nowait()
        return begun

    async def ask(self, origin: Origin, asked: Asked, begun: Begun | None = None) -> httpx.Response:
        """As `handle_async_request`, without httpx's objects for the question.

        ``begun``: it was sent already.
        """
        turns = self._turns_with(origin)
        try:
            if begun is None:
                turns.acquire_nowait()
        except trio.WouldBlock:
            await turns.acquire()
        done = _Release(self, origin)
        try:
            if begun is not None:
                with suppress(NotSentError):
                    return await begun.connection.exchange(asked, done, begun)
            while (connection := self._take(origin)) is not None:
                if asked.public_only and not connection.public:
                    connection.close()  # the next one is made, and refused where it has to be
                    continue
                try:
                    return await connection.exchange(asked, done)
                except NotSentError:
                    continue  # closed by the other side the moment before: no failure of this request
            connection = await connect(origin, self._trust, asked.seconds, public_only=asked.public_only)
            return await connection.exchange(asked, done)
        except BaseException:
            turns.release()
            raise

    def _turns_with(self, origin: Origin) -> trio.Semaphore:
        """The turns that one server has: what a slow one does costs no other one any."""
        turns = self._turns.get(origin)
        if turns is None:
            if len(self._turns) >= SERVERS:
                # A chain of redirects may name any number of them; those with all turns left can go.
                self._turns = {o: left for o, left in self._turns.items() if left.value < self._limit}
            turns = self._turns[origin] = trio.Semaphore(self._limit, max_value=self._limit)
        return turns

    def _take(self, origin: Origin) -> Connection | None:
        """The connection used last that is still good, or None."""
        idle = self._idle.get(origin)
        now = trio.current_time()
        while idle:
            connection = idle.pop()
            if now - connection.idle_since < IDLE_SECONDS and connection.quiet():
                return connection
            connection.close()
        return None

    def release(self, origin: Origin, connection: Connection, reusable: bool) -> None:
        """Take a connection back from a finished exchange. Never waits."""
        if reusable and not self._closed:
            connection.idle_since = trio.current_time()
            self._idle.setdefault(origin, []).append(connection)
            self._trim()
        else:
            connection.close()
        self._turns[origin].release()

    def _trim(self) -> None:
        """Keep no more idle connections than one server may have in use: many share one budget."""
        if sum(map(len, self._idle.values())) > self._limit:
            origin = min(
                (o for o, idle in self._idle.items() if idle), key=lambda o: self._idle[o][0].idle_since
            )
            self._idle[origin].pop(0).close()

    async def aclose(self) -> None:
        """Close all idle connections; one in use is closed at the end of its exchange."""
        self._closed = True
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()


class _Release:
    """What the exchange calls at its end; a class, for a closure costs more than the call."""

    __slots__ = ("_origin", "_transport")

    def __init__(self, transport: Transport, origin: Origin) -> None:
        self._transport = transport
        self._origin = origin

    def __call__(self, connection: Connection, reusable: bool) -> None:
        self._transport.release(self._origin, connection, reusable)
