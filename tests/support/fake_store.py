"""An object store in memory: a `FakeRemote` that scans, and one that lists folders by pages as well."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import trio

from cache import Entry, Kind
from mirror.errors import AccessDenied, MirrorError
from mirror.remotes.base import Listing, NotModified, Page
from tests.support.fake_remote import FakeRemote, Source


@dataclass
class Store(FakeRemote):
    """A source in memory that scans; pages are short, so that everything takes several."""

    page: int = 3
    at_page: Callable[[str, int], None] = lambda under, number: None
    """Called before each page: it may raise, or change the store."""
    shuffled: bool = False
    """Pages in another order than that of the keys."""
    scans: list[tuple[str, str | None]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    """Paths of folders that exist by themselves, though nothing may be in them."""
    refused: set[str] = field(default_factory=set)
    """Folders that may not be listed."""

    def put(self, *paths: str, data: bytes = b"data") -> None:
        for path in paths:
            self.files[path] = Source(data)

    async def list(self, path: str, validator: str | None = None) -> Listing | NotModified:
        if path in self.refused:
            raise AccessDenied("403")
        try:
            listing = await super().list(path, validator)
        except MirrorError:
            if path not in self.folders or self.fault is not None:
                raise
            listing = Listing([])
        assert isinstance(listing, Listing)
        both = {name.split("/")[-1] for name in self.files if name.rpartition("/")[0] == path}
        more = [Entry(name, Kind.FILE, 4) for name in both - {entry.name for entry in listing.entries}]
        empty = [
            Entry(each.split("/")[-1], Kind.FOLDER)
            for each in self.folders
            if each.rpartition("/")[0] == path
        ]
        return Listing([*listing.entries, *more, *empty])

    async def scan(self, under: str = "", cursor: str | None = None) -> AsyncIterator[Page]:
        self.scans.append((under, cursor))
        number = int(cursor or 0)
        while True:
            await trio.lowlevel.checkpoint()
            if self.fault is not None:
                raise self.fault
            self.at_page(under, number)
            prefix = f"{under}/" if under else ""
            found = [
                *((path, Kind.FILE) for path in self.files if path.startswith(prefix)),
                *((path, Kind.FOLDER) for path in self.folders if path.startswith(prefix)),
            ]
            found.sort(reverse=self.shuffled)
            rows = [
                (
                    path,
                    Entry(
                        path.split("/")[-1], kind, len(self.files[path].data) if kind is Kind.FILE else None
                    ),
                )
                for path, kind in found[number : number + self.page]
            ]
            number += self.page
            cursor = str(number) if number < len(found) else None
            yield Page(rows, cursor)
            if cursor is None:
                return


@dataclass
class PagedStore(Store):
    """One that lists folders page by page as well."""

    async def pages(self, path: str, cursor: str | None = None) -> AsyncIterator[Page]:
        listing = await self.list(path)
        assert isinstance(listing, Listing)
        number = int(cursor or 0)
        prefix = f"{path}/" if path else ""
        while True:
            rows = listing.entries[number : number + self.page]
            number += self.page
            cursor = str(number) if number < len(listing.entries) else None
            yield Page([(prefix + entry.name, entry) for entry in rows], cursor)
            if cursor is None:
                return
