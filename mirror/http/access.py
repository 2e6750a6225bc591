"""How the user wants an origin to be reached, and as whom: options that the kinds of sources share.

`CONNECTION` says how (certificates, a proxy, HTTP/2), `OPTIONS` also as whom (a password, a token). Without
such options the password is netrc's. All of it is for the origin of the source: what that redirects to
elsewhere sees neither passwords nor tokens nor certificates, and a proxy only its own password.
"""

from __future__ import annotations

import ssl
from importlib.util import find_spec
from pathlib import Path

import httpx

from mirror.errors import SetupError, UsageError
from mirror.http.auth import Auth, basic, bearer
from mirror.http.connection import Origin
from mirror.http.exchange import Client
from mirror.http.netrc_file import netrc_auth, netrc_entry
from mirror.http.routes import Identity, Reach
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
    reach = Reach(
        context=_trusting(options),
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


def _trusting(options: Options) -> ssl.SSLContext | None:
    """TLS settings by the option ``ca``; None: the usual ones."""
    file = options.file("ca")
    if file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise SetupError(f"{file}: there is no certificate in it; name a PEM file by ca") from None
    except OSError as exc:
        raise SetupError(f"{file}: cannot be read ({exc.strerror}); correct the option ca") from exc
    return context


def _identity(url: httpx.URL, options: Options) -> Identity | None:
    certificate, key = options.file("client-cert"), options.file("client-key")
    if certificate is None:
        if key is not None or "client-key-password" in options:
            raise UsageError("client-key is the key of a client-cert; set that too")
        return None
    if url.scheme != "https":
        raise UsageError("client-cert is for https only: it is shown in the TLS handshake; leave it out")
    for name, file in (("client-cert", certificate), ("client-key", key)):
        if file is not None:
            _refuse_unreadable(name, file)
    context = _trusting(options) or httpx.create_ssl_context()
    asked = _Password(options.get("client-key-password"))
    try:
        context.load_cert_chain(certificate, key, password=asked)
    except ssl.SSLError as exc:
        raise SetupError(_why_unusable(exc, certificate, key, asked)) from None
    return Identity(Origin.of(url), context)


class _Password:
    """What OpenSSL asks for the password of a key; else it would ask the terminal."""

    def __init__(self, password: str | None) -> None:
        self.password = password
        self.asked = False

    def __call__(self) -> str:
        self.asked = True
        return self.password or ""


def _why_unusable(exc: ssl.SSLError, certificate: str, key: str | None, password: _Password) -> str:
    file = key or certificate
    if password.asked and password.password is None:
        return f"{file}: the key is encrypted; put its client-key-password into mirror.toml"
    if password.asked:
        return f"{file}: the key cannot be decrypted with the client-key-password that is set; correct it"
    if exc.reason == "KEY_VALUES_MISMATCH":
        return f"{file}: this is not the key of the certificate in {certificate}; name both files of one pair"
    where = certificate if key is None else f"{certificate} or {key}"
    hint = "; name the key's file by client-key" if key is None else ""
    return f"{where}: there is no certificate with its key in PEM form{hint}"


def _refuse_unreadable(name: str, file: str) -> None:
    try:
        Path(file).open("rb").close()
    except OSError as exc:
        raise SetupError(f"{file}: cannot be read ({exc.strerror}); correct the option {name}") from exc
