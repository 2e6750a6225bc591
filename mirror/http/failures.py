"""The boundary to httpx: each of its exceptions becomes one of ours, with a line that says which."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import httpx

from mirror.errors import AccessDenied, MirrorError, OriginFailed, ProtocolError, Stalled, Transient
from mirror.http.connection import PrivateAddressError
from mirror.http.wire import HandshakeError, UntrustedError

_PERMANENT_DNS = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))

PROXY_OPTIONS = "proxy-user and proxy-password, the latter in mirror.toml"

_CUT = ("Server disconnected", "peer closed connection", "peer unexpectedly closed")
"""How httpx's own transport begins to say that the connection ended early: it has no class for that."""


def translated(exc: httpx.HTTPError | httpx.InvalidURL, where: object, deadline: float) -> MirrorError:
    """Return what ``exc`` is in our words.

    Args:
        exc: what the transport raised.
        where: the URL, as ``str`` gives it.
        deadline: the seconds that were waited, for the message.
    """
    match exc:
        case httpx.ConnectTimeout():
            return Stalled(f"{where}: no connection within {deadline:g} s")
        case httpx.TimeoutException():
            return Stalled(f"{where}: not a byte within {deadline:g} s")
        case PrivateAddressError():
            return OriginFailed(
                f"{where}: a server on the Internet leads to a private address, which is refused; "
                "the option private-redirects=true allows it"
            )
        case httpx.ConnectError():
            return _not_connected(exc, where)
        case httpx.NetworkError():
            return Transient(f"{where}: the connection broke ({exc})")
        case httpx.RemoteProtocolError() if str(exc).startswith(_CUT):
            return Transient(f"{where}: the connection broke ({exc})")
        case httpx.RemoteProtocolError():
            return ProtocolError(f"{where}: the answer is not HTTP as it should be ({exc})")
        case httpx.ProxyError():
            return _not_passed_on(exc, where)
        case _:
            return OriginFailed(f"{where}: cannot be asked ({exc})")


def _not_passed_on(exc: httpx.ProxyError, where: object) -> MirrorError:
    # It begins with the status of the proxy's answer, where it gave one.
    match str(exc)[:4]:
        case "407 ":
            return AccessDenied(f"{where}: the proxy asks for a user and password; set {PROXY_OPTIONS}")
        case "401 " | "403 ":
            return AccessDenied(f"{where}: the proxy refuses to go there ({exc})")
    return Transient(f"{where}: the proxy failed ({exc})")


def _not_connected(exc: httpx.ConnectError, where: object) -> MirrorError:
    for cause in _causes(exc):
        match cause:
            # Ours, and Python's, for HTTP/2 and behind a proxy.
            case UntrustedError():
                return _not_trusted(where, cause.reason)
            case ssl.SSLCertVerificationError():
                return _not_trusted(where, cause.verify_message)
            case HandshakeError() | ssl.SSLError():
                hint = "; is it http: only?" if cause.reason == "WRONG_VERSION_NUMBER" else ""
                return OriginFailed(f"{where}: no TLS connection ({cause.reason or cause}){hint}")
            case socket.gaierror() if cause.errno in _PERMANENT_DNS:
                return OriginFailed(f"{where}: there is no such host; check the name")
            case socket.gaierror():
                return Transient(f"{where}: the host name cannot be looked up now ({cause.strerror})")
            case ConnectionRefusedError():
                return Transient(f"{where}: the connection was refused; is the server running?")
    return Transient(f"{where}: no connection ({exc})")


def _not_trusted(where: object, why: str) -> MirrorError:
    return OriginFailed(f"{where}: the server's certificate is not trusted ({why})")


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """``exc``, what caused it, and the members of groups on the way (one for each address tried)."""
    seen: set[int] = set()
    left: list[BaseException | None] = [exc]
    while left:
        cause = left.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            left += cause.exceptions
        left += [cause.__cause__, cause.__context__]
