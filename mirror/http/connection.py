"""One HTTP/1.1 connection: usual heads and bodies of known length the short way, all else through h11.

A data set is fetched as many bodies of known length: after a usual head (`heads`) each chunk is what
one large `recv` returned, handed on without a copy and counted down to zero. Through h11 (and
httpcore, which reads 64 KiB at a time) each byte would be copied three times more. Answers of any
other form (chunked, until close, in pieces) do go through h11.

Errors are httpx's, as of any httpx transport; each wait has the time-out of its request.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple, Protocol, TypeAlias, cast

import h11
import httpx
import trio

from mirror.http import heads
from mirror.http._wire import Tls, silent
from mirror.http.addresses import is_public
from mirror.http.light import LightResponse, Raw
from mirror.http.throttle import PROCESS
from mirror.http.trust import Trust
from mirror.http.wire import HandshakeError, wire

CHUNK = 1024 * 1024
"""Most bytes taken from the socket at once."""

MAX_HEAD = 64 * 1024
"""Longest status line and headers, in bytes."""

MAX_INFORMATIONAL = 16
"""Interim (1xx) answers before the final one."""

DELIMITED = "mirror.delimited"
"""Response extension: False when only the end of the connection ends the body, so a cut cannot show."""

Chunk: TypeAlias = "bytes | memoryview"


class Origin(NamedTuple):
    """Where a connection leads."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """Return the origin of an absolute http or https URL."""
        return cls(
            url.scheme, url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
        )


class Asked(NamedTuple):
    """One request, as this transport needs it: a URL object for each file would cost more than the rest."""

    method: str
    target: bytes
    """Quoted path and query."""
    headers: Raw
    seconds: float
    """Time-out of each wait."""
    body: bytes = b""
    """What follows the head; its Content-Length is among the headers."""
    public_only: bool = False
    """Whoever sent us there is on the Internet, so this goes to no address that only we can reach."""

    def written(self) -> bytes:
        """As it is sent. Raises ValueError: something in it would break out of its line."""
        return heads.request(self.method, self.target, self.headers) + self.body


class Sent(Protocol):
    """A request that was sent already, over an idle connection, and what has come since."""

    @property
    def cancelled(self) -> bool:
        """Its answer was not waited for any longer."""

    @property
    def error(self) -> int:
        """An errno, or 0."""

    def taken(self) -> Chunk:
        """What came, once; nothing: the other side has closed the connection."""


PUBLIC = "mirror.public"
"""Response extension: True when the answer came from an address of the Internet."""
PUBLIC_ONLY = "mirror.public_only"
"""Request extension: `Asked.public_only`."""


class PrivateAddressError(httpx.ConnectError):
    """The name leads to an address that only this machine or its network can reach."""


class NotSentError(Exception):
    """The other side closed an idle connection: nothing of the answer came, so ask on another one."""


async def connect(
    origin: Origin, trust: Callable[[], Trust], seconds: float, *, public_only: bool = False
) -> Connection:
    """Open a connection, for https with a finished handshake.

    Raises:
        PrivateAddressError: ``public_only``, and it would not be. Nothing was sent.
        httpx.ConnectTimeout: not within ``seconds``.
        httpx.ConnectError: refused, no such host, no trust; the cause is chained.
    """
    try:
        with trio.fail_after(seconds):
            sock = (await trio.open_tcp_stream(origin.host, origin.port)).socket
            try:
                public = _leads_to_public(sock, origin, only=public_only)
                tls = None
                if origin.scheme == "https":
                    # The first time hundreds of certificates are read, which takes a twentieth of a second.
                    tls = Tls((await trio.to_thread.run_sync(trust)).wire, origin.host)
                    await wire().shake(sock, tls)
            except BaseException:
                sock.close()
                raise
    except trio.TooSlowError as exc:
        raise httpx.ConnectTimeout("no connection") from exc
    except (OSError, HandshakeError, ValueError) as exc:  # UnicodeError is one
        raise httpx.ConnectError(str(exc)) from exc
    return Connection(sock, tls, public=public)


def _leads_to_public(sock: trio.socket.SocketType, origin: Origin, *, only: bool) -> bool:
    public = is_public(str(sock.getpeername()[0]))
    if only and not public:
        raise PrivateAddressError(f"{origin.host} is at an address that is not public")
    return public


class Connection:
    """A connected socket that carries one exchange at a time."""

    def __init__(self, sock: trio.socket.SocketType, tls: Tls | None, *, public: bool) -> None:
        self.socket = sock
        self.tls = tls
        """What seals and opens; None: nothing does."""
        self._used = False
        self.public = public
        """It leads to an address of the Internet."""
        self.idle_since = 0.0
        """`trio.current_time` of the end of the last exchange."""

    def close(self) -> None:
        """Close at once, without a word to the other side. Wakes whoever waits on it."""
        self.socket.close()

    def quiet(self) -> bool:
        """Whether nothing came since the last exchange: neither an end nor bytes nobody asked for."""
        return (self.tls is None or self.tls.quiet) and silent(self.socket.fileno())

    async def exchange(
        self, asked: Asked, done: Callable[[Connection, bool], None], sent: Sent | None = None
    ) -> httpx.Response:
        """Send a request, unless that has begun, and read the head of its answer.

        ``done(self, reusable)`` is called exactly once, when the body has been read or closed, and
        not when this function raises: then the connection is closed already.

        Raises:
            NotSentError: the connection had been idle and was closed by the other side.
            httpx.TransportError: as of any httpx transport.
        """
        try:
            # What `trio.move_on_after` does, without the generator around it.
            with trio.CancelScope(deadline=trio.current_time() + asked.seconds):
                return await self._exchange(asked, done, sent)
        except (h11.RemoteProtocolError, h11.LocalProtocolError) as exc:
            self.close()
            raise httpx.RemoteProtocolError(str(exc)) from exc
        except ValueError as exc:
            self.close()
            raise httpx.LocalProtocolError(str(exc)) from exc
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self.close()
            raise httpx.ReadError(str(exc.__cause__ or exc)) from exc
        except BaseException:
            self.close()
            raise
        self.close()
        raise httpx.ReadTimeout("no answer")

    async def _exchange(
        self, asked: Asked, done: Callable[[Connection, bool], None], sent: Sent | None
    ) -> httpx.Response:
        method, seconds = asked.method, asked.seconds
        data: Chunk
        if sent is not None:
            data = self._came(sent)
        else:
            data = await self._first_bytes(asked.written(), 0 if method == "HEAD" else PROCESS.most(CHUNK))
        self._used = True
        if (head := heads.usual(data)) is not None:
            begun, length = data[head.end :], 0 if method == "HEAD" else head.length
            counted = _CountedBody(self, begun, length, seconds, done, reusable=head.keeps_alive)
            return LightResponse(head.status, head.headers, counted, {PUBLIC: self.public})
        framing = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        # Sent already; h11 has to know what was asked to tell what kind of body comes back.
        framing.send(h11.Request(method=method, target=asked.target, headers=asked.headers))
        if asked.body:
            framing.send(h11.Data(data=asked.body))
        framing.send(h11.EndOfMessage())
        framing.receive_data(bytes(data))
        answer = await self._head(framing)
        codings = [name for name, _ in answer.headers if name in (b"content-length", b"transfer-encoding")]
        bodyless = method == "HEAD" or answer.status_code in (204, 304)
        return httpx.Response(
            answer.status_code,
            headers=answer.headers.raw_items(),
            stream=_FramedBody(self, framing, seconds, done),
            extensions={DELIMITED: bodyless or bool(codings), PUBLIC: self.public},
        )

    async def _first_bytes(self, request: bytes, most: int) -> Chunk:
        """Send a request and read the first bytes of the answer, up to ``most`` of its body."""
        try:
            if data := await self._over_wire(request, most):
                return data
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            if self._used:
                raise NotSentError from exc
            raise
        if self._used:
            raise NotSentError
        raise httpx.ReadError("it was closed without an answer")

    @staticmethod
    def _came(sent: Sent) -> Chunk:
        """The first bytes of an answer over a connection that had been idle."""
        if sent.cancelled:
            raise httpx.ReadTimeout("no answer")
        if sent.error or not (data := sent.taken()):
            raise NotSentError
        return data

    async def _over_wire(self, request: bytes | None, most: int, least: int = 0) -> Chunk:
        try:
            return memoryview(await wire().run(self.socket, request, most, least=least, tls=self.tls))
        except OSError as exc:
            raise trio.BrokenResourceError(str(exc)) from exc

    async def _head(self, framing: h11.Connection) -> h11.Response:
        interim = 0
        while True:
            event = framing.next_event()
            if event is h11.NEED_DATA:
                framing.receive_data(bytes(await self._over_wire(None, CHUNK)))
            elif isinstance(event, h11.Response):
                return event
            elif isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                interim += 1
                if interim > MAX_INFORMATIONAL:
                    raise httpx.RemoteProtocolError("too many interim answers")
            else:
                raise httpx.RemoteProtocolError("the connection changed its protocol unasked")

    async def receive(self, most: int, seconds: float, left: int = 0) -> Chunk:
        """Read up to ``most`` bytes of a body; none at the end of the stream.

        ``left``: so many are to come. When they come fast they are waited for: each return costs as much
        as receiving some hundred KiB.
        """
        with trio.CancelScope(deadline=trio.current_time() + seconds):
            try:
                return await self._over_wire(None, most, min(most, left))
            except trio.BrokenResourceError as exc:
                raise httpx.ReadError(str(exc.__cause__ or exc)) from exc
        raise httpx.ReadTimeout("no byte of the body")


class _Body(httpx.AsyncByteStream):
    """What both framings share: an end that is told once."""

    def __init__(
        self, connection: Connection, seconds: float, done: Callable[[Connection, bool], None]
    ) -> None:
        self._connection = connection
        self._seconds = seconds
        self._done: Callable[[Connection, bool], None] | None = done

    def _finish(self, reusable: bool) -> None:
        if (done := self._done) is not None:
            self._done = None
            done(self._connection, reusable)

    def __aiter__(self) -> AsyncIterator[bytes]:
        # httpx knows of bytes only; all that it does with them can be done with a view.
        return cast("AsyncIterator[bytes]", self)

    @abstractmethod
    async def __anext__(self) -> Chunk: ...

    async def aclose(self) -> None:  # closing never waits, so it needs no shield either
        """Give the connection back where the body is complete, else close it."""
        self._finish(reusable=False)


class _CountedBody(_Body):
    """A body of Content-Length bytes."""

    def __init__(
        self,
        connection: Connection,
        begun: Chunk,
        length: int,
        seconds: float,
        done: Callable[[Connection, bool], None],
        *,
        reusable: bool,
    ) -> None:
        super().__init__(connection, seconds, done)
        self._begun = begun
        self._left = length
        self._reusable = reusable
        if not length and not begun:
            self._finish(reusable)

    async def __anext__(self) -> Chunk:
        if self._begun:
            data, self._begun = self._begun, b""
        elif not self._left:
            self._finish(self._reusable)
            raise StopAsyncIteration
        else:
            try:
                # One more than there should be: a body that goes on shows here, at no cost.
                most = PROCESS.most(min(self._left + 1, CHUNK))
                data = await self._connection.receive(most, self._seconds, self._left)
            except BaseException:
                self._finish(reusable=False)
                raise
            if not data:
                self._finish(reusable=False)
                raise httpx.ReadError(f"the connection was closed {self._left} bytes before the end")
        self._left -= len(data)
        if self._left < 0:
            self._finish(reusable=False)
            raise httpx.RemoteProtocolError("the body is longer than its Content-Length")
        if not self._left:
            self._finish(self._reusable)
        return data

    async def aclose(self) -> None:
        """Give the connection back where all of the body has come, else close it."""
        self._finish(self._reusable and len(self._begun) == self._left)


class _FramedBody(_Body):
    """A chunked body, or one that ends with the connection."""

    def __init__(
        self,
        connection: Connection,
        framing: h11.Connection,
        seconds: float,
        done: Callable[[Connection, bool], None],
    ) -> None:
        super().__init__(connection, seconds, done)
        self._framing = framing

    async def __anext__(self) -> Chunk:
        if self._done is None:
            raise StopAsyncIteration
        try:
            while True:
                event = self._framing.next_event()
                if event is h11.NEED_DATA:
                    data = await self._connection.receive(PROCESS.most(CHUNK), self._seconds)
                    self._framing.receive_data(bytes(data))
                elif isinstance(event, h11.Data):
                    return bytes(event.data)
                else:
                    break
        except h11.RemoteProtocolError as exc:
            self._finish(reusable=False)
            raise httpx.ReadError(f"the body was cut short: {exc}") from exc
        except BaseException:
            self._finish(reusable=False)
            raise
        alive = self._framing.their_state is h11.DONE and self._framing.our_state is h11.DONE
        self._finish(reusable=alive and not self._framing.trailing_data[0])
        raise StopAsyncIteration
