"""One HTTP/2 connection: streams with a window each, read by whoever waits.

Nobody owns a connection: whoever waits for something of its stream reads for all, until his own is there,
and then wakes another one to go on. Each wait has the time-out of its request. A stream that is left before
its end is reset, and its unread bytes are given back.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import httpx
import trio

from mirror.http.addresses import is_public
from mirror.http.connection import PUBLIC, Asked, NotSentError, Origin, PrivateAddressError
from mirror.http.light import Raw

WINDOW = 1024 * 1024
"""Bytes of one body that may have come and are not read yet."""

EVERYTHING = 2**31 - 1
"""The window of a connection: no bound beside those of its streams."""

MAX_HEAD = 64 * 1024
"""Most bytes of the headers of an answer."""

STREAMS = 100
"""Most exchanges at once over one connection; a server may allow fewer."""

TAKEN = 256 * 1024
"""Most bytes taken from the socket at once."""

SEND_SECONDS = 5.0
"""Patience for what is said beside a request: that bytes were read, that a stream is left."""

_NOT_IN_2 = (b"host", b"connection", b"transfer-encoding", b"keep-alive", b"upgrade", b"proxy-connection")


async def connect(
    origin: Origin, context: ssl.SSLContext, seconds: float, *, public_only: bool
) -> Connection | None:
    """Open a connection; None when the server chose HTTP/1.1.

    Raises:
        httpx.ConnectTimeout: not within ``seconds``.
        PrivateAddressError: ``public_only``, and it would not be. Nothing was sent.
        httpx.ConnectError: refused, no such host, no trust; the cause is chained.
    """
    try:
        with trio.fail_after(seconds):
            tcp = await trio.open_tcp_stream(origin.host, origin.port)
            public = is_public(str(tcp.socket.getpeername()[0]))
            if public_only and not public:
                tcp.socket.close()
                raise PrivateAddressError(f"{origin.host} is at an address that is not public")
            context.set_alpn_protocols(["h2", "http/1.1"])
            stream = trio.SSLStream(tcp, context, server_hostname=origin.host, https_compatible=True)
            try:
                await stream.do_handshake()
                if stream.selected_alpn_protocol() != "h2":
                    tcp.socket.close()
                    return None
                connection = Connection(stream, public=public)
                await connection.greet()
            except BaseException:
                tcp.socket.close()
                raise
    except trio.TooSlowError as exc:
        raise httpx.ConnectTimeout("no connection") from exc
    except (OSError, trio.BrokenResourceError, ssl.CertificateError, UnicodeError) as exc:
        raise httpx.ConnectError(str(exc)) from exc
    return connection


class _Stream:
    """One exchange: what came for it and is not read yet."""

    __slots__ = ("chunks", "done", "ended", "error", "head", "number", "unread", "woken")

    def __init__(self, number: int, done: Callable[[], None]) -> None:
        self.number = number
        self.done = done
        self.head: Raw | None = None
        self.chunks: deque[bytes] = deque()
        self.unread = 0
        """Bytes of the window that the chunks take, padding included."""
        self.ended = False
        self.error: Exception | None = None
        self.woken: trio.Event | None = None
        """Set when there is something to see, or the connection to be read by this one."""

    def wake(self) -> None:
        if self.woken is not None:
            self.woken.set()


class Connection:
    """One connection and its streams. Safe for concurrent use by tasks of one trio run."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], *, public: bool) -> None:
        self.public = public
        """It leads to an address of the Internet."""
        self._stream = stream
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding=None)
        )
        self._streams: dict[int, _Stream] = {}
        self._sending = trio.Lock()
        self._being_read = False
        self._broken: Exception | None = None
        self._retired = False
        self._used = False
        self._idle_since = trio.current_time()

    # -- life --------------------------------------------------------------------------------

    async def greet(self) -> None:
        """Send what a connection begins with."""
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                codes.ENABLE_PUSH: 0,
                codes.INITIAL_WINDOW_SIZE: WINDOW,
                codes.MAX_HEADER_LIST_SIZE: MAX_HEAD,
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(EVERYTHING - 65535)
        await self._flush()

    def close(self) -> None:
        """Close at once, without a word to the other side; who waits for something gets an error."""
        self._fail(httpx.ReadError("it was closed"))

    def retire(self) -> None:
        """Begin no more exchanges over it, and close it at the end of the last one."""
        self._retired = True
        if not self._streams:
            self.close()

    def usable(self, idle_seconds: float) -> bool:
        """Whether it could carry one more exchange, now or later: not after so long without any."""
        waits = not self._streams and trio.current_time() - self._idle_since > idle_seconds
        return self._broken is None and not self._retired and not waits

    @property
    def has_room(self) -> bool:
        """Whether it can carry one more now."""
        return len(self._streams) < min(self._h2.remote_settings.max_concurrent_streams, STREAMS)

    def _fail(self, error: Exception) -> None:
        """Note that it is broken: every exchange ends with that."""
        if self._broken is None:
            self._broken = error
            self._stream.transport_stream.socket.close()
        for stream in self._streams.values():
            if not stream.ended and stream.error is None:
                stream.error = self._broken
            stream.wake()

    # -- exchanges ---------------------------------------------------------------------------

    async def exchange(self, asked: Asked, authority: bytes, done: Callable[[], None]) -> httpx.Response:
        """Send a request and read the head of its answer.

        ``done`` is called exactly once, when the body has been read or closed, and not when this raises.

        Raises:
            NotSentError: the connection was closed by the other side before it saw the request.
            httpx.TransportError: as of any httpx transport.
        """
        used = self._used
        stream = self._begin(asked, authority, done)
        try:
            await self._flush()
            await self._until(stream, lambda: stream.head is not None or stream.ended, asked.seconds)
            response = _answer(stream.head or [], _Body(self, stream, asked.seconds))
            response.extensions[PUBLIC] = self.public
        except BaseException as exc:
            await self.leave(stream, quietly=True)
            # Of a connection that was idle: closed by the other side the moment before.
            if used and stream.head is None and isinstance(exc, httpx.ReadError) and self._broken is not None:
                raise NotSentError from exc
            raise
        self._used = True
        return response

    def _begin(self, asked: Asked, authority: bytes, done: Callable[[], None]) -> _Stream:
        if self._broken is not None:
            raise NotSentError
        headers: Raw = [
            (b":method", asked.method.encode("ascii")),
            (b":authority", authority),
            (b":scheme", b"https"),
            (b":path", asked.target),
        ]
        headers += [(name.lower(), value) for name, value in asked.headers if name.lower() not in _NOT_IN_2]
        try:
            number = self._h2.get_next_available_stream_id()
            self._h2.send_headers(number, headers, end_stream=not asked.body)
            if asked.body:
                # Bodies here are questions of some hundred bytes.
                self._h2.send_data(number, asked.body, end_stream=True)
        except h2.exceptions.NoAvailableStreamIDError as exc:
            self._fail(httpx.ReadError("it has used all its numbers"))
            raise NotSentError from exc
        except h2.exceptions.ProtocolError as exc:
            raise httpx.LocalProtocolError(str(exc) or type(exc).__name__) from exc
        stream = self._streams[number] = _Stream(number, done)
        return stream

    async def receive(self, stream: _Stream, seconds: float) -> bytes:
        """What has come of a body; ``b""`` at its end."""
        await self._until(stream, lambda: bool(stream.chunks) or stream.ended, seconds)
        data = stream.chunks.popleft() if len(stream.chunks) == 1 else b"".join(stream.chunks)
        stream.chunks.clear()
        self._give_back(stream)
        # A time-out here is told to whoever reads next.
        await self._flush()
        return data

    async def leave(self, stream: _Stream, *, quietly: bool = False) -> None:
        """End an exchange; before its end the server is told to stop. ``quietly``: the turn is kept."""
        if self._streams.pop(stream.number, None) is None:
            return
        self._idle_since = trio.current_time()
        if self._broken is None:
            if not (stream.ended or stream.error):
                self._h2.reset_stream(stream.number, h2.errors.ErrorCodes.CANCEL)
            self._give_back(stream)
        if not quietly:
            stream.done()
        if not self._being_read:
            self._hand_over()
        await self._flush()
        if self._retired and not self._streams:
            self.close()

    def _give_back(self, stream: _Stream) -> None:
        """Let the server send as much again as was taken."""
        if stream.unread and self._broken is None:
            self._h2.acknowledge_received_data(stream.unread, stream.number)
        stream.unread = 0

    # -- reading -----------------------------------------------------------------------------

    async def _until(self, stream: _Stream, ready: Callable[[], bool], seconds: float) -> None:
        """Wait for something of a stream, reading for all where nobody does."""
        with trio.CancelScope(deadline=trio.current_time() + seconds):
            while not ready():
                if stream.error is not None:
                    raise stream.error
                if self._being_read:
                    stream.woken = trio.Event()
                    await stream.woken.wait()
                    stream.woken = None
                else:
                    await self._read_for_all(stream, ready)
            return
        # This stream may be late, or the whole connection: the next request had better not find out.
        self.retire()
        raise httpx.ReadTimeout("no byte of the stream")

    async def _read_for_all(self, stream: _Stream, ready: Callable[[], bool]) -> None:
        self._being_read = True
        try:
            while not ready() and stream.error is None:
                await self._read_once()
        finally:
            self._being_read = False
            self._hand_over()

    def _hand_over(self) -> None:
        """Wake one of those who wait, to read on."""
        for other in self._streams.values():
            if other.woken is not None and not other.woken.is_set():
                other.woken.set()
                return

    async def _read_once(self) -> None:
        try:
            data = await self._stream.receive_some(TAKEN)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self._fail(httpx.ReadError(str(exc.__cause__ or exc)))
            return
        if not data:
            self._fail(httpx.ReadError("the server closed the connection"))
            return
        try:
            events = self._h2.receive_data(bytes(data))
        except h2.exceptions.ProtocolError as exc:
            # One exchange's fault, and the end of all: each is worth another try elsewhere.
            why = str(exc) or type(exc).__name__
            self._fail(httpx.ReadError(f"the server broke the rules of HTTP/2: {why}"))
            return
        for event in events:
            self._take(event)
        await self._flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self._terminated(event)
            return
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return  # of the connection, or of a stream that was left
        match event:
            case h2.events.ResponseReceived():
                stream.head = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
            case h2.events.DataReceived():
                stream.unread += event.flow_controlled_length or 0
                if event.data:
                    stream.chunks.append(event.data)
            case h2.events.StreamEnded():
                stream.ended = True
            case h2.events.StreamReset():
                code = event.error_code
                if code == h2.errors.ErrorCodes.REFUSED_STREAM and stream.head is None:
                    stream.error = NotSentError()  # more than it allows, which it may have said only now
                else:
                    stream.error = httpx.ReadError(f"the server reset the stream ({code!r})")
            case _:
                return
        stream.wake()

    def _terminated(self, event: h2.events.ConnectionTerminated) -> None:
        """The server takes no more: what it has not begun is asked elsewhere."""
        # And so is the rest of the others, for h2 takes nothing from a connection after that.
        last = event.last_stream_id or 0
        for stream in self._streams.values():
            if stream.number > last and not stream.ended:
                stream.error = NotSentError()
        self._fail(httpx.ReadError("the server ended the connection"))

    # -- sending -----------------------------------------------------------------------------

    async def _flush(self) -> None:
        """Send what there is to send, whole: half a frame would be the end of the connection."""
        if self._broken is not None:
            return
        with trio.move_on_after(SEND_SECONDS, shield=True) as patience:
            async with self._sending:
                data = self._h2.data_to_send()
                if data and self._broken is None:
                    try:
                        await self._stream.send_all(data)
                    except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                        self._fail(httpx.ReadError(str(exc.__cause__ or exc)))
        if patience.cancelled_caught:
            self._fail(httpx.WriteTimeout("the connection takes no more"))


def _answer(head: Raw, body: _Body) -> httpx.Response:
    status = next((value for name, value in head if name == b":status"), b"")
    if not (len(status) == 3 and status.isdigit()):
        raise httpx.RemoteProtocolError("a stream without an answer")
    headers = [(name, value) for name, value in head if not name.startswith(b":")]
    return httpx.Response(int(status), headers=headers, stream=body, extensions={"http_version": b"HTTP/2"})


class _Body(httpx.AsyncByteStream):
    """What comes of one stream."""

    def __init__(self, connection: Connection, stream: _Stream, seconds: float) -> None:
        self._connection = connection
        self._stream = stream
        self._seconds = seconds

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._connection.receive(self._stream, self._seconds)
        except NotSentError as exc:
            raise httpx.ReadError("the server has left") from exc
        if not data:
            await self._connection.leave(self._stream)
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        """Give the stream back, whatever of it is left."""
        await self._connection.leave(self._stream)
