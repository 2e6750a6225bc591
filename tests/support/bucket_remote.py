"""A kind of source over `tests.support.bucket`: a remote that scans, as those of object stores do.

``bucket://127.0.0.1:PORT/``; `python -m tests.support.bucket_remote …` is `mirror …` with this kind.
"""

from __future__ import annotations

import os
import resource
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx

from cache import Entry, Kind
from mirror.errors import NotFound, Transient
from mirror.remotes import KINDS, How, SourceKind
from mirror.remotes.base import Listing, NotModified, Page, Part
from mirror.remotes.options import Option, Options

OPTIONS: Sequence[Option] = ()
PEAK = "MIRROR_TEST_PEAK"
"""Environment: a file that is told the most memory the command took, in bytes."""
_NS = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def canonical(source: str) -> str:
    """As it is."""
    return source


def key(url: str, options: Options) -> str:
    """As it is."""
    return url


class BucketRemote:
    """Lists and scans; has no bytes."""

    def __init__(self, url: str, how: How) -> None:
        self.url = url
        self.requests = 0
        limits = httpx.Limits(max_connections=64)
        self._http = httpx.AsyncClient(limits=limits, timeout=how.deadline, trust_env=False)
        self._base = url.replace("bucket://", "http://")

    async def _page(self, **query: str) -> tuple[list[tuple[str, Entry]], list[str], str | None]:
        self.requests += 1
        try:
            answer = await self._http.get(self._base, params={"list-type": "2", **query})
        except httpx.TransportError as exc:
            raise Transient(f"{self.url}: {exc!r}") from exc
        if answer.status_code >= 500:
            raise Transient(f"{self.url}: {answer.status_code}")
        root = ET.fromstring(answer.content)
        files = []
        for each in root.iter(f"{_NS}Contents"):
            path, modified, etag, size = (child.text or "" for child in list(each)[:4])
            files.append((path, _entry(path.rpartition("/")[2], int(size), modified, etag)))
        prefixes = [each[0].text or "" for each in root.iter(f"{_NS}CommonPrefixes")]
        return files, prefixes, root.findtext(f"{_NS}NextContinuationToken")

    async def list(self, path: str, validator: str | None = None) -> Listing | NotModified:
        """One folder."""
        entries: list[Entry] = []
        async for page in self.pages(path):
            entries += [entry for _, entry in page.files]
        return Listing(entries)

    async def pages(self, path: str, cursor: str | None = None) -> AsyncIterator[Page]:
        """One folder, page by page."""
        prefix = f"{path}/" if path else ""
        first = cursor is None
        while True:
            more = {} if cursor is None else {"continuation-token": cursor}
            files, prefixes, cursor = await self._page(prefix=prefix, delimiter="/", **more)
            if path and first and not files and not prefixes:
                raise NotFound(path)
            first = False
            folders = [(each[:-1], Entry(each[:-1].rpartition("/")[2], Kind.FOLDER)) for each in prefixes]
            yield Page([*files, *folders], cursor)
            if cursor is None:
                return

    async def scan(self, under: str = "", cursor: str | None = None) -> AsyncIterator[Page]:
        """All below a folder."""
        prefix = f"{under}/" if under else ""
        while True:
            more = {} if cursor is None else {"continuation-token": cursor}
            files, _, cursor = await self._page(prefix=prefix, **more)
            yield Page(files, cursor)
            if cursor is None:
                return

    async def stat(self, path: str) -> Entry:
        """From its listing."""
        files, _, _ = await self._page(prefix=path)
        for found, entry in files:
            if found == path:
                return entry
        raise NotFound(path)

    def open_part(
        self, path: str, start: int = 0, stop: int | None = None, *, validator: str | None = None
    ) -> AbstractAsyncContextManager[Part]:
        """There are no bytes."""
        raise NotFound(path)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


_TIMES: dict[str, int] = {}


def _entry(name: str, size: int, modified: str, etag: str) -> Entry:
    when = _TIMES.get(modified)
    if when is None:
        when = _TIMES[modified] = int(datetime.fromisoformat(modified).timestamp()) * 1_000_000_000
    return Entry(name, Kind.FILE, size, when, validator=f"etag:{etag}")


def open_remote(url: str, how: How) -> BucketRemote:
    """The remote of a bucket."""
    return BucketRemote(url, how)


def main() -> None:
    """Run `mirror`; in the end say what memory it took (`PEAK`)."""
    from mirror.cli.main import main as mirror

    KINDS["bucket"] = SourceKind("bucket://HOST:PORT/", "tests.support.bucket_remote")
    try:
        mirror()
    finally:
        if path := os.environ.get(PEAK):
            Path(path).write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


if __name__ == "__main__":
    main()
