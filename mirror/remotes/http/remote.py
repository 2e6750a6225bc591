"""The HTTP remote: folders are listing pages, files are GETs that are checked before they are believed.

A source that ends with a slash is a folder. Of any other the server is asked once: one that redirects
to the same path with a slash serves a folder there; else the source is that one file, and its tree is
a folder with this one entry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from posixpath import basename
from typing import TypeAlias

import httpx
import trio

from mirror import heap
from mirror.errors import IsAFolder, NotAFolder, NotFound, ProtocolError, Transient
from mirror.http import answers
from mirror.http.auth import Auth, Headers
from mirror.http.connection import DELIMITED
from mirror.http.exchange import Client, Exchanger
from mirror.http.files import ANY, AskedFile, Files
from mirror.http.parts import HttpPart, read_whole
from mirror.remotes import listings
from mirror.remotes.base import Entry, Listing, NotModified
from mirror.remotes.http.clocks import ListedTimes
from mirror.remotes.names import decode, to_url

MAX_PAGE = 16 * 1024 * 1024
"""Most bytes of a listing page: 100,000 entries (`rows.MOST_ENTRIES`) of 160 bytes."""

BIG_PAGE = 256 * 1024
"""Pages from this size on are parsed in a thread: parsing takes 50 ms for each MiB."""

Entries: TypeAlias = "list[Entry]"

_ACCEPT: Headers = [(b"Accept", listings.ACCEPT.encode("ascii"))]


class HttpRemote:
    """One http or https source. See `mirror.remotes.base.Remote`."""

    def __init__(self, url: str, client: Client, auth: Auth | None = None) -> None:
        """Prepare; nothing is sent before the first question.

        Args:
            url: the source in canonical form.
            client: connections, which end with this remote.
            auth: who asks.
        """
        self._canonical = url
        parsed = httpx.URL(url)
        self._path = parsed.raw_path.decode("ascii")
        self._client = client
        self._http = Exchanger(client, parsed, auth)
        self._files = Files(self._http)
        # None until the server was asked what a source without a slash is.
        self._shape: _Folder | _File | None = _Folder(self._path[:-1]) if url.endswith("/") else None
        self._times = ListedTimes()

    @property
    def url(self) -> str:
        """The source in canonical form: the key of everything cached from it."""
        return self._canonical

    @property
    def requests(self) -> int:
        """Requests sent so far, redirected ones included."""
        return self._client.requests

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    # -- folders -----------------------------------------------------------------------------

    async def list(self, path: str, validator: str | None = None) -> Listing | NotModified:
        """List one folder. See `mirror.remotes.base.Remote.list`."""
        shape = await self._known_shape()
        if isinstance(shape, _File):
            return await self._list_file(shape, path)
        target = f"{shape.target(path)}/"
        headers = [*_ACCEPT]
        if validator is not None:
            headers.append((b"If-None-Match", validator.removeprefix(answers.ETAG).encode("ascii")))
        async with self._http.send("GET", target, headers) as answer:
            response = answer.head
            if response.status_code == 304 and validator is not None:
                return NotModified()
            if response.status_code != 200:
                raise answers.failure(response, answer.where, conditional=False)
            page = await self._page(response, answer.where)
            content_type = response.headers.get("content-type", "")
            seen = answers.strong_etag(response.headers)
        parse = partial(_parsed, page, content_type, str(answer.where.url))
        if len(page) < BIG_PAGE:
            entries, why = parse()
        else:
            # Before it takes more, and after: what was used for something else is of no use here.
            await trio.to_thread.run_sync(heap.give_back)
            entries, why = await trio.to_thread.run_sync(parse)
            await trio.to_thread.run_sync(heap.give_back)
        if entries is None:
            del page, parse  # as there
            raise ProtocolError(f"{answer.where}: the answer is no listing of a folder: {why}")
        entries = await self._times.checked(entries, partial(self._stat_in, path))
        return Listing(entries, seen)

    async def _page(self, response: httpx.Response, where: object) -> bytes:
        answers.refuse_encoded(response.headers, where)
        content_type = response.headers.get("content-type", "")
        if not listings.readable(content_type):
            # Not read at all: it may be a file of any size.
            raise ProtocolError(f"{where}: the answer is no listing of a folder: it is {content_type!a}")
        page = await read_whole(response, where, self._http.deadline, MAX_PAGE)
        if not response.extensions.get(DELIMITED, True) and b"</html" not in page[-4096:].lower():
            raise Transient(f"{where}: the page was cut short")
        return page

    async def _list_file(self, file: _File, path: str) -> Listing:
        if path:
            raise (NotAFolder if path == file.name else NotFound)(
                f"{self._canonical} is one file: there is no folder {path!a}"
            )
        return Listing([await self.stat(file.name)])

    async def _stat_in(self, folder: str, name: str) -> Entry:
        return await self.stat(f"{folder}/{name}" if folder else name)

    # -- files -------------------------------------------------------------------------------

    async def stat(self, path: str) -> Entry:
        """Ask for one file's size, mtime and validator. See `mirror.remotes.base.Remote.stat`."""
        return await self._files.stat(self._target(await self._known_shape(), path), basename(path))

    def open_part(
        self, path: str, start: int = 0, stop: int | None = None, *, validator: str | None = None
    ) -> AbstractAsyncContextManager[HttpPart]:
        """Request bytes of a file. See `mirror.remotes.base.Remote.open_part`."""
        if self._shape is None:
            return self._find_and_open(path, start, stop, validator)
        target = self._target(self._shape, path)
        return self._files.open_part(target, basename(path), start, stop, validator=validator)

    async def begin(
        self, path: str, validator: str | None, told: Callable[[AskedFile], None]
    ) -> AskedFile | None:
        """Request a file with nobody waiting for it. See `mirror.remotes.base.Bulk.begin`."""
        if self._shape is None:
            return None
        return await self._files.begin(self._target(self._shape, path), basename(path), validator, told)

    @asynccontextmanager
    async def _find_and_open(
        self, path: str, start: int, stop: int | None, validator: str | None
    ) -> AsyncIterator[HttpPart]:
        await self._known_shape()
        async with self.open_part(path, start, stop, validator=validator) as part:
            yield part

    def address(self, path: str) -> str | None:
        """See `mirror.remotes.base.Addressed.address`; None also while nobody knows what the source is."""
        if self._shape is None:
            return None
        target = self._shape.target(path) if isinstance(self._shape, _Folder) else self._path
        return str(httpx.URL(self._canonical).copy_with(raw_path=target.encode("ascii")))

    # -- where things are --------------------------------------------------------------------

    async def _known_shape(self) -> _Folder | _File:
        """What the source is; asks the server, once, where the URL leaves it open."""
        if self._shape is None:
            try:
                async with self._http.send("HEAD", self._path, ANY) as answer:
                    if answer.head.status_code not in (200, 405, 501):
                        raise answers.failure(answer.head, answer.where, conditional=False)
                self._shape = _File(decode(basename(self._path)))
            except IsAFolder:
                self._shape = _Folder(self._path)
        return self._shape

    def _target(self, shape: _Folder | _File, path: str) -> str:
        if not path:
            raise IsAFolder(f"{self._canonical} is a folder")
        if isinstance(shape, _Folder):
            return shape.target(path)
        if path == shape.name:
            return self._path
        raise (NotAFolder if path.startswith(f"{shape.name}/") else NotFound)(
            f"{self._canonical} is one file: there is no {path!a}"
        )


def _parsed(page: bytes, content_type: str, url: str) -> tuple[Entries | None, str]:
    """Return the entries of a page, or why it is no listing.

    Not as an error, for whoever keeps an error keeps its frames, and all that is in them.
    """
    try:
        return listings.parse(page, content_type, url), ""
    except listings.NotAListingError as exc:
        return None, str(exc)


@dataclass(frozen=True, slots=True)
class _Folder:
    """A source that is a tree."""

    base: str
    """Its quoted path, without the slash at the end."""

    def target(self, path: str) -> str:
        return f"{self.base}/{to_url(path)}" if path else self.base


@dataclass(frozen=True, slots=True)
class _File:
    """A source that is one file."""

    name: str
