"""HTTP/2 to https origins: many exchanges over few connections, each with a window of its own.

httpx's own transport is not used for it: a body that is left before its end, as parts are that are cut
short, is never taken off its connection there, and one that nobody reads for a while takes the room of all
others; both end in a connection that stands still. Here a stream that is left is reset, its unread bytes
are given back, and no stream can hold more than its own window.

A server that speaks HTTP/1.1 only says so in the handshake, and is asked over our other transport from
then on.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx
import trio

from mirror.http.connection import PUBLIC_ONLY, Asked, NotSentError, Origin
from mirror.http.streams import Connection, connect
from mirror.http.transport import IDLE_SECONDS, Transport
from mirror.http.trust import Trust

SERVERS = 64
"""Servers of which something is kept while nobody uses them."""

TRIES = 4
"""Connections that a request is sent over while servers say that they have not begun it."""


class _Server:
    """What is known of one origin."""

    __slots__ = ("choosing", "connections", "plain", "turns")

    def __init__(self, limit: int) -> None:
        self.turns = trio.Semaphore(limit, max_value=limit)
        self.connections: list[Connection] = []
        self.choosing = trio.Lock()
        self.plain = False
        """It speaks HTTP/1.1 only."""


class Http2(httpx.AsyncBaseTransport):
    """Keeps connections, ``limit`` exchanges with each server at once; more wait their turn in order."""

    def __init__(self, limit: int, trust: Callable[[], Trust], plain: Transport) -> None:
        """``plain`` is what asks servers that know no HTTP/2."""
        self._limit = limit
        self._trust = trust
        self._plain = plain
        self._servers: dict[Origin, _Server] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; its turn ends when the body is read or closed."""
        asked = Asked(
            request.method,
            request.url.raw_path,
            request.headers.raw,
            request.extensions["timeout"]["read"],
            await request.aread(),
        )
        origin = Origin.of(request.url)
        server = self._server(origin)
        if server.plain:
            return await self._plain.handle_async_request(request)
        public_only = bool(request.extensions.get(PUBLIC_ONLY))
        tries = TRIES
        await server.turns.acquire()
        answered = False
        try:
            while chosen := await self._choose(origin, server, asked.seconds, public_only=public_only):
                try:
                    response = await chosen.exchange(asked, request.url.netloc, server.turns.release)
                except NotSentError as exc:
                    # Closed by the other side the moment before, in all likelihood.
                    tries -= 1
                    if not tries:
                        raise httpx.ReadError("the server begins no exchange") from exc
                    continue
                answered = True
                return response
        finally:
            if not answered:
                server.turns.release()
        return await self._plain.handle_async_request(request)

    def _server(self, origin: Origin) -> _Server:
        if (server := self._servers.get(origin)) is not None:
            return server
        if len(self._servers) >= SERVERS:
            # A chain of redirects may name any number of them; those that nobody uses now can go.
            for other, known in [*self._servers.items()]:
                if known.turns.value == self._limit:
                    del self._servers[other]
                    for connection in known.connections:
                        connection.retire()
        server = self._servers[origin] = _Server(self._limit)
        return server

    async def _choose(
        self, origin: Origin, server: _Server, seconds: float, *, public_only: bool
    ) -> Connection | None:
        """A connection with room for one more exchange; None: the server knows no HTTP/2."""
        async with server.choosing:
            for connection in [*server.connections]:
                if not connection.usable(IDLE_SECONDS):
                    connection.retire()
                    server.connections.remove(connection)
            for connection in server.connections:
                if connection.has_room and (connection.public or not public_only):
                    return connection
            if not server.plain:
                context = self._trust().context
                opened = await connect(origin, context, seconds, public_only=public_only)
                if opened is not None:
                    server.connections.append(opened)
                    return opened
            server.plain = True
            return None

    async def aclose(self) -> None:
        """Close all connections."""
        for server in self._servers.values():
            for connection in server.connections:
                connection.close()
        await self._plain.aclose()
