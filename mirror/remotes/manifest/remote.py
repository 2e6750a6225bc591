"""The remote of a manifest: the list says what there is, the URLs in it are where the bytes come from.

The list has the last word. It is asked whether there is a newer one whenever a folder is listed, at most
once in `RECENT` seconds, for a walk lists folder after folder. A new list takes the place of the old one as a
whole, or not at all. While a list cannot be had, or a new one is malformed, files come from the one before.

That a server answers 404 for a URL, or has a file of another size, does not take a name away: the list
says that it is there. First the list is asked for again, as it may be the one that is out of date; then it is
an error. So are refused URLs: a signed one that has expired is replaced by what a newer list has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from posixpath import basename

import httpx
import trio

from mirror.errors import (
    AccessDenied,
    IsAFolder,
    MirrorError,
    NotAFolder,
    NotFound,
    OriginFailed,
    ProtocolError,
    Stalled,
    UsageError,
    VersionChanged,
)
from mirror.http.access import CREDENTIALS, credentials, open_client
from mirror.http.auth import Auth
from mirror.http.connection import Origin
from mirror.http.exchange import Exchanger
from mirror.http.netrc_file import netrc_auth
from mirror.remotes.base import Entry, Listing, NotModified, Page, Part
from mirror.remotes.file.jobs import Threads
from mirror.remotes.file.url import to_path
from mirror.remotes.how import How
from mirror.remotes.manifest.build import build
from mirror.remotes.manifest.files import OtherThanSaidError, RowFiles
from mirror.remotes.manifest.later import Later
from mirror.remotes.manifest.links import Links
from mirror.remotes.manifest.origin import FileOrigin, HttpOrigin, ListOrigin
from mirror.remotes.manifest.rows import Row
from mirror.remotes.manifest.table import Table
from mirror.remotes.manifest.url import PREFIX
from mirror.remotes.options import Options
from mirror.retry import progressed

RECENT = 1.0
"""Seconds for which an answer about the list holds for all folders."""
LOOK = 0.5
"""Seconds between two looks at how far a list is read."""
PAGE = 10_000
"""Files of a page of `ManifestRemote.scan`."""


class ManifestRemote:
    """One manifest and the files in it. See `mirror.remotes.base.Remote`."""

    def __init__(
        self, url: str, how: How, *, key: str | None = None, base: str | None = None, recent: float = RECENT
    ) -> None:
        """Prepare; nothing is asked before the first question.

        Args:
            url: the source in canonical form.
            how: deadline, requests at once, proxies.
            key: under what it is cached; None: its URL.
            base: what relative URLs are resolved against; None: the list's own URL.
            recent: seconds for which an answer about the list holds.

        Raises:
            UsageError: its options contradict each other.
            SetupError: the netrc file, or one that an option names, cannot be used.
        """
        self._canonical = key or url
        self._where = bare = url.removeprefix(PREFIX)
        local = bare.startswith("file:")
        # Options of connections are for the list's origin, and for how to get anywhere.
        parsed = httpx.URL("https://localhost/" if local else bare)
        self._client = open_client(parsed, how)
        self._threads = Threads(how.connections, how.deadline)
        shown = _Credentials(None if local else parsed, how.options)
        self._origin: ListOrigin
        if local:
            self._origin = FileOrigin(to_path(bare), self._threads)
        else:
            self._origin = HttpOrigin(parsed, Exchanger(self._client, parsed, shown.of(parsed)))
        self._files = RowFiles(self._client, self._threads, shown.of, lambda: self._origin.public)
        self._links = Links(base or bare, files=local)
        self._recent = recent
        self._turn = trio.Lock()
        self._table: Table | None = None
        self._seen: str | None = None
        self._refused: ProtocolError | None = None
        self._asked_at = -1.0
        # A list that is being read: it goes on when whoever waits for it gives up.
        self._reading: tuple[Later[Table | None], str | None] | None = None

    @property
    def url(self) -> str:
        """The source in canonical form: the key of everything cached from it."""
        return self._canonical

    @property
    def requests(self) -> int:
        """Requests sent so far, to whatever host."""
        return self._client.requests

    async def aclose(self) -> None:
        """Close connections, and forget the list."""
        if self._reading is not None:
            self._reading[0].stop()
        if self._table is not None:
            self._table.retire()
        self._origin.close()
        await self._client.aclose()

    # -- what there is ------------------------------------------------------------------------

    async def list(self, path: str, validator: str | None = None) -> Listing | NotModified:
        """List one folder. See `mirror.remotes.base.Remote.list`."""
        table = await self._fresh()
        if validator == table.version:
            return NotModified()
        with table.used():
            entries = await trio.to_thread.run_sync(table.entries, path)
            if entries is None:
                raise (NotFound if table.file(path) is None else NotAFolder)(
                    f"{self._where}: no folder {path!a}"
                )
        return Listing(entries, table.version)

    async def scan(self, under: str = "", cursor: str | None = None) -> AsyncIterator[Page]:
        """Every file below a folder, in the list's order. See `mirror.remotes.base.Scanner.scan`.

        Raises:
            VersionChanged: there is a newer list than when the cursor was given: begin anew.
        """
        table = await self._fresh()
        line: int | None = 0
        if cursor is not None:
            version, _, number = cursor.rpartition("@")
            if version != table.version or not number.isdigit():
                raise VersionChanged(f"{self._where}: there is a newer list; scan it from the beginning")
            line = int(number)
        with table.used():
            while line is not None:
                rows, line = await trio.to_thread.run_sync(table.page, under, line, PAGE)
                files = [(row.path, row.entry()) for row in rows]
                yield Page(files, None if line is None else f"{table.version}@{line}")

    async def stat(self, path: str) -> Entry:
        """Say what the list does of a file, and where it says too little, what its server does."""
        row = self._row(await self._fresh(), path)
        if row.size is not None and row.validator is not None:
            return row.entry()
        try:
            return await self._files.stat(row)
        except (NotFound, AccessDenied, OtherThanSaidError) as exc:
            return await self._files_stat(await self._newer_row(row, None, exc))

    async def _files_stat(self, row: Row) -> Entry:
        try:
            return await self._files.stat(row)
        except NotFound as exc:
            raise _listed(exc) from exc

    def address(self, path: str) -> str | None:
        """See `mirror.remotes.base.Addressed.address`; a signed URL is not told."""
        row = None if self._table is None else self._table.file(path)
        return None if row is None or "?" in row.rest else row.place + row.rest

    def _row(self, table: Table, path: str) -> Row:
        if (row := table.file(path)) is not None:
            return row
        if table.has_folder(path):
            raise IsAFolder(f"{self._where}: {path!a} is a folder")
        raise NotFound(f"{self._where}: there is no {path!a}")

    # -- bytes --------------------------------------------------------------------------------

    @asynccontextmanager
    async def open_part(
        self, path: str, start: int = 0, stop: int | None = None, *, validator: str | None = None
    ) -> AsyncIterator[Part]:
        """Request bytes of a file. See `mirror.remotes.base.Remote.open_part`."""
        row = self._row(self._table or await self._fresh(), path)
        if _differ(row, validator):
            row = self._row(await self._fresh(), path)  # what asks may know a newer list, of another process
            if _differ(row, validator):
                raise VersionChanged(f"{self._where}: {path!a} is another version now")
        async with AsyncExitStack() as stack:
            try:
                part = await stack.enter_async_context(self._files.open_part(row, start, stop, validator))
            except (NotFound, AccessDenied, OtherThanSaidError) as exc:
                row = await self._newer_row(row, validator, exc)
                try:
                    part = await stack.enter_async_context(self._files.open_part(row, start, stop, validator))
                except NotFound as again:
                    raise _listed(again) from again
            yield part

    async def _newer_row(self, row: Row, validator: str | None, error: MirrorError) -> Row:
        """The row of a newer list, after what the one at hand says failed.

        Raises:
            NotFound, VersionChanged: the newer list has another file there, or none.
            MirrorError: ``error``, as what it is to a reader: there is no newer list, or it says the same.
        """
        try:
            newer = self._row(await self._fresh(), row.path)
        except NotFound:
            raise
        except MirrorError:
            newer = row
        if newer == row:
            raise _listed(error) from error
        if newer.validator != row.validator or newer.size != row.size:
            raise VersionChanged(f"{self._where}: {row.path!a} is another version now") from error
        return newer

    # -- the list -----------------------------------------------------------------------------

    async def _fresh(self) -> Table:
        """The table of the newest list."""
        async with self._turn:
            if self._table is None or trio.current_time() - self._asked_at >= self._recent:
                began_before = self._reading is not None
                await self._check()
                if began_before:
                    await self._check()  # that one was asked for by somebody else, some time ago
            assert self._table is not None, "made by the check, or it raises"
            return self._table

    async def _check(self) -> None:
        """Ask for a newer list, and read it."""
        if self._reading is None:
            asked_at = trio.current_time()
            copy = await self._origin.newer(self._seen)
            if copy is None:
                if self._refused is not None:
                    raise ProtocolError(str(self._refused))
                self._asked_at = asked_at
                return
            known = None if self._table is None else self._table.version
            work = partial(build, copy.content, basename(self._where), self._links, self._where, known)
            self._reading = Later(work, _discard), copy.seen
            self._asked_at = asked_at
        reading, seen = self._reading
        try:
            table = await self._read(reading)
        except ProtocolError as exc:
            self._reading, self._seen, self._refused = None, seen, exc
            raise
        except (trio.Cancelled, Stalled):
            raise  # it may be there for the next one
        except BaseException:
            self._reading = None
            raise
        self._reading, self._seen, self._refused = None, seen, None
        if table is not None:
            if self._table is not None:
                self._table.retire()
            self._table = table

    async def _read(self, reading: Later[Table | None]) -> Table | None:
        """Wait for a list that is read, as long as that goes on."""
        steps, since = -1, trio.current_time()
        while True:
            with trio.move_on_after(LOOK):
                return await reading.result()
            if reading.going.steps != steps:
                steps, since = reading.going.steps, trio.current_time()
                progressed()
            elif trio.current_time() - since > self._threads.deadline:
                raise Stalled(f"{self._where}: not a row within {self._threads.deadline:g} s")


def _discard(table: Table | None) -> None:
    if table is not None:
        table.retire()


def _differ(row: Row, validator: str | None) -> bool:
    return validator is not None and row.validator is not None and row.validator != validator


def _listed(exc: MirrorError) -> MirrorError:
    """What a failure is to a reader of a file that the list has."""
    if isinstance(exc, NotFound):
        return OriginFailed(f"{exc}; the manifest says that it is there")
    return exc


class _Credentials:
    """What the hosts of one list are shown."""

    def __init__(self, source: httpx.URL | None, options: Options) -> None:
        """``source``: where the list comes from; None: from this machine."""
        self._source = None if source is None else Origin.of(source)
        self._options = options
        if source is None:
            if given := [option.name for option in CREDENTIALS if option.name in options]:
                raise UsageError(
                    f"a manifest that is a file of this machine is asked without {given[0]}; leave it out, "
                    "and put passwords for the hosts in it into ~/.netrc"
                )
            netrc_auth(httpx.URL("https://localhost/"))  # to hear of a file that cannot be read now
        else:
            self._own = credentials(source, options)

    def of(self, url: httpx.URL) -> Auth | None:
        """What one host is shown: the list's own what the user says, any other what netrc has for it."""
        if self._source is None:
            return netrc_auth(url)
        if Origin.of(url) == self._source:
            return self._own
        if self._source.scheme == "https" and url.scheme != "https":
            return None  # a list that came safely sends no password over a line that others can read
        return netrc_auth(url)
