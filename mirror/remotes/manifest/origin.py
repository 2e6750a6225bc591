"""The manifest itself: asked whether it is a new one, and if so brought to where a thread can read it.

What comes over HTTP goes into a temporary file without a name first, however large it is. A download that is
cut short, or given up because it takes longer than a question may take, is gone on with by the next one where
the manifest has a strong ETag.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Protocol

import httpx
import trio

from cache import Entry, Kind
from mirror.errors import (
    IsAFolder,
    MirrorError,
    NotAFolder,
    NotFound,
    OriginFailed,
    ProtocolError,
    SetupError,
    Transient,
    VersionChanged,
)
from mirror.http import answers
from mirror.http.connection import PUBLIC, Chunk
from mirror.http.exchange import Exchanger
from mirror.http.files import ANY, Files
from mirror.http.parts import HttpPart
from mirror.remotes.file.jobs import Threads
from mirror.remotes.file.reading import open_path, validator
from mirror.remotes.file.root import translated
from mirror.retry import progressed

GATHERED = 1024 * 1024
"""Bytes written at a time."""
MOST_BYTES = 64 << 30
_DATE = "date:"
_PACKED = ("", "identity", "gzip", "x-gzip")
"""How a manifest may be coded: servers call a ``.gz`` that they store so, and it is unpacked here anyway."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A manifest that is not the one of before."""

    content: Callable[[], AbstractContextManager[BinaryIO]]
    """Opens it, once. Blocking."""
    seen: str | None
    """What to ask with for a newer one."""


class ListOrigin(Protocol):
    """Where a manifest comes from."""

    @property
    def public(self) -> bool:
        """Whether it came from the Internet: then it names nothing that only we can reach."""

    async def newer(self, seen: str | None) -> Copy | None:
        """Ask for another version than ``seen``; None: there is none.

        Raises:
            MirrorError: it cannot be asked; never `NotFound`, for that no file is gone with its list.
        """

    def close(self) -> None:
        """Give up what was begun."""


@contextmanager
def never_absent(where: object) -> Iterator[None]:
    """Make failures of what is known to be there failures, not absences."""
    try:
        yield
    except NotFound as exc:
        raise OriginFailed(f"{exc}: the manifest is not there") from exc
    except (IsAFolder, NotAFolder) as exc:
        raise OriginFailed(f"{where}: a manifest is a file, and this is a folder") from exc


class FileOrigin:
    """A manifest that is a file of this machine."""

    public = False

    def __init__(self, path: str, threads: Threads) -> None:
        self._path = path
        self._threads = threads

    async def newer(self, seen: str | None) -> Copy | None:
        """See `ListOrigin.newer`."""
        with never_absent(self._path):
            now = await self._threads.run(self._version, self._path)
        return None if now == seen else Copy(partial(self._content, now), now)

    def _version(self) -> str:
        try:
            return validator(os.stat(self._path), exact=True)  # noqa: PTH116 - no Path for each look
        except OSError as exc:
            raise translated(exc, self._path) from exc

    @contextmanager
    def _content(self, version: str) -> Iterator[BinaryIO]:
        """The file, which has to stay the same until it is read."""
        try:
            with never_absent(self._path), os.fdopen(open_path(self._path), "rb") as file:
                yield file
                if validator(os.fstat(file.fileno()), exact=True) != version or self._version() != version:
                    raise Transient(
                        f"{self._path}: was changed while it was read; put a new one in its place at once"
                    )
        except OSError as exc:
            raise translated(exc, self._path) from exc

    def close(self) -> None:
        """There is nothing to give up."""


@dataclass(slots=True)
class _Begun:
    """A download that has not ended."""

    file: BinaryIO
    seen: str | None
    size: int = 0
    total: int | None = None

    @property
    def etag(self) -> str | None:
        """What the rest can be asked for with."""
        return self.seen if self.seen is not None and self.seen.startswith(answers.ETAG) else None


