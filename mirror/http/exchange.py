"""One request to an origin, with its redirects, as far as the head of the answer.

Redirects are followed by hand, so that each hop is decided: at most `MAX_HOPS`, never from https to
http, credentials for the origin's own requests only. No cookie is ever kept or sent. A redirect that
only adds or drops a slash is not followed: it says what kind of thing the path names.

A `Client` is what a remote has of the network: one pool of connections, one patience, one TLS
configuration. An `Exchanger` asks one origin through it; a remote has one for each of its origins.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import httpx
import trio

from mirror.errors import IsAFolder, NotAFolder, OriginFailed, ProtocolError, Stalled
from mirror.http.auth import Auth, Headers
from mirror.http.begun import Begun
from mirror.http.connection import PUBLIC, PUBLIC_ONLY, Asked, Origin
from mirror.http.failures import translated
from mirror.http.gates import REFUSALS, Gates
from mirror.http.places import Place, adds_slash, drops_slash, redirected
from mirror.http.routes import Reach, Routes
from mirror.http.throttle import PROCESS
from mirror.http.transport import Transport
from mirror.http.trust import Trust

MAX_HOPS = 10

REDIRECTS = (301, 302, 303, 307, 308)


def user_agent() -> str:
    """``mirrorfs/VERSION``, as installed."""
    try:
        return f"mirrorfs/{version('mirrorfs')}"
    except PackageNotFoundError:
        return "mirrorfs"


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer, its body not read yet, and where it came from."""

    head: httpx.Response
    where: Place
    own: bool = True
    """It comes from the origin that was asked, not from where that redirected to."""
    redirects: Sequence[httpx.Headers] = ()
    """What our own origin said in its redirects on the way, the first one first."""

    async def aclose(self) -> None:
        """Give the connection back, or close it where the body was not read to its end."""
        await self.head.aclose()


