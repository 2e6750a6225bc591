"""One request to the source's origin, with its redirects, as far as the head of the answer.

Redirects are followed by hand, so that each hop is decided: at most `MAX_HOPS`, never from https to
http, credentials for the source's own origin only. No cookie is ever kept or sent. A redirect that
only adds or drops a slash is not followed: it says what kind of thing the path names.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from urllib.request import getproxies, proxy_bypass

import httpx

from mirror.errors import IsAFolder, NotAFolder, OriginFailed, ProtocolError
from mirror.remotes.http.connection import Asked, Origin
from mirror.remotes.http.credentials import authorization
from mirror.remotes.http.failures import translated
from mirror.remotes.http.transport import Transport
from mirror.remotes.http.url import Place, adds_slash, drops_slash, redirected

MAX_HOPS = 10

REDIRECTS = (301, 302, 303, 307, 308)

Headers = list[tuple[bytes, bytes]]


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


class Exchanger:
    """Sends requests for paths of one origin."""

    def __init__(
        self,
        source: httpx.URL,
        *,
        deadline: float,
        connections: int,
        trust_env: bool,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare for one source.

        Args:
            source: any URL of the origin.
            deadline: seconds to wait for a connection, for the head of an answer, for any byte.
            connections: most requests at once.
            trust_env: go through the proxies that the environment names, trust its CA file.
            context: TLS settings; None: verify against the usual authorities.
        """
        self.deadline = deadline
        self.requests = 0
        """Requests sent so far, redirected ones included."""
        self._url = source.copy_with(raw_path=b"/", fragment=None)
        self._origin = Origin.of(source)
        secret = authorization(source)
        self._secret: Headers = [(b"Authorization", secret.encode("ascii"))] if secret else []
        self._common: Headers = [
            (b"User-Agent", user_agent().encode("ascii")),
            # The bytes of the file itself: what is compressed on the way has other offsets.
            (b"Accept-Encoding", b"identity"),
        ]
        self._own: Headers = [(b"Host", self._url.netloc), *self._common, *self._secret]
        self._timeouts = {"connect": deadline, "read": deadline, "write": deadline, "pool": None}

        @cache
        def trusted() -> ssl.SSLContext:
            made = context or httpx.create_ssl_context(trust_env=trust_env)
            made.set_alpn_protocols(["http/1.1"])
            return made

        self._transport = _transport(self._origin, connections, trust_env, trusted)

    @asynccontextmanager
    async def send(self, method: str, path: str, headers: Headers) -> AsyncIterator[Answer]:
        """Send one request, and the same to wherever it is redirected.

        Args:
            method: ``GET`` or ``HEAD``.
            path: quoted, with a leading slash.
            headers: beside those that every request has.

        Yields:
            An answer of any status but a redirect, its body not read yet. Its connection is free again
            at the end of the context.

        Raises:
            IsAFolder, NotAFolder: the server redirects to the same path with or without a slash.
            OriginFailed, Stalled, ProtocolError: no answer to be had; mapped from httpx.
        """
        where = Place(self._url, path)
        answering = self._ask(method, path, headers)
        for hops in range(MAX_HOPS + 1):
            self.requests += 1
            try:
                response = await answering
            except (httpx.HTTPError, httpx.InvalidURL) as exc:
                raise translated(exc, where, self.deadline) from exc
            try:
                if response.status_code not in REDIRECTS:
                    yield Answer(response, where)
                    return
                url = self._next_hop(response, where.url)
            finally:
                await response.aclose()
            if hops < MAX_HOPS:
                where = Place(url)
                answering = self._transport.handle_async_request(self._request(method, url, headers))
        raise OriginFailed(f"{where}: redirected more than {MAX_HOPS} times")

    def _ask(self, method: str, path: str, headers: Headers) -> Awaitable[httpx.Response]:
        """Ask the source's own origin: without a URL object, for parsing one costs more than the rest."""
        if isinstance(self._transport, Transport):
            asked = Asked(method, path.encode("ascii"), self._own + headers, self.deadline)
            return self._transport.ask(self._origin, asked)
        # A proxy is told the whole URL.
        url = Place(self._url, path).url
        return self._transport.handle_async_request(self._request(method, url, headers))

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

    def _request(self, method: str, url: httpx.URL, headers: Headers) -> httpx.Request:
        secret = self._secret if Origin.of(url) == self._origin else []
        host: Headers = [(b"Host", url.netloc)]
        return httpx.Request(
            method,
            url,
            headers=host + self._common + secret + headers,
            extensions={"timeout": self._timeouts},
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


def _transport(
    origin: Origin, connections: int, trust_env: bool, context: Callable[[], ssl.SSLContext]
) -> httpx.AsyncBaseTransport:
    """Return our transport, or httpx's own where the environment names a proxy and is trusted."""
    if trust_env and not proxy_bypass(origin.host):
        proxies = getproxies()
        if (proxy := proxies.get(origin.scheme) or proxies.get("all")) is not None:
            limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
            return httpx.AsyncHTTPTransport(verify=context(), trust_env=False, limits=limits, proxy=proxy)
    return Transport(connections, context)
