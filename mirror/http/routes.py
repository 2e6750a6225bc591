"""How connections to an origin are made: directly or through a proxy, trusting whom, over which HTTP.

A plain connection is one of our own `Transport`, one over HTTP/2 of `http2`. Where a proxy is wanted,
httpx's own transport takes their place, over HTTP/1.1; what it cannot say of an answer is added here, so
that all that is checked above is checked of its answers too.

A client certificate is shown to one origin only: to any other the handshake is made without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from urllib.request import getproxies, proxy_bypass

import httpx

from mirror.errors import SetupError
from mirror.http.connection import DELIMITED, Origin
from mirror.http.transport import Transport
from mirror.http.trust import Trust


@dataclass(frozen=True, slots=True)
class Identity:
    """A client certificate."""

    origin: Origin
    """Who is shown it."""
    trust: Trust
    """TLS settings with the certificate and its key."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How origins are reached."""

    trust: Trust | None = None
    """TLS settings for every origin; None: verify against the usual authorities."""
    identity: Identity | None = None
    proxy: httpx.Proxy | None = None
    """Everything goes through this one."""
    environment: bool = False
    """Go through the proxies that the environment names, if it names one for where it goes."""
    http2: bool = False
    """Offer HTTP/2 to https origins, where there is no proxy in between."""


class Routes:
    """The transports to any origin, made when they are first needed."""

    def __init__(self, reach: Reach, connections: int) -> None:
        """``connections``: most requests at once; further ones wait for their turn."""
        self._reach = reach
        self._connections = connections
        self._usual = cache(lambda: reach.trust or Trust.usual())
        self._plain = (
            reach.proxy is None and reach.identity is None and not (reach.environment or reach.http2)
        )
        self._ours = Transport(connections, self._usual)
        self._direct: dict[tuple[bool, bool], httpx.AsyncBaseTransport] = {}
        self._others: dict[tuple[object, bool], Borrowed] = {}

    def to(self, origin: Origin) -> httpx.AsyncBaseTransport:
        """Return what leads to an origin.

        Raises:
            SetupError: the environment names a proxy that cannot be used.
        """
        if self._plain:
            return self._ours
        identity = self._reach.identity
        known = identity is not None and identity.origin == origin
        if (proxy := self._proxy(origin)) is not None:
            return self._other(proxy, identity if known else None)
        key = (known, self._reach.http2 and origin.scheme == "https")
        if key not in self._direct:
            self._direct[key] = self._made(identity if known else None, http2=key[1])
        return self._direct[key]

    def _made(self, identity: Identity | None, *, http2: bool) -> httpx.AsyncBaseTransport:
        if identity is None:
            trust, plain = self._usual, self._ours
        else:
            own = identity.trust
            trust = cache(lambda: own)
            plain = Transport(self._connections, trust)
        if not http2:
            return plain
        from mirror.http.http2 import Http2  # noqa: PLC0415 - h2 is an extra

        return Http2(self._connections, trust, plain)

    def _proxy(self, origin: Origin) -> httpx.Proxy | str | None:
        if self._reach.proxy is not None:
            return self._reach.proxy
        if not self._reach.environment or proxy_bypass(origin.host):
            return None
        proxies = getproxies()
        return proxies.get(origin.scheme) or proxies.get("all")

    def _other(self, proxy: httpx.Proxy | str | None, identity: Identity | None) -> Borrowed:
        key = (proxy, identity is not None)
        if key not in self._others:
            if isinstance(proxy, str):
                proxy = _named_by_environment(proxy)
            if proxy is not None and proxy.url.scheme == "https" and proxy.ssl_context is None:
                # The proxy is another origin: it sees no client certificate.
                proxy = httpx.Proxy(proxy.url, auth=proxy.auth, ssl_context=self._usual().context)
            limits = httpx.Limits(
                max_connections=self._connections, max_keepalive_connections=self._connections
            )
            self._others[key] = Borrowed(
                verify=(self._usual() if identity is None else identity.trust).context,
                trust_env=False,
                limits=limits,
                proxy=proxy,
            )
        return self._others[key]

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in (self._ours, *self._direct.values(), *self._others.values()):
            await transport.aclose()


def _named_by_environment(named: str) -> httpx.Proxy:
    # As curl reads it: a proxy without a scheme is spoken to in plain HTTP.
    url = named if "://" in named else f"http://{named}"
    try:
        proxy = httpx.Proxy(url)
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None or proxy.url.scheme not in ("http", "https") or not proxy.url.host:
        # Not shown: there may be a password in it.
        raise SetupError(
            "the environment names a proxy that cannot be used; write http_proxy=http://HOST:PORT, "
            "https_proxy alike"
        )
    return proxy


class Borrowed(httpx.AsyncHTTPTransport):
    """httpx's own transport, which says of its answers what ours says."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; see `connection.DELIMITED`."""
        response = await super().handle_async_request(request)
        framed = "content-length" in response.headers or "transfer-encoding" in response.headers
        bodyless = request.method == "HEAD" or response.status_code in (204, 304)
        response.extensions[DELIMITED] = framed or bodyless
        return response
