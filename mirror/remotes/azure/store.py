"""The questions that a container is asked, by the Blob service's REST API."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from urllib.parse import quote, urlencode

import httpx
import trio

from mirror.errors import NotFound, ProtocolError
from mirror.http.auth import Auth, Headers
from mirror.http.begun import Begun
from mirror.http.exchange import Client, Exchanger
from mirror.http.files import AskedFile, Files, Opening
from mirror.http.parts import HttpPart, read_whole
from mirror.remotes.azure import listing
from mirror.remotes.azure.account import Account
from mirror.remotes.azure.dialect import AzureDialect
from mirror.remotes.base import Entry
from mirror.remotes.names import to_url
from mirror.remotes.objects.keys import Keys

VERSION = b"2021-12-02"
"""The version of the API: the first that can list any name, and serves everything that is needed here."""

PAGE = 5000
"""Blobs of one page, the most there are."""

MAX_PAGE = 64 * 1024 * 1024
"""Most bytes of a page: it has 5,000 blobs, each with its metadata of up to 8 KiB."""

BIG_PAGE = 128 * 1024
"""Pages from this size on are read in a thread."""

_XML: Headers = [(b"Accept", b"application/xml")]


class AzureStore:
    """One container. See `mirror.remotes.objects.store.Store`."""

    def __init__(
        self,
        container: str,
        account: Account,
        client: Client,
        auth: Auth | None,
        *,
        anonymous: bool,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            container: its name.
            account: where it is; its SAS token becomes part of each question.
            client: connections; it speaks to no other origin.
            auth: who asks, where that is said in headers.
            anonymous: nothing says who asks.
        """
        client.common = [*client.common, (b"x-ms-version", VERSION)]
        base = httpx.URL(account.endpoint)
        self._all = f"{base.raw_path.decode('ascii').rstrip('/')}/{container}"
        self._sas = account.sas
        self._http = Exchanger(client, base, auth)
        self._dialect = AzureDialect(f"az://{account.name}/{container}", anonymous=anonymous)
        self._files = Files(self._http, self._dialect)

    async def page(
        self, prefix: str, *, folder: bool, cursor: str | None = None, after: str | None = None, most: int = 0
    ) -> Keys:
        """List blobs as they are now, without snapshots. See `mirror.remotes.objects.store.Store.page`."""
        # Metadata: that a blob stands for a folder is said nowhere else.
        asked = {"restype": "container", "comp": "list", "include": "metadata"}
        asked["maxresults"] = str(most or PAGE)
        if prefix:
            asked["prefix"] = prefix
        if folder:
            asked["delimiter"] = "/"
        if (marker := cursor if cursor is not None else after) is not None:
            asked["marker"] = marker
        target = f"{self._all}?{urlencode(asked, quote_via=quote)}" + (f"&{self._sas}" if self._sas else "")
        async with self._http.send("GET", target, _XML) as answer:
            if answer.head.status_code != 200:
                failure = await self._dialect.failure(answer, conditional=False)
                if isinstance(failure, NotFound):
                    raise self._dialect.no_container() from failure
                raise failure
            where = answer.where
            body = await read_whole(answer.head, where, self._http.deadline, MAX_PAGE)
        try:
            parse = partial(listing.page, body)
            return parse() if len(body) < BIG_PAGE else await trio.to_thread.run_sync(parse)
        except listing.NotAListingError as exc:
            raise ProtocolError(f"{where}: the answer is no listing of a container: {exc}") from exc

    def scan_cursor(self, page: Keys) -> str | None:
        """Return the marker: it says where in the order of names the next page begins, and does not age."""
        return page.cursor

    async def head(self, key: str, name: str) -> Entry:
        """Ask for one blob. See `mirror.remotes.objects.store.Store.head`."""
        return await self._files.stat(self._target(key), name)

    def open(
        self,
        key: str,
        name: str,
        start: int,
        stop: int | None,
        validator: str | None,
        begun: Begun | None = None,
    ) -> AbstractAsyncContextManager[HttpPart]:
        """Request bytes of a blob. See `mirror.remotes.objects.store.Store.open`."""
        target = self._target(key)
        return self._files.open_part(target, name, start, stop, validator=validator, begun=begun)

    async def begin(
        self, key: str, name: str, validator: str | None, told: Callable[[AskedFile], None], opening: Opening
    ) -> AskedFile | None:
        """Request all of a blob with nobody waiting. See `mirror.remotes.objects.store.Store.begin`."""
        return await self._files.begin(self._target(key), name, validator, told, opening=opening)

    def _target(self, key: str) -> str:
        target = f"{self._all}/{to_url(key)}"
        return f"{target}?{self._sas}" if self._sas else target
