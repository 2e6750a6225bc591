"""The tree of one source: answered from the index, kept as fresh as the TTL promises.

Every question is answered from the local index. Before that, a folder whose listing is older than
the TTL is listed again (conditionally where the source allows it), and a file that its listing
cannot vouch for (no size in it) is asked about by itself, each once however many want to know.

Only a fresh answer of the origin removes a name. When the origin cannot be asked, the last listing
goes on answering, for names in it and for names not in it. Without any listing (the index was made anew
from what is cached) a name that is known still stands for what it stood for; all else is an error.
What changed goes to ``on_change``: whoever told the kernel about a name takes it back there.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

import trio

from cache import Changes, Entry, Kind, Node, Tree
from cache.turns import LISTINGS, Turns
from mirror.errors import (
    MirrorError,
    NotAFolder,
    NotFound,
    OriginFailed,
    Stalled,
    TooDeep,
    VersionChanged,
)
from mirror.flight import SingleFlight
from mirror.health import OriginHealth
from mirror.paging import Pages, reading
from mirror.remotes.base import Listing, NotModified, Page, Pager, Remote
from mirror.retry import Schedule, retrying

log = logging.getLogger(__name__)

T = TypeVar("T")

REVALIDATION = Schedule(tries=2, deadline=5.0, extends=False)
"""Patience with an origin while a cached answer stands by."""


LONGEST_PATH = 4096
"""Bytes that a path below the source may have: the kernel's PATH_MAX. Folders that contain themselves go on
without end, and whoever walks a tree with ``openat`` never names a whole path."""

TURN_PATIENCE = 2.0
"""Seconds for which another process is left to list a folder that is wanted here as well."""
TURN_INTERVAL = 0.005
"""Seconds between two looks whether it has."""

FOLDERS_KEPT = 1024
"""Folders whose nodes are kept at hand."""

FIRST_PART = 256
GROWS = 4
LARGEST_PART = 16384
"""Entries of a new folder that go into the index first, how many times as many the next ones are, and at
most: whoever reads them as they come can begin soon, and each part costs a transaction."""


class Namespace:
    """Look-ups and listings of one source. Node ids are those of the index."""

    def __init__(
        self,
        tree: Tree,
        remote: Remote,
        root: Node,
        *,
        ttl: float,
        schedule: Schedule,
        since: float = math.inf,
        turns: Turns | None = None,
        on_change: Callable[[Changes], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """What the origin was asked after ``since`` (epoch seconds) is trusted whatever the ``ttl``.

        With ``turns``, one of all processes that ask after the same lists a folder.
        """
        self.root = root
        self.health = OriginHealth(clock)
        self._tree = tree
        self._remote = remote
        self._ttl = ttl
        self._since = since
        self._turns = turns
        self._schedule = schedule
        self._on_change = on_change
        self._clock = clock
        self._folders: dict[int, Node] = {}
        self._listing: SingleFlight[int, None] = SingleFlight()
        self._asking: SingleFlight[int, Node] = SingleFlight()
        self._growth = trio.Event()

    # -- questions ---------------------------------------------------------------------------

    def node(self, node: int) -> Node:
        """The node of an id, current or superseded; no request is made.

        Raises:
            VersionChanged: there is none. Whoever knows the id has it from an index that was lost
                since; looking the name up again finds another.
        """
        known = self._tree.node(node)
        if known is None:
            raise VersionChanged(f"there is no node {node} any more")
        return known

    def path(self, node: Node) -> str:
        """Path of a node below the source, ``""`` for the root."""
        return self._tree.path(node.id)

    async def lookup(self, folder: int, name: str) -> Node:
        """The current node of one name, its size known unless the origin itself does not tell.

        Raises:
            NotFound: the freshest listing to be had does not have the name.
            MirrorError: the name is not known and the folder cannot be listed, or the file's size
                cannot be learned.
        """
        if not await self._known_without_listing(folder, name):
            await self.listed(folder)
        child = self._tree.child(folder, name)
        if child is None:
            raise NotFound(f"there is no {name}")
        return await self.fresh(child)

    async def _known_without_listing(self, folder: int, name: str) -> bool:
        """Try to list a folder that never was; whether it cannot be, and has the name all the same."""
        node = self._folder(folder)
        if node.listed_at is not None or self._tree.child(folder, name) is None:
            return False
        await self._revalidated(cached=True, ask=partial(self._list_once, node))
        return self._folder(folder).listed_at is None and self._tree.child(folder, name) is not None

    async def listed(self, folder: int) -> Node:
        """Make sure that the listing of a folder is as fresh as it can be; returns the folder.

        Raises:
            NotAFolder: it is a file.
            NotFound: it is gone.
            MirrorError: it was never listed and the origin cannot be asked.
        """
        node = self._folder(folder)
        if self._fresh_at(node.listed_at):
            return node
        try:
            await self._revalidated(node.listed_at is not None, partial(self._list_once, node))
        finally:
            self._grew()
        return self._folder(folder)

    def readable_early(self, folder: int) -> bool:
        """Whether the entries of a folder that has to be listed may be used while that goes on.

        They are if it was never listed, and has none but those that are being seen.
        """
        node = self._folder(folder)
        if node.listed_at is not None:
            return False
        return self._tree.all_seen_since(folder, min(self._since, self._clock()))

    async def growth(self, patience: float) -> None:
        """Wait until there may be more entries in some folder, ``patience`` seconds at most.

        Those that other processes see are told of by nobody.
        """
        with trio.move_on_after(patience):
            await self._growth.wait()

    def _grew(self) -> None:
        growth, self._growth = self._growth, trio.Event()
        growth.set()

    async def relist(self, folder: int) -> None:
        """List a folder now, whatever the TTL; nothing that is cached stands in for an answer.

        Raises:
            NotAFolder: it is a file.
            NotFound: it is gone.
            MirrorError: the origin cannot be asked.
        """
        node = self.node(folder)
        if node.kind is not Kind.FOLDER:
            raise NotAFolder(node.name)
        await self._list_once(node, self._schedule, since=math.inf)

    def is_fresh(self, folder: int) -> bool:
        """Whether a folder's listing is within the TTL."""
        return self._fresh_at(self._folder(folder).listed_at)

    async def check_source(self) -> str | None:
        """Ask the origin for the root's listing now; for its first page, where it has many.

        Returns:
            None, or a sentence: it cannot be asked, and what is cached is served.

        Raises:
            MirrorError: it cannot be asked, and nothing is cached of it.
        """
        root = self.node(self.root.id)
        if root.listed_at is None and not self._tree.children(root.id, limit=1):
            await self._list_once(root, self._schedule, whole=False)
            return None
        if root.listed_at is not None and root.listed_at >= self._since:
            return None
        try:
            await self._list_once(root, REVALIDATION, whole=False)
        except MirrorError as exc:
            self.health.failed(exc)
            return f"the origin does not answer, serving what is cached: {exc}"
        return None

    def listed_since(self, when: float) -> list[int]:
        """Folders listed after ``when`` (epoch seconds), the longest ago first."""
        return self._tree.listed_since(self.root.id, when)

    def children(self, folder: int, after: int = 0, limit: int = 1000) -> list[Node]:
        """Entries of a listed folder in a lasting order; ``after`` is a node's ``entry``."""
        return self._tree.children(folder, after, limit)

    def past_names(self, folder: int, after: str = "") -> list[str]:
        """Names in a folder at which something else stood before, in order; those after ``after``."""
        return self._tree.past_names(folder, after)

    async def fresh(self, node: Node) -> Node:
        """The current node of the same name, checked with the origin where the TTL asks for it."""
        if node.kind is Kind.FOLDER or self._vouched_for(node):
            return node
        current = await self._revalidated(node.size is not None, partial(self.ask, node))
        return node if current is None else current

    async def ask(self, node: Node, schedule: Schedule) -> Node:
        """Ask the origin about one file now, whatever the TTL; returns its current node.

        Raises:
            NotFound: the origin says that it is gone.
            MirrorError: the origin cannot be asked.
        """
        return await self._asking.run(node.id, partial(self._stat, node, schedule))

    async def saw(self, node: Node, entry: Entry) -> Node:
        """Note what an answer's headers said about a file; returns the node they belong to."""
        current = await self._tree.put_entry(node.parent, entry, self._clock())
        if current.id != node.id:
            self._on_change(Changes(added=[], changed=[(node, current)], removed=[]))
        return current

    async def gone(self, node: Node) -> None:
        """Note that the origin said 404 or 410 for a file or folder."""
        await self._tree.remove(node.id)
        self._folders.clear()  # one of them, or one below it
        self._on_change(Changes(added=[], changed=[], removed=[node]))

    def _folder(self, folder: int) -> Node:
        """A folder's node; not read from the index again while its listing is fresh.

        Another process can only have made the listing fresher, which is as good.
        """
        node = self._folders.get(folder)
        if node is None or not self._fresh_at(node.listed_at):
            node = self.node(folder)
            if node.kind is not Kind.FOLDER:
                raise NotAFolder(node.name)
            if len(self._folders) >= FOLDERS_KEPT:
                self._folders.clear()
            self._folders[folder] = node
        return node

    # -- freshness ---------------------------------------------------------------------------

    def _fresh_at(self, when: float | None) -> bool:
        return when is not None and (self._clock() - when <= self._ttl or when >= self._since)

    def _vouched_for(self, file: Node) -> bool:
        """Whether what is known of a file is within the TTL."""
        if file.size is None:
            return False
        if self._fresh_at(file.checked_at):
            return True
        return file.listed_size and self._fresh_at(self._folder(file.parent).listed_at)

    async def _revalidated(self, cached: bool, ask: Callable[[Schedule], Awaitable[T]]) -> T | None:
        """The origin's answer, or None when it has none to give and the ``cached`` one stands.

        A refusal (401, 403) or an answer that makes no sense is treated as an outage here: neither
        says that what was listed before is gone.
        """
        if not cached:
            return await ask(self._schedule)
        if not self.health.worth_asking():
            return None
        try:
            answer = await ask(REVALIDATION)
        except NotFound:
            self.health.answered()
            raise
        except MirrorError as exc:
            self.health.failed(exc)
            return None
        self.health.answered()
        return answer

    async def _list_once(
        self, folder: Node, schedule: Schedule, *, whole: bool = True, since: float | None = None
    ) -> None:
        since = self._since if since is None else since
        await self._listing.run(folder.id, partial(self._list_in_turn, folder, schedule, whole, since))

    async def _list_in_turn(self, folder: Node, schedule: Schedule, whole: bool, since: float) -> None:
        """List a folder, unless another process has done so ``since`` then."""
        async with self._turn(folder):
            listed_at = self.node(folder.id).listed_at
            if listed_at is None or listed_at < since:
                await self._list(folder, schedule, whole)

    @asynccontextmanager
    async def _turn(self, folder: Node) -> AsyncIterator[None]:
        if self._turns is None:
            yield
            return
        number = LISTINGS + folder.id
        until, last = trio.current_time() + TURN_PATIENCE, 0
        # It may hang, or take long without showing anything of it: then it is listed twice.
        while not (taken := self._turns.take(number)) and trio.current_time() < until:
            await trio.sleep(TURN_INTERVAL)
            if (now := self._tree.last_entry(folder.id)) > last:
                until, last = trio.current_time() + TURN_PATIENCE, now
        try:
            yield
        finally:
            if taken:
                self._turns.give_back(number)

    async def _list(self, folder: Node, schedule: Schedule, whole: bool) -> None:
        path = self._tree.path(folder.id)
        if len(path.encode()) >= LONGEST_PATH:
            raise TooDeep(f"{self.where(path[:100])}…: folders within each other without an end?")
        # A listing is as old as the moment it was asked for, not as the moment it arrived.
        asked_at = self._clock()
        try:
            if isinstance(self._remote, Pager):
                await self._list_by_pages(self._remote, folder, path, asked_at, schedule, whole)
                return
            ask = partial(self._remote.list, path, folder.listing_validator)
            listing = await retrying(schedule, ask, self.where(path))
        except NotFound as exc:
            if folder.id == self.root.id:
                # A source that is gone as a whole is more likely moved or misconfigured than empty.
                raise OriginFailed(f"nothing is at {self._remote.url} (404): check the URL") from exc
            # Its parent tells whether it is gone or a file now (servers say 404 to both).
            await self._list_once(self.node(folder.parent), schedule, since=asked_at)
            raise
        if isinstance(listing, NotModified):
            await self._tree.confirm_listing(folder.id, asked_at)
        elif folder.listed_at is None and len(listing.entries) > FIRST_PART:
            await self._put_in_parts(folder, listing, asked_at)
        else:
            await self._put(folder, listing.entries, listing.validator, asked_at)

    async def _put(self, folder: Node, entries: Sequence[Entry], validator: str | None, at: float) -> None:
        changes = await self._tree.put_listing(folder.id, entries, validator=validator, at=at)
        self._saw(folder, changes)

    async def _put_in_parts(self, folder: Node, listing: Listing, at: float) -> None:
        """Put a listing into the index so that its first entries can be used before the last ones are in."""
        put_off: list[Entry] = []
        start, size = 0, FIRST_PART
        while some := listing.entries[start : start + size]:
            put_off += await self._put_part(folder, some, at)
            start, size = start + size, min(GROWS * size, LARGEST_PART)
        await self._end_parts(folder, put_off, listing.validator, at)

    async def _list_by_pages(
        self, remote: Pager, folder: Node, path: str, at: float, schedule: Schedule, whole: bool
    ) -> None:
        """Put a listing into the index as it comes: at once if it is one page, else page by page."""
        where = self.where(path)
        async with reading(partial(remote.pages, path), None, schedule, where) as pages:
            page = await _within(schedule, pages, where)
            entries = [entry for _, entry in page.files]
            if page.cursor is None:
                await self._put(folder, entries, None, at)
                return
            if not whole:
                return
            put_off = [*await self._put_part(folder, entries, at)]
            async for page in pages:
                put_off += await self._put_part(folder, [entry for _, entry in page.files], at)
        await self._end_parts(folder, put_off, None, at)

    async def _end_parts(
        self, folder: Node, put_off: Sequence[Entry], validator: str | None, at: float
    ) -> None:
        """Remove what no part had: then the folder is listed."""
        after, is_over = 0, False
        while not is_over:
            look = await self._tree.sweep_parts(folder.id, after, at)
            self._saw(folder, look.changes)
            after, is_over = look.after, look.over
        if put_off:
            # Those at whose names there is no folder any more.
            await self._put_part(folder, put_off, at)
        await self._tree.end_parts(folder.id, at, validator)

    async def _put_part(self, folder: Node, entries: Sequence[Entry], at: float) -> Sequence[Entry]:
        part = await self._tree.put_part(folder.id, entries, at)
        self._saw(folder, part.changes)
        self._grew()
        return part.put_off

    def _saw(self, folder: Node, changes: Changes) -> None:
        if folder.listed_at is None:
            # No absence was told of a folder that was never listed, but names may have been.
            changes = replace(changes, added=())
        if changes:
            self._on_change(changes)

    def where(self, path: str) -> str:
        """The URL of a path, for messages."""
        return f"{self._remote.url.rstrip('/')}/{path}" if path else self._remote.url

    async def _stat(self, file: Node, schedule: Schedule) -> Node:
        path = self._tree.path(file.id)
        try:
            entry = await retrying(schedule, partial(self._remote.stat, path), self.where(path))
        except NotFound:
            await self.gone(file)
            raise
        return await self.saw(file, entry)


async def _within(schedule: Schedule, pages: Pages, where: str) -> Page:
    """The first page, which comes within the deadline or not at all."""
    with trio.move_on_after(schedule.deadline):
        return await anext(pages)
    raise Stalled(f"{where}: no answer within {schedule.deadline:g} s")
