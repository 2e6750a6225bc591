"""The protocol that every kind of source implements, and the values it speaks in.

A remote is stateless apart from its connections: it holds no cache, makes no retries and knows no
TTL. It performs one request at a time per call, checks the answer against what was asked, and
either returns values that can be trusted or raises one leaf of :mod:`mirror.errors`. Retrying,
planning of parts and freshness live above it, once for all kinds of source.

Paths are ``/``-separated, relative to the source, without a leading or trailing slash; the root is
``""``. Names in them are decoded exactly once and have passed :func:`mirror.remotes.names.check`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from cache import Entry, Kind
from cache.digests import Digest

__all__ = [
    "Addressed",
    "Asked",
    "Bulk",
    "Entry",
    "Kind",
    "Listing",
    "NotModified",
    "Page",
    "Pager",
    "Part",
    "Remote",
    "Scanner",
]


@dataclass(frozen=True, slots=True)
class Listing:
    """All the entries of one folder, in the source's order, bad names already left out."""

    entries: Sequence[Entry]
    validator: str | None = None
    """What makes the next ``list`` of this folder conditional, or None."""


@dataclass(frozen=True, slots=True)
class NotModified:
    """The listing is what it was when ``validator`` was handed out."""


class Part(Protocol):
    """The body of one request, exact or an exception: never short, never of another version."""

    @property
    def start(self) -> int:
        """First byte of the file that this part delivers (0 when the origin ignored the range)."""

    @property
    def stop(self) -> int | None:
        """One past the last byte; None while the origin does not say (no Content-Length)."""

    @property
    def size(self) -> int | None:
        """Length of the whole file as this answer states it; None when it does not say."""

    @property
    def entry(self) -> Entry:
        """What the answer's headers say about the file: size, mtime, validator."""

    @property
    def ranges(self) -> bool:
        """Whether the origin serves ranges of this file."""

    @property
    def digest(self) -> Digest | None:
        """What this answer promises of the whole file, whatever part of it comes; None: nothing."""

    def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        """Chunks in order.

        Raises `Transient` when the body is cut short or the connection breaks, `Stalled` when no
        byte comes within the deadline, `ProtocolError` when it is longer than stated.
        """


class Remote(Protocol):
    """One kind of source. Safe for concurrent use by tasks of one trio run."""

    @property
    def url(self) -> str:
        """The source in canonical form, free of secrets: the key of everything cached from it."""

    @property
    def requests(self) -> int:
        """Requests sent so far, whatever became of them."""

    async def list(self, path: str, validator: str | None = None) -> Listing | NotModified:
        """List one folder.

        Raises `NotFound`, `NotAFolder` (the path is a file), `AccessDenied`, `Transient`, `Stalled`,
        `ProtocolError` (the answer is not a listing).
        """

    async def stat(self, path: str) -> Entry:
        """Ask for one file's size, mtime and validator. Raises as `list` does, and `IsAFolder`."""

    def open_part(
        self, path: str, start: int = 0, stop: int | None = None, *, validator: str | None = None
    ) -> AbstractAsyncContextManager[Part]:
        """Request bytes ``start`` to ``stop`` (None: the end) of a file.

        A strong ``validator`` is sent along and checked: an answer of another version raises
        `VersionChanged` before any byte is delivered. ``start == 0 and stop is None`` asks for the
        whole file without a Range header. An origin that ignores the range answers with the whole
        file: the part then has ``start == 0`` and ``ranges == False``. Raises as `stat` does.
        """

    async def aclose(self) -> None:
        """Close all connections."""


class Asked(Protocol):
    """A whole file that was asked for while nobody waits for the answer.

    It ends with `close`, or is gone on with by `open`, once it was told of.
    """

    def cancel(self) -> None:
        """Wait no longer; it is told of at once."""

    def plain(self) -> tuple[Part, memoryview] | None:
        """The answer and the body, if all of it is here and it is of what was asked for; None: open it.

        What is true of a `Part` is true of it; nothing is to be read from it.
        """

    def close(self) -> None:
        """End: what `plain` returned was taken."""

    def open(self) -> AbstractAsyncContextManager[Part]:
        """Go on as `Remote.open_part` would, and raise as it does, with the answer that came if one did."""


@runtime_checkable
class Bulk(Protocol):
    """A remote that can be asked for many small files without a task that waits for each."""

    async def begin(self, path: str, validator: str | None, told: Callable[[Asked], None]) -> Asked | None:
        """Request all of a file, as `Remote.open_part` does, unless that would have to wait.

        ``told`` is called on the event loop, once, when the answer is here or cannot be had any more; it
        must not wait or raise. None: nothing was sent, use `Remote.open_part`. Raises `MirrorError` where
        that would before it asks.
        """


@runtime_checkable
class Addressed(Protocol):
    """A remote whose files have URLs that others can fetch them at."""

    def address(self, path: str) -> str | None:
        """Return the absolute URL of a file, without a request; None: none is known that holds no secret."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the files below a folder, with their paths relative to the source."""

    files: Sequence[tuple[str, Entry]]
    """A folder is among them only where the origin knows of it by itself, so that it may be empty."""
    cursor: str | None
    """What `Scanner.scan` goes on behind this page with, also in another process; None: it was the last."""


@runtime_checkable
class Scanner(Protocol):
    """A remote whose origin lists all that lies below a folder at once, as object stores do."""

    def scan(self, under: str = "", cursor: str | None = None) -> AsyncIterator[Page]:
        """Every file below the folder ``under``, page by page, however deep.

        Args:
            under: a folder; ``""``: the whole source. One that does not exist has no files.
            cursor: of the page to go on behind; None: from the beginning.

        Raises as `Remote.list` does. Asking again after a `Transient` failure is the caller's, with the
        cursor of the last page.
        """


@runtime_checkable
class Pager(Protocol):
    """A remote that can list a folder page by page: a million files need never be in memory at once."""

    def pages(self, path: str, cursor: str | None = None) -> AsyncIterator[Page]:
        """The files and folders in one folder, as `Remote.list` has them all at once.

        A name that is a file and a folder may come as both, in any order; the folder counts.

        Args:
            path: of the folder.
            cursor: of the page to go on behind; None: from the beginning.

        Raises as `Remote.list` does. Asking again after a `Transient` failure is the caller's, with the
        cursor of the last page.
        """
