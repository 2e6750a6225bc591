"""Which links of a listing page name an entry of the folder: decided from ``href`` alone.

Only a direct child is one: the folder's own path, then one segment, then nothing or a slash. So
parent links, sort links (``?C=N;O=D``), links to other hosts and everything outside the folder
fall away by one rule, whoever wrote the page.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes, urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PORTS = {"http": 80, "https": 443}


class Folder:
    """The folder that a page lists, by the URL that answered with the page."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._scheme = parts.scheme
        self._origin = _origin(url)
        self._path = parts.path if parts.path.endswith("/") else f"{parts.path}/"
        self._segments = _segments(self._path)

    def child(self, href: str) -> tuple[str, bool] | None:
        """Return the still quoted name that ``href`` gives a direct child, and whether it is a folder."""
        href = href.strip()
        # In a link a bare "?" or "#" ends the name; one that belongs to the name is quoted.
        if not href or "?" in href or (path := href.partition("#")[0]) == "":
            return None
        relative = self._relative(path)
        if relative is None:
            return None
        name, slash, rest = relative.removeprefix("./").partition("/")
        if rest or name in ("", ".", ".."):
            return None
        # The page's own bytes were no UTF-8 here: refuse the name instead of asking for another one.
        return name.replace("\ufffd", "%FF"), slash == "/"

    def is_parent(self, href: str) -> bool:
        """Whether ``href`` leads one folder up."""
        href = href.strip()
        if href in ("..", "../"):
            return True
        if not href.startswith("/") or not self._segments:
            return False
        return _segments(href.rstrip("/") + "/") == self._segments[:-1]

    def _relative(self, path: str) -> str | None:
        """What of ``path`` lies below the folder, or None when it lies elsewhere."""
        if _SCHEME.match(path):
            if _origin(path) != self._origin:
                return None
            path = urlsplit(path).path
        elif path.startswith("//"):
            if _origin(f"{self._scheme}:{path}") != self._origin:
                return None
            path = urlsplit(f"{self._scheme}:{path}").path
        if not path.startswith("/"):
            return path
        if path.startswith(self._path):
            return path[len(self._path) :]
        # The same folder may be quoted in another way ("%7E" and "~", "%c3" and "%C3").
        folder, _, name = path.removesuffix("/").rpartition("/")
        if _segments(f"{folder}/") != self._segments:
            return None
        return f"{name}/" if path.endswith("/") else name


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an absolute http or https URL; None of any other."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme]


def _segments(path: str) -> list[bytes]:
    """Decoded segments of a path that ends with a slash."""
    # surrogatepass: a page may hold any code point, and here they are only compared.
    return [unquote_to_bytes(part.encode("utf-8", "surrogatepass")) for part in path.split("/")[1:-1]]
