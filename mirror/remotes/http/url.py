"""URLs: what a source string means, and where an answer may send us.

The canonical form is the key of everything cached from a source, so one tree has one spelling: lower
case scheme and host, no default port, every path segment quoted in one way. It never holds a secret:
a password belongs into netrc, and a query (a signed link, mostly) has no place in it.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httpx

from mirror.errors import OriginFailed, ProtocolError, UsageError
from mirror.remotes.names import BadNameError, decode, to_url

SCHEMES = ("http", "https")
_PORTS = {"http": 80, "https": 443}
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


def canonical(source: str) -> str:
    """Normalise an http or https source.

    Raises:
        UsageError: one line with the cause and what to do about it.
    """
    if _CONTROL.search(source):
        raise UsageError(f"{source!a}: a URL has no spaces or control characters; write a space as %20")
    try:
        parts = urlsplit(source)
        port = parts.port
    except ValueError as exc:
        raise UsageError(f"{source}: not a URL ({exc}); write https://HOST/PATH/") from exc
    # From here on the message does not show the source: it may hold a password.
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"{parts.scheme}://…@{parts.hostname}: a source holds no user or password; "
            f"put 'machine {parts.hostname} login USER password PASSWORD' into ~/.netrc"
        )
    if not parts.hostname:
        raise UsageError(f"{source}: there is no host; write {parts.scheme}://HOST/PATH/")
    if "?" in source:
        bare = source.partition("?")[0]
        raise UsageError(
            f"{bare}?…: a query cannot be part of a source; leave out everything from the '?' on"
        )
    if "#" in source:
        raise UsageError(f"{source}: a '#' ends a URL; write it as %23 where it is part of a name")
    if port == 0:
        raise UsageError(f"{source}: 0 is not a port; write https://HOST:PORT/PATH/")
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


class Place:
    """A URL for messages: put together only when one is written, and without its query.

    The query may be a signature. Building a URL costs more than all else that is done for a request
    here, and nearly every request goes without a message.
    """

    __slots__ = ("_base", "_path")

    def __init__(self, base: httpx.URL, path: str | None = None) -> None:
        """Remember ``base``, or ``path`` (quoted, with a leading slash) on its host."""
        self._base = base
        self._path = path

    @property
    def url(self) -> httpx.URL:
        """The URL in full."""
        return self._base if self._path is None else self._base.copy_with(raw_path=self._path.encode("ascii"))

    def __str__(self) -> str:
        return str(self.url.copy_with(query=None, fragment=None))


def redirected(url: httpx.URL, location: str) -> httpx.URL:
    """Where a redirect from ``url`` leads.

    Raises:
        OriginFailed: to a place that is not gone to: other schemes, from https to http.
        ProtocolError: it is no URL, or one with credentials in it.
    """
    try:
        target = url.join(location)
    except (httpx.InvalidURL, ValueError) as exc:
        raise ProtocolError(f"{Place(url)}: redirects to something that is not a URL") from exc
    if not 0 < (target.port or 1) < 65536:
        raise ProtocolError(f"{Place(url)}: redirects to something that is not a URL")
    if target.scheme not in SCHEMES or not target.host:
        raise OriginFailed(f"{Place(url)}: redirects to {target.scheme!a}, not to http or https")
    if url.scheme == "https" and target.scheme == "http":
        raise OriginFailed(f"{Place(url)}: redirects from https to http, which is refused")
    if target.userinfo:
        raise ProtocolError(f"{Place(url)}: redirects to a URL with a password in it, which is refused")
    return target.copy_with(fragment=None)


def adds_slash(url: httpx.URL, target: httpx.URL) -> bool:
    """Whether a redirect only adds a slash: that is how a server says "this is a folder"."""
    return _same_but_slash(target, url)


def drops_slash(url: httpx.URL, target: httpx.URL) -> bool:
    """Whether a redirect only drops the slash: that is how a server says "this is a file"."""
    return _same_but_slash(url, target)


def _same_but_slash(longer: httpx.URL, shorter: httpx.URL) -> bool:
    # Hosts may differ: a server behind a proxy redirects to the name it thinks it has.
    return longer.path == f"{shorter.path}/"
