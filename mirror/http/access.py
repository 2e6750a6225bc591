"""How the user wants an origin to be reached, and as whom: options that the kinds of sources share.

`CONNECTION` says how (certificates, a proxy, HTTP/2), `OPTIONS` also as whom (a password, a token). Without
such options the password is netrc's. All of it is for the origin of the source: what that redirects to
elsewhere sees neither passwords nor tokens nor certificates, and a proxy only its own password.
"""

from __future__ import annotations

from importlib.util import find_spec

import httpx

from mirror.errors import SetupError, UsageError
from mirror.http.auth import Auth, basic, bearer
from mirror.http.connection import Origin
from mirror.http.exchange import Client
from mirror.http.netrc_file import netrc_auth, netrc_entry
from mirror.http.routes import Identity, Reach
from mirror.http.trust import Trust
from mirror.remotes.how import How
from mirror.remotes.options import Form, Option, Options

ENVIRONMENT = "environment"
"""The value of ``proxy`` that leaves it to ``http_proxy``, ``https_proxy`` and ``no_proxy``."""

CONNECTION: tuple[Option, ...] = (
    Option("ca", "PEM file of the authorities to trust, instead of the usual ones", Form.FILE),
    Option("client-cert", "PEM file of the certificate to show the server, and of its chain", Form.FILE),
    Option("client-key", "PEM file of the certificate's key, where it is not in the same file", Form.FILE),
    Option("client-key-password", "what the key is encrypted with", secret=True),
    Option(
        "proxy",
        "URL of the proxy to go through; environment: the ones that http_proxy and https_proxy name",
        Form.URL,
        choices=(ENVIRONMENT,),
    ),
    Option("proxy-user", "user name for the proxy"),
    Option("proxy-password", "password for the proxy", secret=True),
    Option("private-redirects", "let an origin on the Internet redirect to private addresses", Form.FLAG),
    Option("http2", "offer HTTP/2 to the server (https only)", Form.FLAG),
)
"""How to get to an origin."""

CREDENTIALS: tuple[Option, ...] = (
    Option("user", "user name for basic authentication; without a password here, netrc's"),
    Option("password", "password for basic authentication", secret=True),
    Option("token", "token for bearer authentication", secret=True),
)
"""As whom."""

OPTIONS = CREDENTIALS + CONNECTION


def open_client(url: httpx.URL, how: How) -> Client:
    """Make the connections that a source asks for; nothing is sent yet.

    Args:
        url: any URL of its origin.
        how: with the options of `CONNECTION`, as far as they are set.

    Raises:
        UsageError: they contradict each other.
        SetupError: a file that they name cannot be used, or HTTP/2 is not installed.
    """
    options = how.options
    named = options.get("proxy")
    authorities = options.file("ca")
    reach = Reach(
        trust=None if authorities is None else Trust.of(authorities),
        identity=_identity(url, options),
        proxy=_proxy(options) if named not in (None, ENVIRONMENT) else None,
        environment=named == ENVIRONMENT,
        http2=_http2(url, options),
    )
    if reach.proxy is None and ("proxy-user" in options or "proxy-password" in options):
        raise UsageError("proxy-user and proxy-password are for a proxy that the option proxy names; set it")
    return Client(
        deadline=how.deadline,
        connections=how.connections,
        reach=reach,
        private=options.flag("private-redirects"),
    )


def credentials(url: httpx.URL, options: Options) -> Auth | None:
    """Return who asks, by the options of `CREDENTIALS` or netrc; None: nobody in particular.

    Raises:
        UsageError: the options contradict each other.
        SetupError: the netrc file cannot be read, or has no password for the user.
    """
    user, password, token = (options.get(name) for name in ("user", "password", "token"))
    if token is not None:
        if user is not None or password is not None:
            raise UsageError("token and user or password are two ways to say who asks; leave one out")
        _refuse_beyond_ascii("token", token)
        return bearer(token)
    if user is None and password is None:
        return netrc_auth(url)
    if user is None:
        raise UsageError("there is a password and no user for it; set the option user")
    if ":" in user:
        raise UsageError("a user's name has no ':' in basic authentication; correct the option user")
    if password is None:
        entry = netrc_entry(url)
        if entry is None or entry[0] != user:
            raise SetupError(
                f"there is no password for {user!a} at {url.host}; put it into mirror.toml, or "
                f"'machine {url.host} login USER password PASSWORD' into ~/.netrc"
            )
        password = entry[1]
    return basic(user, password)


def _refuse_beyond_ascii(name: str, value: str) -> None:
    if not value.isascii() or " " in value:
        raise SetupError(f"the {name} has characters that no token has; correct it")


def _proxy(options: Options) -> httpx.Proxy:
    user, password = options.get("proxy-user"), options.get("proxy-password")
    if (user is None) != (password is None):
        raise UsageError("proxy-user and proxy-password are set together, or not at all")
    auth = None if user is None or password is None else (user, password)
    return httpx.Proxy(options["proxy"], auth=auth)


def _http2(url: httpx.URL, options: Options) -> bool:
    if not options.flag("http2"):
        return False
    if url.scheme != "https":
        raise UsageError("http2 is for https only: servers agree on it in the TLS handshake; leave it out")
    if find_spec("h2") is None:
        raise SetupError("HTTP/2 is not installed; run: pip install 'mirrorfs[http2]'")
    return True


def _identity(url: httpx.URL, options: Options) -> Identity | None:
    certificate, key = options.file("client-cert"), options.file("client-key")
    if certificate is None:
        if key is not None or "client-key-password" in options:
            raise UsageError("client-key is the key of a client-cert; set that too")
        return None
    if url.scheme != "https":
        raise UsageError("client-cert is for https only: it is shown in the TLS handshake; leave it out")
    trust = Trust.of(options.file("ca"), certificate, key, options.get("client-key-password"))
    return Identity(Origin.of(url), trust)