class Client:
    """Connections to any origin, shared by the exchangers of one remote."""

    def __init__(
        self,
        *,
        deadline: float,
        connections: int,
        trust_env: bool = False,
        trust: Trust | None = None,
        reach: Reach | None = None,
        private: bool = False,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            deadline: seconds to wait for a connection, for the head of an answer, for any byte.
            connections: most requests at once.
            trust_env: go through the proxies that the environment names.
            trust: TLS settings; None: verify against the usual authorities, or those of ``SSL_CERT_FILE``.
            reach: how connections are made, in place of the two before.
            private: an origin on the Internet may redirect to private addresses.
        """
        self.deadline = deadline
        self.private = private
        """An origin on the Internet may redirect to addresses that only we can reach."""
        self.requests = 0
        """Requests sent so far, redirected ones included."""
        self.common: Headers = [
            (b"User-Agent", user_agent().encode("ascii")),
            # The bytes of the file itself: what is compressed on the way has other offsets.
            (b"Accept-Encoding", b"identity"),
        ]
        """What every request says, to whomever."""
        self.gates = Gates()
        self._timeouts = {"connect": deadline, "read": deadline, "write": deadline, "pool": None}
        reach = reach or Reach(trust=trust, environment=trust_env)
        self._routes = Routes(reach, connections)

    def transport(self, origin: Origin) -> httpx.AsyncBaseTransport:
        """Return what leads to an origin: our own, or httpx's where a proxy or HTTP/2 is to be used."""
        return self._routes.to(origin)

    def send(
        self, method: str, url: httpx.URL, headers: Headers, body: bytes, *, public_only: bool = False
    ) -> Awaitable[httpx.Response]:
        """Send a request to anywhere, or only to the Internet."""
        extensions = {"timeout": self._timeouts, PUBLIC_ONLY: public_only}
        request = httpx.Request(method, url, headers=headers, content=body, extensions=extensions)
        return self.transport(Origin.of(url)).handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._routes.aclose()


class Exchanger:
    """Sends requests for paths of one origin."""

    def __init__(
        self, client: Client, origin: httpx.URL, auth: Auth | None = None, *, follow: bool = True
    ) -> None:
        """Ask ``origin`` (any URL of it) through ``client``, showing it the credentials of ``auth``.

        ``follow``: go where a redirect leads; else it is an answer like any other.
        """
        self.client = client
        self.auth = auth
        self.public_only = False
        """Somebody on the Internet has named the origin: nothing goes to addresses that only we can reach."""
        self._follow = follow
        self._url = origin.copy_with(raw_path=b"/", fragment=None)
        self._origin = Origin.of(origin)
        self._own: Headers = [(b"Host", self._url.netloc), *client.common]

    @property
    def deadline(self) -> float:
        """Seconds without a byte after which a request counts as stalled."""
        return self.client.deadline

    def place(self, path: str) -> Place:
        """Where a path is, for messages."""
        return Place(self._url, path)

    @asynccontextmanager
    async def send(
        self, method: str, path: str, headers: Headers, body: bytes = b""
    ) -> AsyncIterator[Answer]:
        """`ask`, and close the answer at the end of the context."""
        answer = await self.ask(method, path, headers, body)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def begin(self, path: str, headers: Headers, told: Callable[[Begun], None]) -> Begun | None:
        """Send a GET with nobody waiting for its answer; None: it has to be asked for by `ask`.

        ``told`` is called with what came. Raises as `mirror.http.auth.Auth.headers`.
        """
        transport = self.client.transport(self._origin)
        # First, for a signature costs more than the rest.
        if not isinstance(transport, Transport) or not transport.has_idle(self._origin):
            return None
        if PROCESS.rate is not None or not self.client.gates.of(self._origin).open:
            return None
        everything = self._own + headers
        if self.auth is not None:
            everything += await self.auth.headers("GET", Place(self._url, path), everything, b"")
        asked = Asked("GET", path.encode("ascii"), everything, self.deadline, b"", self.public_only)
        begun = transport.begin(self._origin, asked, told)
        self.client.requests += begun is not None
        return begun

    async def ask(
        self, method: str, path: str, headers: Headers, body: bytes = b"", begun: Begun | None = None
    ) -> Answer:
        """Send one request, and the same to wherever it is redirected.

        Args:
            method: ``GET``, ``HEAD`` or another that may be sent twice.
            path: quoted, with a leading slash; a query may follow.
            headers: beside those that every request has.
            body: what is sent.
            begun: the request, where it was sent already.

        Returns:
            An answer of any status but a redirect that is followed, its body not read yet. Its
            connection is taken until it is closed.

        Raises:
            IsAFolder, NotAFolder: the server redirects to the same path with or without a slash.
            OriginFailed, Stalled, ProtocolError: no answer to be had; mapped from httpx.
        """
        if body:
            headers = [*headers, (b"Content-Length", str(len(body)).encode("ascii"))]
        where = Place(self._url, path)
        began = trio.current_time()
        hops = 0
        own = True
        redirects: list[httpx.Headers] = []
        renewed = False
        public = self.public_only
        gate = self.client.gates.of(self._origin)
        while True:
            first = begun is None and not gate.open and await gate.enter(where)
            self.client.requests += begun is None
            answered = False
            try:
                if begun is not None:
                    sent, begun = begun, None
                    transport = self.client.transport(self._origin)
                    assert isinstance(transport, Transport), "it was begun there"
                    response = await transport.ask(sent.origin, sent.asked, sent)
                elif hops:
                    response = await self._ask_elsewhere(method, where, headers, body, public_only=public)
                else:
                    response = await self._ask(method, where, path, headers, body, public_only=public)
                answered = True
            except (httpx.HTTPError, httpx.InvalidURL) as exc:
                raise translated(exc, where, self.deadline) from exc
            finally:
                if first and not answered:
                    gate.left()
            last = False
            try:
                if response.status_code in REFUSALS:
                    gate.refused(response.status_code, response.headers.get("retry-after"), first=first)
                elif first:
                    gate.passed()
                if own and not renewed and await self._renewed(response):
                    renewed = True
                    continue
                if not self._follow or response.status_code not in REDIRECTS:
                    last = True
                    return Answer(response, where, own, redirects)
                if own:
                    redirects.append(response.headers)
                url = self._next_hop(response, where.url)
                # Once a stranger has had a say, it has one in all that follows.
                public = not self.client.private and (public or response.extensions.get(PUBLIC, False))
            finally:
                if not last:
                    await response.aclose()
            hops += 1
            if hops > MAX_HOPS:
                raise OriginFailed(f"{where}: redirected more than {MAX_HOPS} times")
            if trio.current_time() - began >= self.deadline:
                raise Stalled(f"{where}: redirected {hops} times in {self.deadline:g} s, and no answer")
            where = Place(url)
            own = Origin.of(url) == self._origin
            gate = self.client.gates.of(Origin.of(url))

    async def _ask(
        self, method: str, where: Place, path: str, headers: Headers, body: bytes, *, public_only: bool
    ) -> httpx.Response:
        """Ask our own origin."""
        everything = self._own + headers
        if self.auth is not None:
            everything += await self.auth.headers(method, where, everything, body)
        transport = self.client.transport(self._origin)
        if isinstance(transport, Transport):
            # Without a URL object, for parsing one costs more than the rest.
            asked = Asked(method, path.encode("ascii"), everything, self.deadline, body, public_only)
            return await transport.ask(self._origin, asked)
        # A proxy is told the whole URL.
        return await self.client.send(method, where.url, everything, body, public_only=public_only)

    async def _ask_elsewhere(
        self, method: str, where: Place, headers: Headers, body: bytes, *, public_only: bool
    ) -> httpx.Response:
        """Ask whom a redirect names, our own origin among others."""
        url = where.url
        everything = [(b"Host", url.netloc), *self.client.common, *headers]
        if self.auth is not None and Origin.of(url) == self._origin:
            everything += await self.auth.headers(method, where, everything, body)
        return await self.client.send(method, url, everything, body, public_only=public_only)

    async def _renewed(self, response: httpx.Response) -> bool:
        # Only asked about our own origin: what another refuses says nothing about our credentials, for it
        # was not shown them.
        return (
            self.auth is not None and response.status_code in (401, 403) and await self.auth.renew(response)
        )

    @staticmethod
    def _next_hop(response: httpx.Response, url: httpx.URL) -> httpx.URL:
        location = response.headers.get("location")
        if not location:
            raise ProtocolError(f"{Place(url)}: a redirect that does not say where to")
        target = redirected(url, location)
        if adds_slash(url, target):
            raise IsAFolder(f"{Place(url)} is a folder")
        if drops_slash(url, target):
            raise NotAFolder(f"{Place(url)} is not a folder")
        return target
