"""Places: URLs for messages, and where an answer may send us."""

from __future__ import annotations

import httpx

from mirror.errors import OriginFailed, ProtocolError

SCHEMES = ("http", "https")


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

    @property
    def target(self) -> str:
        """Path and query as a request line has them, quoted."""
        return self._base.raw_path.decode("ascii") if self._path is None else self._path

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
