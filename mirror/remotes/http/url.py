"""URLs: what a source string means.

The canonical form is the key of everything cached from a source, so one tree has one spelling: lower
case scheme and host, no default port, every path segment quoted in one way. It never holds a secret:
a password belongs into netrc.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httpx

from mirror.errors import UsageError
from mirror.remotes.names import BadNameError, decode, to_url

_PORTS = {"http": 80, "https": 443, "webdav": 80, "webdavs": 443}
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


def canonical(source: str) -> str:
    """Normalise an http or https source, or one of another scheme with the same URLs.

    Raises:
        UsageError: one line with the cause and what to do about it.
    """
    if _CONTROL.search(source):
        raise UsageError(f"{source!a}: a URL has no spaces or control characters; write a space as %20")
    try:
        parts = urlsplit(source)
        port = parts.port
    except ValueError as exc:
        raise UsageError(
            f"{source}: not a URL ({exc}); write {source.partition(':')[0]}://HOST/PATH/"
        ) from exc
    # From here on the message does not show the source: it may hold a password.
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"{parts.scheme}://…@{parts.hostname}: a source holds no user or password; "
            f"put 'machine {parts.hostname} login USER password PASSWORD' into ~/.netrc"
        )
    if not parts.hostname:
        raise UsageError(f"{source}: there is no host; write {parts.scheme}://HOST/PATH/")
    if "#" in source:
        raise UsageError(f"{source}: a '#' ends a URL; write it as %23 where it is part of a name")
    if port == 0:
        raise UsageError(f"{source}: 0 is not a port; write {parts.scheme}://HOST:PORT/PATH/")
    try:
        host = httpx.URL(f"{parts.scheme}://{_bracketed(parts.hostname)}/").raw_host.decode("ascii")
    except httpx.InvalidURL as exc:
        raise UsageError(f"{source}: {parts.hostname} is not a host name ({exc})") from exc
    authority = _bracketed(host) if port in (None, _PORTS[parts.scheme]) else f"{_bracketed(host)}:{port}"
    return f"{parts.scheme}://{authority}{_path(source, parts.path)}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _path(source: str, path: str) -> str:
    """Quote each segment in our way. Raises `UsageError`."""
    names = path.strip("/")
    if not names:
        return "/"
    try:
        quoted = "/".join(to_url(decode(segment)) for segment in names.split("/"))
    except BadNameError as exc:
        raise UsageError(f"{source}: the path has a name that cannot be used ({exc}); correct it") from exc
    return f"/{quoted}/" if path.endswith("/") else f"/{quoted}"
