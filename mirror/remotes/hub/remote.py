"""The Hub's remote: the tree of a repository at one commit, which a branch may move on.

A revision is resolved to a commit, and everything is asked for at that commit. When a folder is listed
anew (so after the TTL, as for any source), a branch or tag is resolved again: if it has not moved, the
listing stands and that was the only request; if it has, the folder is listed at the new commit. Files are
known by their content, so those that a commit did not touch stay cached. A source that names a
commit in full is never asked twice.

What is read in between comes from the commit that was seen last. Should that be older than the listing
(another process has listed since), the first file that does not fit moves this one on too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from posixpath import basename
from typing import TypeAlias
from urllib.parse import quote, urlencode

import httpx
import trio

from mirror.errors import IsAFolder, MirrorError, NotFound, ProtocolError, VersionChanged
from mirror.flight import SingleFlight
from mirror.http import answers
from mirror.http.auth import Auth, Headers
from mirror.http.exchange import Answer, Client, Exchanger
from mirror.http.files import Files
from mirror.http.parts import HttpPart, read_whole
from mirror.remotes.base import Entry, Kind, Listing, NotModified, Page, Part
from mirror.remotes.following import Following
from mirror.remotes.hub import tree
from mirror.remotes.hub.dialect import GIT, BlobPart, HubDialect
from mirror.remotes.hub.url import Place
from mirror.remotes.names import to_url

MAX_PAGE = 32 * 1024 * 1024
"""Most bytes of one answer of the API: pages have a thousand rows."""

AGAIN = 2.0
"""Seconds for which a resolved branch is not asked for once more: a walk lists many folders."""

COMMIT = "commit:"
"""Prefix of the validator of a listing."""

_JSON: Headers = [(b"Accept", b"application/json")]

_Ask: TypeAlias = "Callable[[str], AbstractAsyncContextManager[Part]]"


class HubRemote:
    """One repository. See `mirror.remotes.base.Remote`, and `mirror.remotes.base.Scanner`."""

    def __init__(
        self,
        url: str,
        place: Place,
        endpoint: str,
        client: Client,
        auth: Auth | None = None,
        *,
        times: bool = False,
    ) -> None:
        """Prepare; nothing is sent before the first question.

        Args:
            url: what everything is cached under.
            place: which repository.
            endpoint: the Hub's address, without a slash at its end.
            client: connections, which end with this remote.
            auth: who asks.
            times: ask for the date of each file's last commit, which takes many more requests.
        """
        self._url = url
        self._place = place
        self._client = client
        base = httpx.URL(endpoint)
        root = base.raw_path.decode("ascii").rstrip("/")
        self._api = f"{root}/api/{place.kind}/{place.repo}"
        self._resolve = f"{root}/{place.page}/resolve"
        self._http = Exchanger(client, base, auth)
        self._dialect = HubDialect(place, endpoint, known=auth is not None)
        self._files = Files(self._http, self._dialect)
        self._expand = {"expand": "true"} if times else {}
        self._commit = place.commit
        self._seen_at = -AGAIN
        self._asking: SingleFlight[None, str] = SingleFlight()

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

    # -- which commit ------------------------------------------------------------------------

    async def _newest(self, *, within: float | None = None) -> str:
        """The commit that the revision is now, or was less than ``within`` seconds ago (`AGAIN`)."""
        age = trio.current_time() - self._seen_at
        if self._commit is not None and (
            self._place.commit is not None or age < (AGAIN if within is None else within)
        ):
            return self._commit
        return await self._asking.run(None, self._ask_for_commit)

    async def _ask_for_commit(self) -> str:
        asked_at = trio.current_time()
        # All else that it could say, with the names of all files, is left out.
        target = f"{self._api}/revision/{quote(self._place.revision, safe='')}?expand=sha"
        async with self._ask("GET", target) as answer:
            body = await read_whole(answer.head, answer.where, self._http.deadline, MAX_PAGE)
            said = tree.document(body, answer.where)
        sha = said.get("sha") if isinstance(said, dict) else None
        if not isinstance(sha, str) or Place("", "", sha, "").commit is None:
            raise ProtocolError(f"{answer.where}: the answer names no commit")
        self._commit, self._seen_at = sha, asked_at
        return sha

    async def _last(self) -> str:
        """The commit that was seen last."""
        return self._commit or await self._newest()

    # -- folders -----------------------------------------------------------------------------

    async def list(self, path: str, validator: str | None = None) -> Listing | NotModified:
        """List one folder. See `mirror.remotes.base.Remote.list`."""
        commit = await self._newest()
        if validator == COMMIT + commit:
            return NotModified()
        folder = self._in_repository(path)
        entries: dict[str, Entry] = {}
        async for page in self._pages(commit, folder, recursive=False):
            for found in page.found:
                if found.path == (f"{folder}/{found.entry.name}" if folder else found.entry.name):
                    entries.setdefault(found.entry.name, found.entry)
        return Listing([*entries.values()], COMMIT + commit)

    async def scan(self, under: str = "", cursor: str | None = None) -> AsyncIterator[Page]:
        """Every file below a folder. See `mirror.remotes.base.Scanner`."""
        commit, _, begin = (cursor or await self._newest()).partition(":")
        folder, root = self._in_repository(under), self._in_repository("")
        begun = bool(begin)
        try:
            async for page in self._pages(commit, folder, recursive=True, begin=begin or None):
                begun = True
                files = [
                    (found.path.removeprefix(f"{root}/") if root else found.path, found.entry)
                    for found in page.found
                    if found.entry.kind is Kind.FILE and (not folder or found.path.startswith(f"{folder}/"))
                ]
                yield Page(files, None if page.cursor is None else f"{commit}:{page.cursor}")
        except NotFound:
            if begun:
                raise  # what came is not all there is
            yield Page((), None)

    def _pages(
        self, commit: str, folder: str, *, recursive: bool, begin: str | None = None
    ) -> Following[tree.Rows]:
        target = f"{self._api}/tree/{commit}{'/' + to_url(folder) if folder else ''}"
        asked = {**({"recursive": "true"} if recursive else {}), **self._expand}

        async def ask(cursor: str | None) -> tree.Rows:
            query = urlencode(asked if cursor is None else {**asked, "cursor": cursor})
            async with self._ask("GET", f"{target}?{query}" if query else target) as answer:
                body = await read_whole(answer.head, answer.where, self._http.deadline, MAX_PAGE)
                following = tree.cursor(answer.head.headers.get("link"), answer.where)
            return tree.Rows(tree.rows(body, answer.where), following)

        return Following(ask, begin, f"{self._url}: {folder!a}" if folder else self._url)

    def _in_repository(self, path: str) -> str:
        return "/".join(filter(None, (self._place.path, path)))

    @asynccontextmanager
    async def _ask(
        self, method: str, target: str, headers: Headers = _JSON, body: bytes = b""
    ) -> AsyncIterator[Answer]:
        """Ask the API. Raises unless the answer is a 200."""
        async with self._http.send(method, target, headers, body) as answer:
            if answer.head.status_code != 200:
                raise await self._dialect.failure(answer, conditional=False)
            answers.refuse_encoded(answer.head.headers, answer.where)
            yield answer

    # -- files -------------------------------------------------------------------------------

    async def stat(self, path: str) -> Entry:
        """Ask for one file's size and content. See `mirror.remotes.base.Remote.stat`."""
        if not path:
            raise IsAFolder(f"{self._url} is a folder")
        commit = await self._newest()
        wanted = self._in_repository(path)
        body = urlencode({"paths": wanted, **self._expand}).encode("ascii")
        headers = [*_JSON, (b"Content-Type", b"application/x-www-form-urlencoded")]
        async with self._ask("POST", f"{self._api}/paths-info/{commit}", headers, body) as answer:
            page = await read_whole(answer.head, answer.where, self._http.deadline, MAX_PAGE)
            where = answer.where
        for found in tree.rows(page, where):
            if found.path == wanted:
                if found.entry.kind is Kind.FOLDER:
                    raise IsAFolder(f"{self._url}: {path!a} is a folder")
                return found.entry
        raise NotFound(f"{self._url}: there is no {path!a} at the commit {commit[:12]}")

    @asynccontextmanager
    async def open_part(
        self, path: str, start: int = 0, stop: int | None = None, *, validator: str | None = None
    ) -> AsyncIterator[Part]:
        """Request bytes of a file. See `mirror.remotes.base.Remote.open_part`."""
        if not path:
            raise IsAFolder(f"{self._url} is a folder")
        ask = partial(self._open_at, path=path, start=start, stop=stop, validator=validator)
        async with AsyncExitStack() as stack:
            yield await self._at_the_right_commit(ask, stack, path)

    async def _at_the_right_commit(self, ask: _Ask, stack: AsyncExitStack, path: str) -> Part:
        commit = await self._last()
        try:
            return await stack.enter_async_context(ask(commit))
        except (NotFound, VersionChanged) as exc:
            newest = await self._newest(within=0.0)
            if newest == commit:
                raise await self._explained(exc, path) from None
        try:
            return await stack.enter_async_context(ask(newest))
        except NotFound as exc:
            raise await self._explained(exc, path) from None

    async def _explained(self, exc: MirrorError, path: str) -> MirrorError:
        """What is not there as a file may be there as a folder: the Hub says 404 to both."""
        if isinstance(exc, NotFound):
            try:
                await self.stat(path)
            except NotFound:
                return exc
            except MirrorError as better:
                return better
            return ProtocolError(f"{exc}, but its listing has the file")
        return exc

    @asynccontextmanager
    async def _open_at(
        self, commit: str, *, path: str, start: int, stop: int | None, validator: str | None
    ) -> AsyncIterator[Part]:
        target = f"{self._resolve}/{commit}/{to_url(self._in_repository(path))}"
        async with self._files.open_part(target, basename(path), start, stop, validator=validator) as part:
            yield self._held_against_its_id(part)

    def _held_against_its_id(self, part: HttpPart) -> Part:
        seen = part.entry.validator or ""
        if not seen.startswith(GIT) or part.start or part.size is None or part.stop != part.size:
            return part
        return BlobPart(part, seen.removeprefix(GIT), part.entry.name)
