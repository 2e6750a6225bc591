"""The remote of an object store: a tree made of the names of objects.

A source that ends with a slash is a folder. Of any other the store is asked once whether it is an
object: then its tree is a folder with this one file. The folder of a source has to be there, for
a misspelt prefix looks like an empty folder to a store; but a bucket may be empty.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from posixpath import basename
from types import TracebackType
from typing import NoReturn

from mirror.errors import IsAFolder, MirrorError, NotAFolder, NotFound, VersionChanged
from mirror.http.begun import Begun
from mirror.http.exchange import Client
from mirror.http.files import AskedFile
from mirror.remotes.base import Entry, Listing, NotModified, Page, Part
from mirror.remotes.following import Following
from mirror.remotes.objects import keys
from mirror.remotes.objects.place import Place
from mirror.remotes.objects.store import Store


class ObjectRemote:
    """One source in an object store. See `mirror.remotes.base.Remote`, and `mirror.remotes.base.Scanner`."""

    def __init__(self, url: str, place: Place, store: Store, client: Client) -> None:
        """Prepare; nothing is sent before the first question.

        Args:
            url: what everything is cached under.
            place: where the source is in the store.
            store: the bucket or container.
            client: the connections of the store, which end with this remote.
        """
        self._url = url
        self._shown = url.partition("?")[0]
        self._prefix = place.prefix
        self._store = store
        self._client = client
        # What is put before a path. None until the store was asked what a source without a slash is.
        self._base: str | None = None
        self._file: str | None = None
        if place.folder:
            self._base = f"{place.prefix}/" if place.prefix else ""

    @property
    def url(self) -> str:
        """The source in canonical form: the key of everything cached from it."""
        return self._url

    @property
    def requests(self) -> int:
        """Requests sent so far, redirected ones included."""
        return self._client.requests

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    # -- folders -----------------------------------------------------------------------------

    async def list(self, path: str, validator: str | None = None) -> Listing | NotModified:
        """List one folder. See `mirror.remotes.base.Remote.list`; no store lists on a condition."""
        del validator
        base = await self._known_base()
        if self._file is not None:
            if path:
                self._refuse(path, folder=True)
            return Listing([await self.stat(self._file)])
        prefix = f"{base}{path}/" if path else base
        folder = keys.Folder(prefix, self._where(path))
        async for page in self._pages(prefix, path):
            folder.add(page)
        if not folder.there and prefix:
            await self._check_empty(prefix.removesuffix("/"), self._where(path))
        return Listing(folder.entries())

    async def pages(self, path: str, cursor: str | None = None) -> AsyncIterator[Page]:
        """List one folder page by page. See `mirror.remotes.base.Pager`."""
        base = await self._known_base()
        if self._file is not None:
            listing = await self.list(path)
            assert isinstance(listing, Listing)
            yield Page([(entry.name, entry) for entry in listing.entries], None)
            return
        below = f"{path}/" if path else ""
        prefix = base + below
        there = cursor is not None or not prefix
        async for page in self._pages(prefix, path, cursor):
            folder = keys.Folder(prefix, self._where(path))
            folder.add(page)
            there = there or folder.there
            if page.cursor is None and not there:
                await self._check_empty(prefix.removesuffix("/"), self._where(path))
            yield Page([(below + entry.name, entry) for entry in folder.entries()], page.cursor)

    async def _check_empty(self, key: str, where: str) -> None:
        """See whether a folder with nothing in it is there: an object may stand for it."""
        try:
            await self._store.head(key, basename(key))
        except IsAFolder:
            return
        except NotFound as exc:
            raise NotFound(f"{where}: there is nothing of that name") from exc
        raise NotAFolder(f"{where} is a file")

    async def scan(self, under: str = "", cursor: str | None = None) -> AsyncIterator[Page]:
        """Every file below a folder. See `mirror.remotes.base.Scanner`.

        Of an object beside a folder of the same name both are told here, for one may come pages later.
        """
        base = await self._known_base()
        if self._file is not None:
            yield Page([(self._file, await self.stat(self._file))] if not under else (), None)
            return
        prefix = f"{base}{under}/" if under else base
        async for page in self._pages(prefix, under, after=cursor, folder=False):
            # Without a name on the page there is nothing that a lasting cursor could be made of.
            if page.objects or page.cursor is None:
                found = keys.below(page, base, prefix, self._where(under))
                yield Page(found, self._store.scan_cursor(page))

    def _pages(
        self,
        prefix: str,
        path: str,
        cursor: str | None = None,
        *,
        after: str | None = None,
        folder: bool = True,
    ) -> Following[keys.Keys]:
        def ask(cursor: str | None) -> Awaitable[keys.Keys]:
            begin = after if cursor is None else None
            return self._store.page(prefix, folder=folder, cursor=cursor, after=begin)

        return Following(ask, cursor, self._where(path))

    # -- files -------------------------------------------------------------------------------

    async def stat(self, path: str) -> Entry:
        """Ask for one file's size, mtime and validator. See `mirror.remotes.base.Remote.stat`."""
        key = await self._key(path)
        try:
            return await self._store.head(key, basename(path))
        except NotFound as exc:
            raise await self._absent(key, None, exc) from exc

    def open_part(
        self, path: str, start: int = 0, stop: int | None = None, *, validator: str | None = None
    ) -> AbstractAsyncContextManager[Part]:
        """Request bytes of a file. See `mirror.remotes.base.Remote.open_part`."""
        return _Opening(self, path, start, stop, validator)

    async def begin(
        self, path: str, validator: str | None, told: Callable[[AskedFile], None]
    ) -> AskedFile | None:
        """Request a file with nobody waiting for it. See `mirror.remotes.base.Bulk.begin`."""
        if self._base is None:
            return None
        opening = partial(_Opening, self, path, 0, None, validator)
        return await self._store.begin(await self._key(path), basename(path), validator, told, opening)

    async def _absent(self, key: str, version: str | None, absent: NotFound) -> MirrorError:
        """What it means that there is no such object: it may be a folder, or no such ``version``."""
        if version is not None:
            try:
                await self._store.head(key, basename(key))
            except (NotFound, IsAFolder):
                pass
            else:
                return VersionChanged(f"{self._shown}: there is another version of {key!a} now")
        page = await self._store.page(f"{key}/", folder=True, most=1)
        if page.objects or page.prefixes:
            return IsAFolder(f"{self._shown}: {key!a} is a folder")
        return absent

    # -- where things are --------------------------------------------------------------------

    async def _known_base(self) -> str:
        """What is put before a path; asks the store, once, where the source leaves it open."""
        if self._base is None:
            try:
                await self._store.head(self._prefix, basename(self._prefix))
            except (NotFound, IsAFolder):
                self._base = f"{self._prefix}/"
            else:
                self._file = basename(self._prefix)
                self._base = self._prefix.removesuffix(self._file)
        return self._base

    async def _key(self, path: str) -> str:
        base = self._base
        if base is None:
            base = await self._known_base()
        if not path:
            raise IsAFolder(f"{self._shown} is a folder")
        if self._file is not None and path != self._file:
            self._refuse(path)
        return base + path

    def _refuse(self, path: str, *, folder: bool = False) -> NoReturn:
        file = path == self._file and folder
        below = path.startswith(f"{self._file}/")
        raise (NotAFolder if file or below else NotFound)(f"{self._shown} is one file: there is no {path!a}")

    def _where(self, path: str) -> str:
        return f"{self._shown.rstrip('/')}/{path}" if path else self._shown


class _Opening:
    """An `ObjectRemote.open_part`; a class, for the generators of `contextlib` cost more than it does."""

    __slots__ = ("_asked", "_path", "_remote", "_under_way")

    def __init__(
        self,
        remote: ObjectRemote,
        path: str,
        start: int,
        stop: int | None,
        validator: str | None,
        begun: Begun | None = None,
    ) -> None:
        self._remote = remote
        self._path = path
        self._asked = (start, stop, validator, begun)
        self._under_way: AbstractAsyncContextManager[Part] | None = None

    async def __aenter__(self) -> Part:
        remote = self._remote
        key = await remote._key(self._path)  # noqa: SLF001 - one class in two
        opening = remote._store.open(key, basename(self._path), *self._asked)  # noqa: SLF001
        try:
            part = await opening.__aenter__()
        except NotFound as exc:
            raise await remote._absent(key, self._asked[2], exc) from exc  # noqa: SLF001
        self._under_way = opening
        return part

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._under_way is not None, "it was entered"
        return await self._under_way.__aexit__(kind, exc, traceback)
