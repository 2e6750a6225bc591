"""One request to an origin, with its redirects, as far as the head of the answer.

Redirects are followed by hand, so that each hop is decided: at most `MAX_HOPS`, never from https to
http, credentials for the origin's own requests only. No cookie is ever kept or sent. A redirect that
only adds or drops a slash is not followed: it says what kind of thing the path names.

A `Client` is what a remote has of the network: one pool of connections, one patience, one TLS
configuration. An `Exchanger` asks one origin through it; a remote has one for each of its origins.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from urllib.request import getproxies, proxy_bypass

import httpx

from mirror.errors import IsAFolder, NotAFolder, OriginFailed, ProtocolError
from mirror.http.auth import Auth, Headers
from mirror.http.connection import Asked, Origin
from mirror.http.failures import translated
from mirror.http.places import Place, adds_slash, drops_slash, redirected
from mirror.http.transport import Transport

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


class Client:
    """Connections to any origin, shared by the exchangers of one remote."""

    def __init__(
        self,
        *,
        deadline: float,
        connections: int,
        trust_env: bool = False,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            deadline: seconds to wait for a connection, for the head of an answer, for any byte.
            connections: most requests at once.
            trust_env: go through the proxies that the environment names, trust its CA file.
            context: TLS settings; None: verify against the usual authorities.
        """
        self.deadline = deadline
        self.requests = 0
        """Requests sent so far, redirected ones included."""
        self.common: Headers = [
            (b"User-Agent", user_agent().encode("ascii")),
            # The bytes of the file itself: what is compressed on the way has other offsets.
            (b"Accept-Encoding", b"identity"),
        ]
        """What every request says, to whomever."""
        self._timeouts = {"connect": deadline, "read": deadline, "write": deadline, "pool": None}

        @cache
        def trusted() -> ssl.SSLContext:
            made = context or httpx.create_ssl_context(trust_env=trust_env)
            made.set_alpn_protocols(["http/1.1"])
            return made

        self._connections = connections
        self._trust_env = trust_env
        self._trusted = trusted
        self._direct = Transport(connections, trusted)
        self._proxied: dict[str, httpx.AsyncHTTPTransport] = {}

    def transport(self, origin: Origin) -> httpx.AsyncBaseTransport:
        """Return what leads to an origin: our own, or httpx's where a proxy is to be used."""
        if self._trust_env and not proxy_bypass(origin.host):
            proxies = getproxies()
            if (proxy := proxies.get(origin.scheme) or proxies.get("all")) is not None:
                return self._through(proxy)
        return self._direct

    def _through(self, proxy: str) -> httpx.AsyncHTTPTransport:
        if proxy not in self._proxied:
            limits = httpx.Limits(
                max_connections=self._connections, max_keepalive_connections=self._connections
            )
            self._proxied[proxy] = httpx.AsyncHTTPTransport(
                verify=self._trusted(), trust_env=False, limits=limits, proxy=proxy
            )
        return self._proxied[proxy]

    def send(self, method: str, url: httpx.URL, headers: Headers, body: bytes) -> Awaitable[httpx.Response]:
        """Send a request to anywhere."""
        request = httpx.Request(
            method, url, headers=headers, content=body, extensions={"timeout": self._timeouts}
        )
        return self.transport(Origin.of(url)).handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._direct.aclose()
        for transport in self._proxied.values():
            await transport.aclose()


class Exchanger:
    """Sends requests for paths of one origin."""

    def __init__(self, client: Client, origin: httpx.URL, auth: Auth | None = None) -> None:
        """Ask ``origin`` (any URL of it) through ``client``, showing it the credentials of ``auth``."""
        self.client = client
        self.auth = auth
        self._url = origin.copy_with(raw_path=b"/", fragment=None)
        self._origin = Origin.of(origin)
        self._own: Headers = [(b"Host", self._url.netloc), *client.common]

    @property
    def deadline(self) -> float:
        """Seconds without a byte after which a request counts as stalled."""
        return self.client.deadline

    @asynccontextmanager
    async def send(
        self, method: str, path: str, headers: Headers, body: bytes = b""
    ) -> AsyncIterator[Answer]:
        """Send one request, and the same to wherever it is redirected.

        Args:
            method: ``GET``, ``HEAD`` or another that may be sent twice.
            path: quoted, with a leading slash; a query may follow.
            headers: beside those that every request has.
            body: what is sent.

        Yields:
            An answer of any status but a redirect, its body not read yet. Its connection is free again
            at the end of the context.

        Raises:
            IsAFolder, NotAFolder: the server redirects to the same path with or without a slash.
            OriginFailed, Stalled, ProtocolError: no answer to be had; mapped from httpx.
        """
        if body:
            headers = [*headers, (b"Content-Length", str(len(body)).encode("ascii"))]
        where = Place(self._url, path)
        hops = 0
        renewed = False
        while True:
            self.client.requests += 1
            try:
                response = await self._ask(method, where, path if not hops else None, headers, body)
            except (httpx.HTTPError, httpx.InvalidURL) as exc:
                raise translated(exc, where, self.deadline) from exc
            try:
                if not renewed and await self._renewed(response, where):
                    renewed = True
                    continue
                if response.status_code not in REDIRECTS:
                    yield Answer(response, where)
                    return
                url = self._next_hop(response, where.url)
            finally:
                await response.aclose()
            hops += 1
            if hops > MAX_HOPS:
                raise OriginFailed(f"{where}: redirected more than {MAX_HOPS} times")
            where = Place(url)

    async def _ask(
        self, method: str, where: Place, path: str | None, headers: Headers, body: bytes
    ) -> httpx.Response:
        """Ask once. ``path``: on our own origin, None after a redirect to anywhere."""
        if path is None:
            return await self._ask_elsewhere(method, where, headers, body)
        everything = self._own + headers
        if self.auth is not None:
            everything += await self.auth.headers(method, where, everything, body)
        transport = self.client.transport(self._origin)
        if isinstance(transport, Transport):
            # Without a URL object, for parsing one costs more than the rest.
            asked = Asked(method, path.encode("ascii"), everything, self.deadline, body)
            return await transport.ask(self._origin, asked)
        # A proxy is told the whole URL.
        return await self.client.send(method, where.url, everything, body)

    async def _ask_elsewhere(
        self, method: str, where: Place, headers: Headers, body: bytes
    ) -> httpx.Response:
        url = where.url
        everything = [(b"Host", url.netloc), *self.client.common, *headers]
        if self.auth is not None and Origin.of(url) == self._origin:
            everything += await self.auth.headers(method, where, everything, body)
        return await self.client.send(method, url, everything, body)

    async def _renewed(self, response: httpx.Response, where: Place) -> bool:
        # What another origin refuses says nothing about our credentials: it was not shown them.
        if self.auth is None or response.status_code not in (401, 403):
            return False
        return Origin.of(where.url) == self._origin and await self.auth.renew(response)

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
