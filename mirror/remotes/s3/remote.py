"""The S3 remote: folders are prefixes of keys, files are objects.

A version is an object's ETag: listings state it as well as answers, and If-Match asks for it. Where a
bucket keeps versions, the id that came with the first part is remembered, so that when the object is
replaced meanwhile the rest of the old version can still be had.

A source without a slash at its end is asked about once: a folder when there are keys below it, else a
file. Its tree is then a folder with that one entry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from posixpath import basename
from urllib.parse import quote

from mirror.errors import (
    AccessDenied,
    IsAFolder,
    MirrorError,
    NotAFolder,
    NotFound,
    VersionChanged,
)
from mirror.http.begun import Begun
from mirror.http.files import AskedFile
from mirror.http.parts import HttpPart
from mirror.remotes.base import Entry, Listing, NotModified, Page
from mirror.remotes.following import Following
from mirror.remotes.how import How
from mirror.remotes.s3.bucket import Bucket, Question, Way
from mirror.remotes.s3.errors import Unexplained
from mirror.remotes.s3.folders import Folder
from mirror.remotes.s3.listing import Found
from mirror.remotes.s3.scanning import Scan
from mirror.remotes.s3.url import named, parts

VERSIONS_KEPT = 1024
"""Version ids that are remembered: of files of which parts were asked for."""


@dataclass(frozen=True, slots=True)
class _Folder:
    """A source that is a tree."""

    prefix: str
    """Of its keys: ends with a slash, or is empty."""


@dataclass(frozen=True, slots=True)
class _File:
    """A source that is one object."""

    key: str
    name: str


class S3Remote:
    """One s3 source. See `mirror.remotes.base.Remote` and `Scanner`."""

    def __init__(self, url: str, how: How) -> None:
        """Prepare; nothing is sent before the first question.

        Args:
            url: the source in canonical form, without a query.
            how: options and limits.

        Raises:
            UsageError: an option makes no sense.
            SetupError: AWS's files cannot be read.
        """
        source = parts(url)
        self._bucket = Bucket(source.bucket, how)
        self._url = named(url, self._bucket.endpoint)
        self._shown = url.rstrip("/")
        self._source = source
        self._shape: _Folder | _File | None = None
        if source.folder:
            self._shape = _Folder(source.prefix and f"{source.prefix}/")
        self._versions: dict[tuple[str, str], str] = {}

    @property
    def url(self) -> str:
        """The source in canonical form, and its endpoint: the key of everything cached from it."""
        return self._url

    @property
    def requests(self) -> int:
        """Requests sent so far, repeated ones included; those for credentials are not."""
        return self._bucket.client.requests

    async def aclose(self) -> None:
        """Close all connections."""
        await self._bucket.client.aclose()

    # -- folders -----------------------------------------------------------------------------

    async def list(self, path: str, validator: str | None = None) -> Listing | NotModified:
        """List one folder. See `mirror.remotes.base.Remote.list`."""
        del validator  # no listing of S3 has one
        shape = await self._known_shape()
        if isinstance(shape, _File):
            if path:
                raise (NotAFolder if path == shape.name else NotFound)(
                    f"{self._shown} is one file: there is no folder {path!a}"
                )
            return Listing([await self.stat(shape.name)])
        prefix = shape.prefix + (f"{path}/" if path else "")
        folder = Folder(prefix, self._where(path))
        async for page in self._pages({"prefix": prefix, "delimiter": "/"}, path):
            folder.add(page)
        if prefix and not folder.exists:
            raise NotFound(f"{self._where(path)}: there is no such folder")
        return Listing(folder.entries())

    async def pages(self, path: str, cursor: str | None = None) -> AsyncIterator[Page]:
        """List one folder page by page; the cursor is the bucket's own token.

        A name that is a file and a folder may come as both. See `mirror.remotes.base.Pager.pages`.
        """
        shape = await self._known_shape()
        if isinstance(shape, _File):
            listing = await self.list(path)
            assert isinstance(listing, Listing)
            yield Page([(found.name, found) for found in listing.entries], None)
            return
        below = f"{path}/" if path else ""
        prefix = shape.prefix + below
        exists = cursor is not None or not prefix
        async for page in self._pages({"prefix": prefix, "delimiter": "/"}, path, cursor):
            folder = Folder(prefix, self._where(path))
            folder.add(page)
            exists = exists or folder.exists
            if page.cursor is None and not exists:
                raise NotFound(f"{self._where(path)}: there is no such folder")
            yield Page([(below + found.name, found) for found in folder.entries()], page.cursor)

    async def scan(self, under: str = "", cursor: str | None = None) -> AsyncIterator[Page]:
        """Every file below a folder. See `mirror.remotes.base.Scanner.scan`."""
        shape = await self._known_shape()
        if isinstance(shape, _File):
            if not under:
                yield Page([(shape.name, await self.stat(shape.name))], None)
            return
        scan = Scan(shape.prefix, under and f"{under}/", self._where(under), cursor)
        async for page in self._pages({"prefix": scan.prefix}, under, after=scan.after):
            files = scan.add(page)
            # Behind a page without a key the cursor would be that of the one before.
            if page.keys or page.cursor is None:
                yield Page(files, None if page.cursor is None else scan.cursor())

    def _pages(
        self, query: dict[str, str], path: str, cursor: str | None = None, *, after: str | None = None
    ) -> Following[Found]:
        def ask(cursor: str | None) -> Awaitable[Found]:
            asked = dict(query)
            if cursor is not None:
                asked["continuation-token"] = cursor
            elif after is not None:
                asked["start-after"] = after
            return self._bucket.ask(lambda way: way.page(dict(asked)))

        return Following(ask, cursor, self._where(path))

    def _where(self, path: str) -> str:
        return f"{self._shown}/{path}" if path else self._shown

    # -- files -------------------------------------------------------------------------------

    async def stat(self, path: str) -> Entry:
        """Ask for one file's size, mtime and validator. See `mirror.remotes.base.Remote.stat`."""
        key = self._key(await self._known_shape(), path)
        try:
            return await self._bucket.ask(partial(_stat, key=key, name=basename(path)))
        except NotFound:
            await self._refuse_folder(path, key)
            raise

    @asynccontextmanager
    async def open_part(
        self,
        path: str,
        start: int = 0,
        stop: int | None = None,
        *,
        validator: str | None = None,
        begun: Begun | None = None,
    ) -> AsyncIterator[HttpPart]:
        """Request bytes of a file. See `mirror.remotes.base.Remote.open_part`.

        ``begun``: the request, where `begin` has sent it already.
        """
        key = self._key(self._shape or await self._known_shape(), path)
        question = Question(self._bucket)
        version = ""
        while True:
            way = await question.way()
            handed = False
            target, sent, begun = way.site.object(key) + version, begun, None
            try:
                async with way.files.open_part(
                    target, basename(path), start, stop, validator=validator, begun=sent
                ) as part:
                    handed = True
                    if start or stop is not None:
                        self._remember(key, part)
                    yield part
                    return
            except VersionChanged:
                kept = self._versions.pop((key, validator or ""), None)
                if handed or kept is None:
                    raise
                version = f"?versionId={quote(kept, safe='')}"
            except NotFound:
                if not handed:
                    await self._refuse_folder(path, key)
                raise
            except AccessDenied as exc:
                if handed or (not version and not await question.mend(exc)):
                    raise
                if version:
                    # Past versions take a permission of their own.
                    raise VersionChanged(f"{self._where(path)} has changed at the origin") from exc
            except MirrorError as exc:
                if handed or not await question.mend(exc):
                    raise

    async def begin(
        self, path: str, validator: str | None, told: Callable[[AskedFile], None]
    ) -> AskedFile | None:
        """Request a file with nobody waiting for it. See `mirror.remotes.base.Bulk.begin`."""
        if self._shape is None:
            return None

        def opening(begun: Begun) -> AbstractAsyncContextManager[HttpPart]:
            return self.open_part(path, validator=validator, begun=begun)

        way = await Question(self._bucket).way()
        target = way.site.object(self._key(self._shape, path))
        return await way.files.begin(target, basename(path), validator, told, opening=opening)

    def _remember(self, key: str, part: HttpPart) -> None:
        version, etag = part.headers.get("x-amz-version-id"), part.entry.validator
        if version is None or version == "null" or etag is None:
            return
        if len(self._versions) >= VERSIONS_KEPT:
            del self._versions[next(iter(self._versions))]
        self._versions[key, etag] = version

    async def _refuse_folder(self, path: str, key: str) -> None:
        """Raise `IsAFolder` where there are keys below one that is not there."""
        if await self._has_keys(f"{key}/"):
            raise IsAFolder(f"{self._where(path)} is a folder")

    # -- where things are --------------------------------------------------------------------

    async def _has_keys(self, prefix: str) -> bool:
        page = await self._bucket.ask(lambda way: way.page({"prefix": prefix, "max-keys": "1"}))
        return bool(page.keys)

    async def _known_shape(self) -> _Folder | _File:
        """What the source is; asks, once, where the URL leaves it open."""
        if self._shape is None:
            prefix = self._source.prefix
            file = _File(prefix, basename(prefix))
            try:
                folder = await self._has_keys(f"{prefix}/")
            except AccessDenied as exc:
                # Who may not list may still read: then the object itself tells.
                if not await self._readable(file):
                    raise exc from None
                folder = False
            else:
                if not folder:
                    await self._bucket.ask(partial(_stat, key=file.key, name=file.name))
            self._shape = _Folder(f"{prefix}/") if folder else file
        return self._shape

    async def _readable(self, file: _File) -> bool:
        try:
            await self._bucket.ask(partial(_stat, key=file.key, name=file.name))
        except (AccessDenied, NotFound):
            return False
        return True

    def _key(self, shape: _Folder | _File, path: str) -> str:
        if not path:
            raise IsAFolder(f"{self._shown} is a folder")
        if isinstance(shape, _Folder):
            return shape.prefix + path
        if path == shape.name:
            return shape.key
        raise (NotAFolder if path.startswith(f"{shape.name}/") else NotFound)(
            f"{self._shown} is one file: there is no {path!a}"
        )


async def _stat(way: Way, *, key: str, name: str) -> Entry:
    target = way.site.object(key)
    try:
        return await way.files.stat(target, name)
    except Unexplained:
        return await way.files.stat_by_get(target, name)
