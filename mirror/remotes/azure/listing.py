"""The answer to List Blobs, as objects.

    <EnumerationResults ContainerName="c">
      <Blobs>
        <Blob>
          <Name>data/a.bin</Name>
          <Properties>
            <Last-Modified>Mon, 23 Nov 2026 14:02:14 GMT</Last-Modified>
            <Etag>0x8DE2A3</Etag> <Content-Length>10</Content-Length>
            <ResourceType>file</ResourceType>                       accounts with a hierarchical namespace
          </Properties>
          <Metadata><hdi_isfolder>true</hdi_isfolder></Metadata>    a folder, written by a tool for such
        </Blob>
        <BlobPrefix><Name>data/b/</Name></BlobPrefix>
      </Blobs>
      <NextMarker>…</NextMarker>
    </EnumerationResults>

Read with expat as it comes, no tree of it is made. A document type is refused as soon as one is declared:
without it there are no entities to expand and nothing else to reach for.
"""

from __future__ import annotations

from urllib.parse import unquote
from xml.parsers import expat

from mirror.http import answers
from mirror.remotes.objects.keys import Keys, Object, size
from mirror.times import http_date

SECOND = 1_000_000_000

DEEPEST = 16
"""Levels of elements; an answer has 6."""
LONGEST = 16 * 1024
"""Characters of one text: a name has 1,024, each written as nine at most."""

_ROOT = ("EnumerationResults",)
_BLOB = (*_ROOT, "Blobs", "Blob")
_PREFIX = (*_ROOT, "Blobs", "BlobPrefix")
_PROPERTIES = (*_BLOB, "Properties")
_TEXTS = {
    (*_BLOB, "Name"): "name",
    (*_PREFIX, "Name"): "name",
    (*_PROPERTIES, "Last-Modified"): "modified",
    (*_PROPERTIES, "Etag"): "etag",
    (*_PROPERTIES, "Content-Length"): "length",
    (*_PROPERTIES, "ResourceType"): "type",
    (*_BLOB, "Metadata", "hdi_isfolder"): "folder",
    (*_ROOT, "NextMarker"): "marker",
}


class NotAListingError(ValueError):
    """It is something else; ``str()`` says how that shows."""


def page(body: bytes) -> Keys:
    """Read one page.

    Raises:
        NotAListingError: it is none, it is cut, or it has a document type.
    """
    return _Reader().read(body)


class _Reader:
    """The state of one reading."""

    def __init__(self) -> None:
        self._objects: list[Object] = []
        self._prefixes: list[str] = []
        self._marker = ""
        self._path: tuple[str, ...] = ()
        self._said: dict[str, str] = {}
        self._text: list[str] | None = None
        self._length = 0
        self._quoted = False

    def read(self, body: bytes) -> Keys:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(body, True)
        except NotAListingError:
            raise
        except (expat.ExpatError, ValueError, LookupError) as exc:
            # The last two: an encoding that expat cannot do, or nobody.
            raise NotAListingError(f"it is no XML, or cut short ({exc})") from exc
        return Keys(self._objects, self._prefixes, self._marker or None)

    def _doctype(self, *_: object) -> None:
        raise NotAListingError("it declares a document type, which no such answer needs")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._path and name != _ROOT[0]:
            raise NotAListingError("it is XML, but no list of blobs")
        self._path = (*self._path, name)
        if len(self._path) > DEEPEST:
            raise NotAListingError("its elements are too deep")
        if self._path in (_BLOB, _PREFIX):
            self._said = {}
        elif self._path in _TEXTS:
            self._text, self._length = [], 0
            # Characters that XML cannot hold are percent-encoded, and only then.
            self._quoted = attributes.get("Encoded", "").lower() == "true"

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)
            self._length += len(text)
            if self._length > LONGEST:
                raise NotAListingError("one of its texts is too long")

    def _end(self, _: str) -> None:
        if (what := _TEXTS.get(self._path)) is not None:
            text = "".join(self._text or ())
            self._text = None
            if what == "marker":
                self._marker = text
            else:
                # Bytes that are no text become characters that no name has.
                self._said[what] = unquote(text, errors="surrogateescape") if self._quoted else text
        elif self._path == _BLOB:
            self._objects.append(self._blob())
        elif self._path == _PREFIX:
            self._prefixes.append(self._name())
        self._path = self._path[:-1]

    def _name(self) -> str:
        if not (name := self._said.get("name")):
            raise NotAListingError("it has a blob without a name")
        return name

    def _blob(self) -> Object:
        said = self._said
        etag = said.get("etag", "")
        return Object(
            self._name(),
            size(said.get("length")),
            http_date(said.get("modified", "")),
            SECOND,
            # Without the quotes that the header has.
            answers.strong(etag if etag.startswith(('"', "W/")) else f'"{etag}"') if etag else None,
            folder=said.get("type") == "directory" or said.get("folder", "").lower() == "true",
        )
