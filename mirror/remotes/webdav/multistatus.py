"""The answer to PROPFIND (RFC 4918, section 13), as entries of one folder.

    <D:multistatus xmlns:D="DAV:">
      <D:response>
        <D:href>/dav/a%20b.bin</D:href>
        <D:propstat>
          <D:prop>
            <D:resourcetype/> <D:getcontentlength>10</D:getcontentlength> <D:getetag>"x"</D:getetag>
            <D:getlastmodified>Mon, 23 Nov 2026 14:02:14 GMT</D:getlastmodified>
          </D:prop>
          <D:status>HTTP/1.1 200 OK</D:status>
        </D:propstat>
      </D:response>
    </D:multistatus>

Read with expat as it comes, no tree of it is made. A document type is refused as soon as one is declared:
without it there are no entities to expand and nothing else to reach for. A property counts where its
propstat says 200, a resource where its href is the folder that was asked about, or right below it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from xml.parsers import expat

import httpx

from cache import Kind
from mirror.http import answers
from mirror.http.connection import Origin
from mirror.remotes.base import Entry
from mirror.remotes.listings.rows import LARGEST, LeftOut
from mirror.remotes.names import BadNameError, decode
from mirror.times import http_date

DEEPEST = 32
"""Levels of elements; an answer has 6, and 3 more within properties that nobody asked for."""
LONGEST = 16 * 1024
"""Characters of one text: a path has 4,096 bytes at most, each written as three characters."""

_STATUS = re.compile(r"HTTP/\d(?:\.\d)? (\d{3})(?: |$)", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

_RESPONSE = ("DAV: multistatus", "DAV: response")
_PROPSTAT = (*_RESPONSE, "DAV: propstat")
_PROP = (*_PROPSTAT, "DAV: prop")
_TEXTS = {
    (*_RESPONSE, "DAV: href"): "href",
    (*_RESPONSE, "DAV: status"): "own status",
    (*_PROPSTAT, "DAV: status"): "status",
    (*_PROP, "DAV: getcontentlength"): "length",
    (*_PROP, "DAV: getlastmodified"): "modified",
    (*_PROP, "DAV: getetag"): "etag",
}
_COLLECTION = (*_PROP, "DAV: resourcetype", "DAV: collection")


class NotAMultistatusError(ValueError):
    """It is something else; ``str()`` says how that shows."""


@dataclass(slots=True)
class Resource:
    """One response: what the server says of one URL."""

    href: str = ""
    there: bool = True
    """False when its own status says otherwise."""
    folder: bool = False
    said: dict[str, str] = field(default_factory=dict)
    """Properties that it has: ``length``, ``modified``, ``etag``."""

    def entry(self, name: str) -> Entry:
        """Return what it says, as the entry of that name."""
        if self.folder:
            return Entry(name, Kind.FOLDER)
        length = self.said.get("length", "")
        known = length.isascii() and length.isdigit() and len(length) < 20 and int(length) < LARGEST
        return Entry(
            name,
            Kind.FILE,
            int(length) if known else None,
            http_date(self.said.get("modified", "")),
            validator=_validator(self.said.get("etag", "")),
        )


def _validator(etag: str) -> str | None:
    # Some servers leave out the quotes here.
    return answers.strong(f'"{etag}"' if etag and not etag.startswith(("W/", '"')) else etag)


def resources(body: bytes) -> list[Resource]:
    """Read the responses of a multistatus.

    Raises:
        NotAMultistatusError: it is none, it is cut, or it has a document type.
    """
    return _Reader().read(body)


class _Reader:
    """The state of one reading."""

    def __init__(self) -> None:
        self._found: list[Resource] = []
        self._path: tuple[str, ...] = ()
        self._text: list[str] | None = None
        self._length = 0
        # Of the response, and of the propstat, that is being read.
        self._resource = Resource()
        self._props: dict[str, str] = {}
        self._folder = False

    def read(self, body: bytes) -> list[Resource]:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(body, True)
        except NotAMultistatusError:
            raise
        except (expat.ExpatError, ValueError, LookupError) as exc:
            # The last two: an encoding that expat cannot do, or nobody.
            raise NotAMultistatusError(f"it is no XML, or cut short ({exc})") from exc
        return self._found

    def _doctype(self, *_: object) -> None:
        raise NotAMultistatusError("it declares a document type, which no such answer needs")

    def _start(self, name: str, _: dict[str, str]) -> None:
        if not self._path and name != "DAV: multistatus":
            raise NotAMultistatusError("it is XML, but no multistatus")
        self._path = (*self._path, name)
        if len(self._path) > DEEPEST:
            raise NotAMultistatusError("its elements are too deep")
        if self._path == _RESPONSE:
            self._resource = Resource()
        elif self._path == _PROPSTAT:
            self._props, self._folder = {}, False
        elif self._path == _COLLECTION:
            self._folder = True
        if self._path in _TEXTS:
            self._text, self._length = [], 0

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)
            self._length += len(text)
            if self._length > LONGEST:
                raise NotAMultistatusError("one of its texts is too long")

    def _end(self, _: str) -> None:
        if (what := _TEXTS.get(self._path)) is not None:
            self._take(what, "".join(self._text or ()).strip())
            self._text = None
        elif self._path == _PROPSTAT and self._props.get("status", "200") == "200":
            self._resource.said |= self._props
            self._resource.folder |= self._folder
        elif self._path == _RESPONSE:
            self._found.append(self._resource)
        self._path = self._path[:-1]

    def _take(self, what: str, text: str) -> None:
        if what == "href":
            self._resource.href = text
        elif what == "own status":
            self._resource.there = _code(text) == "200"
        else:
            self._props[what] = _code(text) if what == "status" else text


def _code(line: str) -> str:
    found = _STATUS.match(line)
    return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class Folder:
    """What a multistatus says of one folder."""

    own: Resource | None
    """The folder itself; None: not a word."""
    entries: Sequence[Entry]


def folder(found: Sequence[Resource], url: httpx.URL) -> Folder:
    """Find the folder at ``url``, and the entries right below it, among what was answered.

    What lies elsewhere (on another host, above, deeper), has a name that cannot be used, or is named twice
    as different things, is left out, and logged.
    """
    here = _words(url.raw_path.partition(b"?")[0].decode("ascii"))
    origin = Origin.of(url)
    own: Resource | None = None
    entries: dict[str, Entry] = {}
    left_out = LeftOut(str(url.copy_with(query=None, fragment=None)))
    for resource in found:
        try:
            words = _words(_path_at(resource.href, origin, here))
        except BadNameError as exc:
            left_out.add(resource.href, str(exc))
            continue
        if words == here:
            own = own or resource
        elif words[:-1] != here:
            left_out.add(resource.href, "it is not in this folder")
        elif resource.there:
            entry = resource.entry(words[-1])
            if (known := entries.setdefault(entry.name, entry)) != entry:
                left_out.add(resource.href, "it is named twice")
                if known.kind is not entry.kind:
                    left_out.ambiguous.add(entry.name)
    left_out.report()
    return Folder(own, [entry for name, entry in entries.items() if name not in left_out.ambiguous])


def _path_at(href: str, origin: Origin, here: list[str]) -> str:
    """The path of an href in its quoted form. Raises `BadNameError`."""
    if not href:
        raise BadNameError("it is empty")
    if "?" in href or "#" in href:
        raise BadNameError("it has a query, or a '?' or '#' that is not quoted")
    if _SCHEME.match(href) or href.startswith("//"):
        parts = None
        try:
            parts = urlsplit(href, scheme=origin.scheme)
            url = httpx.URL(scheme=parts.scheme, host=parts.hostname or "", port=parts.port, path="/")
            known = parts.username is None and parts.scheme in ("http", "https") and Origin.of(url) == origin
        except (ValueError, httpx.InvalidURL):
            known = False
        if parts is None or not known:
            raise BadNameError("it is on another host")
        return parts.path or "/"
    if href.startswith("/"):
        return href
    # Not allowed (RFC 4918, section 8.3), but plain: a name in this folder.
    return "/".join(("", *(word.replace("%", "%25") for word in here), href))


def _words(path: str) -> list[str]:
    """The decoded names of a quoted path; one slash at its end is the same folder. Raises `BadNameError`."""
    words = path.removeprefix("/").removesuffix("/")
    return [decode(word) for word in words.split("/")] if words else []
