"""The questions that a bucket of Cloud Storage is asked, by its JSON API.

Files come by the same API (``alt=media``) as listings: there a name is one quoted word of the path, so no
name means something to a server on the way, and every answer says its generation.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from urllib.parse import urlencode

import httpx
import trio

from mirror.errors import NotFound, OriginFailed
from mirror.http.auth import Auth, Headers
from mirror.http.begun import Begun
from mirror.http.exchange import Client, Exchanger
from mirror.http.files import AskedFile, Files, Opening
from mirror.http.parts import HttpPart, read_whole
from mirror.remotes.base import Entry
from mirror.remotes.gcs import objects
from mirror.remotes.gcs.dialect import GcsDialect
from mirror.remotes.names import to_url
from mirror.remotes.objects.keys import Keys

PAGE = 1000
"""Objects of one page, the most there are."""

MAX_PAGE = 32 * 1024 * 1024
"""Most bytes of a page: it has 1,000 objects, with names of up to 1,024 bytes."""

BIG_PAGE = 256 * 1024
"""Pages from this size on are read in a thread."""

_JSON: Headers = [(b"Accept", b"application/json"), (b"Accept-Encoding", b"identity")]


class GcsStore:
    """One bucket. See `mirror.remotes.objects.store.Store`."""

    def __init__(
        self, bucket: str, endpoint: str, client: Client, auth: Auth | None = None, *, pays: str | None = None
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            bucket: its name.
            endpoint: where the API is, without a slash at its end.
            client: connections; it speaks to no other origin.
            auth: who asks; None: anybody.
            pays: the project that is billed, in place of the bucket's owner.
        """
        # What is accepted differs between a listing and a file.
        client.common = [(name, value) for name, value in client.common if name != b"Accept-Encoding"]
        if pays is not None:
            client.common.append((b"X-Goog-User-Project", pays.encode()))
        base = httpx.URL(endpoint)
        root = base.raw_path.decode("ascii").rstrip("/")
        self._bucket = bucket
        self._all = f"{root}/storage/v1/b/{bucket}/o"
        self._http = Exchanger(client, base, auth)
        self._dialect = GcsDialect(bucket, client.deadline, known=auth is not None, pays=pays is not None)
        self._files = Files(self._http, self._dialect)

    async def page(
        self, prefix: str, *, folder: bool, cursor: str | None = None, after: str | None = None, most: int = 0
    ) -> Keys:
        """List objects. See `mirror.remotes.objects.store.Store.page`."""
        asked = {"fields": objects.OF_LISTING, "maxResults": str(most or PAGE)}
        if prefix:
            asked["prefix"] = prefix
        if folder:
            asked["delimiter"] = "/"
        if cursor is not None:
            asked["pageToken"] = cursor
        elif after is not None:
            asked["startOffset"] = after
        try:
            body, where = await self._read(f"{self._all}?{urlencode(asked)}")
        except NotFound as exc:
            raise OriginFailed(f"gs://{self._bucket}: there is no such bucket; correct its name") from exc
        parse = partial(objects.page, body, where)
        found = parse() if len(body) < BIG_PAGE else await trio.to_thread.run_sync(parse)
        if after is None or cursor is not None:
            return found
        # The store begins with the name itself.
        return Keys([item for item in found.objects if item.key != after], found.prefixes, found.cursor)

    async def _read(self, target: str) -> tuple[bytes, object]:
        async with self._http.send("GET", target, _JSON) as answer:
            if answer.head.status_code != 200:
                raise await self._dialect.failure(answer, conditional=False)
            return await read_whole(answer.head, answer.where, self._http.deadline, MAX_PAGE), answer.where

    def scan_cursor(self, page: Keys) -> str | None:
        """Return the last name of a page: tokens are for the moment."""
        return page.objects[-1].key if page.cursor is not None and page.objects else None

    async def head(self, key: str, name: str) -> Entry:
        """Ask for one object. See `mirror.remotes.objects.store.Store.head`."""
        body, where = await self._read(f"{self._target(key)}?fields={objects.OF_OBJECT}")
        return objects.of(objects.document(body, where), where).entry(name)

    def open(
        self,
        key: str,
        name: str,
        start: int,
        stop: int | None,
        validator: str | None,
        begun: Begun | None = None,
    ) -> AbstractAsyncContextManager[HttpPart]:
        """Request bytes of an object. See `mirror.remotes.objects.store.Store.open`.

        By its generation: where a bucket keeps old versions, a file that is being read stays readable
        when another version takes its name.
        """
        target = self._media(key, validator)
        return self._files.open_part(target, name, start, stop, validator=validator, begun=begun)

    async def begin(
        self, key: str, name: str, validator: str | None, told: Callable[[AskedFile], None], opening: Opening
    ) -> AskedFile | None:
        """Request all of an object with nobody waiting. See `mirror.remotes.objects.store.Store.begin`."""
        return await self._files.begin(self._media(key, validator), name, validator, told, opening=opening)

    def _media(self, key: str, validator: str | None) -> str:
        target = f"{self._target(key)}?alt=media"
        if validator is not None and validator.startswith(objects.GENERATION):
            return f"{target}&generation={validator[len(objects.GENERATION) :]}"
        return target

    def _target(self, key: str) -> str:
        return f"{self._all}/{to_url(key).replace('/', '%2F')}"
