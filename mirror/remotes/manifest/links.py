"""The URLs in rows: resolved against the list, checked, and divided for keeping.

A URL may be signed, which makes it a secret: nothing here puts one into a message, and it is kept where
only this process can read it. What is kept is divided behind the last slash of its path, for most rows of
a list share what comes before it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit

import httpx

_SAFE = "-._~:/?[]@!$&'()*+,;=%"
_PLAIN = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]*")
_USUAL = re.compile(
    r"(https?)://([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)(:[1-9][0-9]{0,4})?(/[^#\x00-\x1f\x7f]*)?", re.ASCII
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_BAD = re.compile(r"[#\x00-\x1f\x7f]")
_PORTS = {"http": ":80", "https": ":443"}
LONGEST = 8192
"""Bytes of a URL; servers refuse longer ones."""


class BadLinkError(ValueError):
    """A URL that cannot be fetched; ``str()`` says why, without the URL."""


@lru_cache(maxsize=1024)
def _check_host(host: str) -> None:
    """Refuse a host that nothing could be sent to. Raises `httpx.InvalidURL`."""
    httpx.URL(f"http://{host}/")


class Links:
    """Resolves what stands in the rows of one list."""

    def __init__(self, base: str, *, files: bool) -> None:
        """Resolve against ``base``; ``files``: ``file:`` URLs may be read, as the list is a local file."""
        self._base = base
        self._files = files

    def resolve(self, text: str) -> tuple[str, str]:
        """Return a URL in two pieces: up to the last slash of its path, and the rest with its query.

        Raises:
            BadLinkError: it cannot be fetched.
        """
        if len(text) > LONGEST:
            raise BadLinkError(f"the URL has more than {LONGEST} characters")
        if _BAD.search(text):
            raise BadLinkError(
                "the URL has a '#' or a control character; write what belongs to a name as %23 or so"
            )
        try:
            return self._resolve(text)
        except (ValueError, httpx.InvalidURL) as exc:
            if isinstance(exc, BadLinkError):
                raise
            raise BadLinkError("the URL is not one") from None  # what they say may show it

    def _resolve(self, text: str) -> tuple[str, str]:
        found = _USUAL.fullmatch(text)
        if found is None:
            text = self._usual(text)
            if text.startswith("file:"):
                head, slash, name = text.rpartition("/")
                return head + slash, name
            found = _USUAL.fullmatch(text) or _BRACKETED.fullmatch(text)
            if found is None:
                raise BadLinkError("the URL is not one")
        scheme, host, port, target = found.groups()
        _check_host(host)
        if port is not None and (port == _PORTS[scheme] or int(port[1:]) > 65535):
            if port != _PORTS[scheme]:
                raise BadLinkError("the URL has a port above 65535")
            port = None
        target = target or "/"
        if not _PLAIN.fullmatch(target):
            target = quote(target, safe=_SAFE)
        path, mark, query = target.partition("?")
        head, slash, name = path.rpartition("/")
        return f"{scheme}://{host}{port or ''}{head}{slash}", f"{name}{mark}{query}"

    def _usual(self, text: str) -> str:
        """Make an absolute URL, its host in the spelling that is sent."""
        stated = _SCHEME.match(text)
        if stated is None:
            if not text:
                raise BadLinkError("the URL is empty")
            text = urljoin(self._base, text)
        scheme = (text.partition(":")[0]).lower()
        if scheme == "file":
            return self._file(text)
        if scheme not in _PORTS:
            raise BadLinkError(
                f"{scheme[:20]}: is no scheme that a manifest's files are fetched by; write https: or http:"
            )
        parts = urlsplit(text)
        if "@" in parts.netloc:
            raise BadLinkError("the URL has a user or a password in it; put them into ~/.netrc")
        if not parts.hostname:
            raise BadLinkError("the URL has no host")
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        host = httpx.URL(f"{scheme}://{name}/").raw_host.decode("ascii")
        port = f":{parts.port}" if parts.port is not None else ""
        query = f"?{parts.query}" if "?" in text else ""
        return f"{scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}{query}"

    def _file(self, text: str) -> str:
        if not self._files:
            raise BadLinkError("file: is only for a manifest that is a file of this machine")
        rest = text.partition(":")[2]
        host, slash, path = rest[2:].partition("/") if rest.startswith("//") else ("", "", rest)
        path = slash + path
        if host.lower() not in ("", "localhost"):
            raise BadLinkError("a file: URL has no host")
        if "?" in path:
            raise BadLinkError("a file: URL has no query; write %3F where a '?' is part of a name")
        if not path.startswith("/") or path.endswith("/") or b"\0" in unquote_to_bytes(path):
            raise BadLinkError("a file: URL has the whole path of a file")
        return "file://" + quote(path, safe=_SAFE)


_BRACKETED = re.compile(r"(https?)://(\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?(/[^#\x00-\x1f\x7f]*)?", re.ASCII)
