"""The files that rows name: on any number of hosts, or of this machine.

What a row says goes before what a server says. A digest in it is the file's version and its promise: every
answer has to be of the size that is stated, and all bytes together have to have the digest. Of what version a
single part is, only the server's ETag can tell, so the first one that is seen of a file is insisted upon.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import httpx

from cache import Entry
from cache.digests import Digest
from mirror.errors import IsAFolder, NotAFolder, ProtocolError, VersionChanged
from mirror.http import answers
from mirror.http.auth import Auth, Headers
from mirror.http.exchange import Client, Exchanger
from mirror.http.files import Dialect, Files
from mirror.http.parts import HttpPart
from mirror.remotes.base import Part
from mirror.remotes.file.jobs import Job, Threads
from mirror.remotes.file.part import FilePart, first
from mirror.remotes.file.reading import file_entry, look_at, open_path, pieces
from mirror.remotes.manifest.rows import Row

T = TypeVar("T")

ORIGINS = 256
"""Hosts that are remembered with their credentials; others are looked up again."""
ETAGS = 4096
"""Files whose ETag is remembered."""


class OtherThanSaidError(ProtocolError):
    """What is at a URL is not what the manifest says."""


class RowDialect(Dialect):
    """How an origin speaks of a file of which a row says more or less."""

    def __init__(self, row: Row, insisted: str | None) -> None:
        """``insisted``: the ETag that answers have to have, with its quotes; None: any."""
        self._row = row
        self._etag = insisted
        self.seen: str | None = None
        """The strong ETag of the last answer."""

    def validator(self, headers: httpx.Headers) -> str | None:
        """What the row says, else what the answer does."""
        said = super().validator(headers)
        self.seen = said
        return self._row.validator or said

    def condition(self, validator: str, *, ranged: bool) -> Headers:
        """Ask for the ETag that is known; a digest is nothing that a server could be asked for."""
        if self._etag is not None:
            return super().condition(answers.ETAG + self._etag, ranged=ranged)
        return [] if self._row.validator is not None else super().condition(validator, ranged=ranged)

    def check_version(self, headers: httpx.Headers, expected: str, where: object) -> None:
        """Hold the answer's ETag against the one that is known."""
        if self._row.validator is None:
            super().check_version(headers, expected, where)
        elif self._etag is not None and (said := super().validator(headers)) is not None:
            answers.check_version(said, answers.ETAG + self._etag, where, stated=True)

    def digest(self, status: int, headers: httpx.Headers, where: object) -> Digest | None:
        """What the row promises, else what the answer does."""
        return self._row.digest or super().digest(status, headers, where)


class RowFiles:
    """Asks for what rows name."""

    def __init__(
        self,
        client: Client,
        threads: Threads,
        auth: Callable[[httpx.URL], Auth | None],
        public: Callable[[], bool],
    ) -> None:
        """Ask through ``client`` or ``threads``, showing each host what ``auth`` says.

        ``public``: whether the list came from the Internet, and may name nothing that only we can reach.
        """
        self._public = public
        self._client = client
        self._threads = threads
        self._auth = auth
        self._origins: OrderedDict[str, Exchanger] = OrderedDict()
        self._etags: OrderedDict[str, tuple[str | None, str]] = OrderedDict()

    async def stat(self, row: Row) -> Entry:
        """Ask about one file. Raises as `mirror.remotes.base.Remote.stat`, and `OtherThanSaidError`."""
        if row.place.startswith("file:"):
            path = _path(row)
            seen = await self._threads.run(partial(look_at, path, row.name), path)
        else:
            http, target = self._target(row)
            with_row = Files(http, RowDialect(row, row.etag))
            seen = await self._no_folder(with_row.stat(target, row.name), row)
        self._check_size(row, seen.size)
        return _joined(row, seen)

    @asynccontextmanager
    async def open_part(
        self, row: Row, start: int, stop: int | None, validator: str | None
    ) -> AsyncIterator[Part]:
        """Request bytes. Raises as `mirror.remotes.base.Remote.open_part`, and `OtherThanSaidError`."""
        if row.place.startswith("file:"):
            path = _path(row)
            wanted = validator if row.validator is None else None
            work = pieces(partial(open_path, path), path, start, stop, wanted, exact=True)
            with Job(work, self._threads, path) as job:
                head = await first(job, path)
                self._check_size(row, head.status.st_size)
                yield FilePart(
                    head, _joined(row, file_entry(row.name, head.status, exact=True)), job, row.digest
                )
            return
        async with self._http_part(row, start, stop, validator) as part:
            yield part

    @asynccontextmanager
    async def _http_part(
        self, row: Row, start: int, stop: int | None, validator: str | None
    ) -> AsyncIterator[HttpPart]:
        http, target = self._target(row)
        insisted = row.etag or self._known_etag(row)
        dialect = RowDialect(row, insisted)
        # A version that only the manifest knows is asked for as well: then the ETag is insisted upon.
        asked = Files(http, dialect).open_part(
            target, row.name, start, stop, validator=validator if row.validator is None else row.validator
        )
        async with AsyncExitStack() as stack:
            try:
                part = await self._no_folder(stack.enter_async_context(asked), row)
            except VersionChanged as exc:
                self._etags.pop(row.path, None)
                if row.etag is not None or (row.validator is not None and insisted is None):
                    raise OtherThanSaidError(f"{exc}, which is not the one in the manifest") from exc
                raise
            self._check_size(row, part.size)
            if dialect.seen is not None and row.validator is not None and row.etag is None:
                self._remember_etag(row, dialect.seen.removeprefix(answers.ETAG))
            part.entry = _joined(row, part.entry)
            yield part

    def _known_etag(self, row: Row) -> str | None:
        validator, etag = self._etags.get(row.path, (None, ""))
        return etag if validator is not None and validator == row.validator else None

    def _remember_etag(self, row: Row, etag: str) -> None:
        self._etags[row.path] = (row.validator, etag)
        self._etags.move_to_end(row.path)
        if len(self._etags) > ETAGS:
            self._etags.popitem(last=False)

    def _target(self, row: Row) -> tuple[Exchanger, str]:
        """Who asks the host of a row, and for what."""
        slash = row.place.index("/", len("https://"))
        origin, folder = row.place[:slash], row.place[slash:]
        http = self._origins.get(origin)
        if http is None:
            url = httpx.URL(origin)
            http = self._origins[origin] = Exchanger(self._client, url, self._auth(url))
            if len(self._origins) > ORIGINS:
                self._origins.popitem(last=False)
        http.public_only = self._public() and not self._client.private
        return http, folder + row.rest

    @staticmethod
    async def _no_folder(asked: Awaitable[T], row: Row) -> T:
        try:
            return await asked
        except (IsAFolder, NotAFolder) as exc:
            raise OtherThanSaidError(f"{row.path}: its URL is that of a folder") from exc

    @staticmethod
    def _check_size(row: Row, size: int | None) -> None:
        if None not in (row.size, size) and row.size != size:
            raise OtherThanSaidError(
                f"{row.path}: {row.size} bytes by the manifest, and {size} by the server it names"
            )


def _joined(row: Row, seen: Entry) -> Entry:
    """What the row says, and where it says nothing, what the answer does."""
    if row.validator is not None:
        said = row.entry()
        return said if said.size is not None else replace(said, size=seen.size)
    if row.mtime_ns is not None:
        return replace(seen, mtime_ns=row.mtime_ns, mtime_resolution_ns=row.resolution_ns)
    return seen


def _path(row: Row) -> str:
    return os.fsdecode(unquote_to_bytes(row.place.removeprefix("file://") + row.rest))
