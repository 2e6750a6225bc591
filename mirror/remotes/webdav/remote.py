"""The WebDAV remote: folders are asked for by PROPFIND, files by GET as at any web server.

A listing states the same ETags and times as the answers to GET, or should: where they differ, every file
would look like another version as soon as its bytes come. So one file of a listing is asked about by
itself, once an hour, and what its own headers contradict is not believed of any.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
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
    Transient,
)
from mirror.http import answers
from mirror.http.auth import Auth, Headers
from mirror.http.begun import Begun
from mirror.http.connection import DELIMITED
from mirror.http.exchange import Client, Exchanger
from mirror.http.files import AskedFile, Files
from mirror.http.parts import HttpPart, read_whole
from mirror.remotes.base import Entry, Kind, Listing, NotModified
from mirror.remotes.names import to_url
from mirror.remotes.webdav import multistatus

MAX_PAGE = 256 * 1024 * 1024
"""Most bytes of an answer: about half a million entries."""

BIG_PAGE = 128 * 1024
"""Answers from this size on are read in a thread."""

HOUR = 3600.0

_ASK = (
    b'<?xml version="1.0" encoding="utf-8"?>\n'
    b'<propfind xmlns="DAV:"><prop>'
    b"<resourcetype/><getcontentlength/><getlastmodified/><getetag/>"
    b"</prop></propfind>\n"
)


class WebdavRemote:
    """One folder of a WebDAV server. See `mirror.remotes.base.Remote`."""

    def __init__(self, url: str, base: httpx.URL, client: Client, auth: Auth | None = None) -> None:
        """Prepare; nothing is sent before the first question.

        Args:
            url: the source in canonical form.
            base: the same, as http or https; its path ends with a slash.
            client: connections, which end with this remote.
            auth: who asks.
        """
        self._url = url
        self._base = base.raw_path.decode("ascii").rstrip("/")
        self._client = client
        self._http = Exchanger(client, base, auth)
        self._files = Files(self._http)
        self._believed = Believed()

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
        """List one folder; WebDAV has no conditions for it. See `mirror.remotes.base.Remote.list`."""
        del validator
        target = self._target(path)
        try:
            found = await self._propfind(f"{target}/", depth=b"1")
        except (NotFound, OriginFailed) as exc:
            # Servers have ways of their own to say that a file is no folder.
            if target and not isinstance(exc, Transient) and await self._kind(path) is Kind.FILE:
                raise NotAFolder(f"{self._url}: {path!a} is a file") from exc
            raise
        if found.own is not None and not found.own.folder:
            raise NotAFolder(f"{self._url}: {path!a} is a file")
        if found.own is None and not found.entries:
            raise ProtocolError(f"{self._url}: the answer does not speak of {target}/; check the URL")
        return Listing(await self._believed.checked(found.entries, partial(self._stat_in, path)))

    async def _propfind(self, target: str, depth: bytes) -> multistatus.Folder:
        headers: Headers = [
            (b"Accept", b"application/xml, text/xml"),
            (b"Content-Type", b"application/xml; charset=utf-8"),
            (b"Depth", depth),
        ]
        async with self._http.send("PROPFIND", target, headers, _ASK) as answer:
            head, where = answer.head, answer.where
            if head.status_code in (405, 501) or (head.status_code < 300 and head.status_code != 207):
                raise OriginFailed(
                    f"{where}: this is no WebDAV server ({head.status_code} to PROPFIND); check the URL"
                )
            if head.status_code != 207:
                raise answers.failure(head, where, conditional=False)
            answers.refuse_encoded(head.headers, where)
            body = await read_whole(head, where, self._http.deadline, MAX_PAGE)
            if not head.extensions.get(DELIMITED, True) and b"multistatus" not in body[-64:]:
                raise Transient(f"{where}: the answer was cut short")
        read = partial(_read, body, where.url)
        try:
            return read() if len(body) < BIG_PAGE else await trio.to_thread.run_sync(read)
        except multistatus.NotAMultistatusError as exc:
            raise ProtocolError(f"{where}: the answer is no listing of a folder: {exc}") from exc

    async def _stat_in(self, folder: str, name: str) -> Entry:
        return await self.stat(f"{folder}/{name}" if folder else name)

    # -- files -------------------------------------------------------------------------------

    async def stat(self, path: str) -> Entry:
        """Ask for one file's size, mtime and validator. See `mirror.remotes.base.Remote.stat`."""
        target = self._file(path)
        try:
            entry = await self._files.stat(target, basename(path))
        except (AccessDenied, OriginFailed, ProtocolError) as exc:
            await self._refuse_folder(path, exc)
            raise
        if _could_be_a_page(entry):
            await self._refuse_folder(path)
        return entry

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
        opening = self._files.open_part(
            self._file(path), basename(path), start, stop, validator=validator, begun=begun
        )
        async with AsyncExitStack() as stack:
            try:
                part = await stack.enter_async_context(opening)
            except (AccessDenied, OriginFailed, ProtocolError) as exc:
                await self._refuse_folder(path, exc)
                raise
            if _could_be_a_page(part.entry):
                await self._refuse_folder(path)
            yield part

    async def begin(
        self, path: str, validator: str | None, told: Callable[[AskedFile], None]
    ) -> AskedFile | None:
        """Request a file with nobody waiting for it. See `mirror.remotes.base.Bulk.begin`."""

        def opening(begun: Begun) -> AbstractAsyncContextManager[HttpPart]:
            return self.open_part(path, validator=validator, begun=begun)

        return await self._files.begin(
            self._file(path),
            basename(path),
            validator,
            told,
            opening=opening,
            believed=lambda entry: not _could_be_a_page(entry),
        )

    def _file(self, path: str) -> str:
        if not path:
            raise IsAFolder(f"{self._url} is a folder")
        return self._target(path)

    def _target(self, path: str) -> str:
        return f"{self._base}/{to_url(path)}" if path else self._base

    async def _refuse_folder(self, path: str, failure: MirrorError | None = None) -> None:
        """Raise `IsAFolder` for one: what a server says to GET and HEAD of a folder is its own affair.

        ``failure`` is what it said; one that may pass by is no reason to ask.
        """
        if not isinstance(failure, Transient) and await self._kind(path) is Kind.FOLDER:
            raise IsAFolder(f"{self._url}: {path!a} is a folder") from failure

    async def _kind(self, path: str) -> Kind | None:
        """Ask what a path is; None: that cannot be found out."""
        try:
            found = await self._propfind(self._target(path), depth=b"0")
        except IsAFolder:
            return Kind.FOLDER  # a redirect to the same path with a slash
        except MirrorError:
            return None
        if found.own is None:
            return None
        return Kind.FOLDER if found.own.folder else Kind.FILE