class HttpOrigin:
    """A manifest on a web server."""

    def __init__(self, url: httpx.URL, http: Exchanger) -> None:
        self._target = url.raw_path.decode("ascii")
        self._where = str(url)
        self._http = http
        self._begun: _Begun | None = None
        self.public = False
        """It came from an address of the Internet."""

    async def newer(self, seen: str | None) -> Copy | None:
        """See `ListOrigin.newer`."""
        try:
            with never_absent(self._where):
                if self._begun is not None:
                    try:
                        return await self._resumed(self._begun)
                    except VersionChanged:
                        self.close()
                return await self._asked(seen)
        except (MirrorError, trio.Cancelled) as exc:
            # What is cut short is gone on with; what makes no sense is not.
            if self._begun is not None and (
                self._begun.etag is None or not isinstance(exc, Transient | trio.Cancelled)
            ):
                self.close()
            raise

    def close(self) -> None:
        """Throw away what came of it."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.file.close()

    async def _asked(self, seen: str | None) -> Copy | None:
        headers = [*ANY]
        if seen is not None and seen.startswith(answers.ETAG):
            headers.append((b"If-None-Match", seen.removeprefix(answers.ETAG).encode("ascii")))
        elif seen is not None:
            headers.append((b"If-Modified-Since", seen.removeprefix(_DATE).encode("ascii")))
        async with self._http.send("GET", self._target, headers) as answer:
            head = answer.head
            if head.status_code == 304 and seen is not None:
                return None
            if head.status_code != 200:
                raise answers.failure(head, answer.where, conditional=False)
            self.public = bool(head.extensions.get(PUBLIC, False))
            if head.headers.get("content-encoding", "").strip().lower() not in _PACKED:
                answers.refuse_encoded(head.headers, answer.where)
            part = HttpPart(
                head,
                answers.whole(head.headers),
                Entry("", Kind.FILE),
                ranges=False,
                digest=None,
                where=answer.where,
                deadline=self._http.deadline,
            )
            self._begun = _Begun(_temporary(), _seen(head.headers), total=part.size)
            return await self._received(self._begun, part)

    async def _resumed(self, begun: _Begun) -> Copy:
        if begun.size and begun.size == begun.total:
            return self._complete(begun)
        files = Files(self._http)
        async with files.open_part(self._target, "", begun.size, validator=begun.etag) as part:
            if part.start != begun.size:
                begun.file.seek(0)
                begun.file.truncate()
                begun.size = 0
            return await self._received(begun, part)

    async def _received(self, begun: _Begun, part: HttpPart) -> Copy:
        gathered: list[Chunk] = []
        size = 0
        try:
            async for chunk in part:
                gathered.append(chunk)
                size += len(chunk)
                if begun.size + size > MOST_BYTES:
                    raise ProtocolError(f"{self._where}: the manifest has more than {MOST_BYTES >> 30} GiB")
                if size >= GATHERED:
                    gathered, size, ready = [], 0, gathered
                    await self._store(begun, ready)
        except Transient:
            await self._store(begun, gathered)
            raise
        await self._store(begun, gathered)
        return self._complete(begun)

    async def _store(self, begun: _Begun, chunks: list[Chunk]) -> None:
        try:
            await trio.to_thread.run_sync(begun.file.writelines, chunks)
        except OSError as exc:
            raise SetupError(
                f"there is no room for a copy of the manifest ({exc}): make some, or set TMPDIR"
            ) from exc
        begun.size += sum(map(len, chunks))
        progressed()

    def _complete(self, begun: _Begun) -> Copy:
        self._begun = None
        begun.file.seek(0)
        return Copy(lambda: begun.file, begun.seen)


def _seen(headers: httpx.Headers) -> str | None:
    if (etag := answers.validator(headers)) is not None:
        return etag
    date = headers.get("last-modified")
    return (
        _DATE + date
        if date is not None and date.isascii() and answers.modified(headers) is not None
        else None
    )


def _temporary() -> BinaryIO:
    """A file without a name, on a disk rather than in memory, which ``/tmp`` often is."""
    folder = os.environ.get("TMPDIR")
    if folder is None and os.access("/var/tmp", os.W_OK):  # noqa: S108 - the file has no name there
        folder = "/var/tmp"  # noqa: S108 - as above
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError as exc:
        raise SetupError(
            f"there is no room for a copy of the manifest ({exc}): make some, or set TMPDIR"
        ) from exc