def _read(body: bytes, url: httpx.URL) -> multistatus.Folder:
    return multistatus.folder(multistatus.resources(body), url)


def _could_be_a_page(entry: Entry) -> bool:
    """Whether an answer could be a page about a folder: of a file a server knows a version or a time."""
    return entry.validator is None and entry.mtime_ns is None


class Believed:
    """Which statements of a server's listings its answers about files bear out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._validators = self._times = True
        self._asked_at = clock() - HOUR

    async def checked(
        self, entries: Sequence[Entry], ask: Callable[[str], Awaitable[Entry]]
    ) -> Sequence[Entry]:
        """Return the entries with what can be believed; ``ask`` gives one name's own headers.

        Raises whatever ``ask`` raises, but for a file that cannot be asked about.
        """
        if self._clock() - self._asked_at >= HOUR:
            await self._compare(entries, ask)
        if self._validators and self._times:
            return entries
        return [
            replace(
                entry,
                validator=entry.validator if self._validators else None,
                mtime_ns=entry.mtime_ns if self._times or entry.kind is Kind.FOLDER else None,
            )
            for entry in entries
        ]

    async def _compare(self, entries: Sequence[Entry], ask: Callable[[str], Awaitable[Entry]]) -> None:
        files = [entry for entry in entries if entry.kind is Kind.FILE and entry.mtime_ns is not None]
        for listed in [*(entry for entry in files if entry.validator is not None), *files][:1]:
            try:
                own = await ask(listed.name)
            except (NotFound, AccessDenied, IsAFolder):
                return  # the next listing asks again
            self._validators = listed.validator in (None, own.validator)
            self._times = listed.mtime_ns == own.mtime_ns
            # One that has changed in between says nothing about the others.
            same = own.size == listed.size
            self._asked_at = self._clock() if same else self._asked_at
