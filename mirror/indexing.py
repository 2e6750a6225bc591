"""Indexing: every listing of a source into the cache's index, in one go, as few requests as it takes.

Afterwards each folder lists without the origin. An origin that lists all that lies below a folder at once
(`Scanner`: object stores) is read that way: the top of the tree is listed until there are enough folders to
work on side by side, then the pages of each are read and written. What such a scan leaves open, and every
folder of other origins, is listed by itself.

How far it is lies in the index (`cache.scan`): a run that was stopped or killed goes on at the page, or the
folder, where it was. Memory holds a page or two for each folder that is worked on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from cache import Cache, Changes, Entry, Kind, Node
from cache.scan import Pages, State, Unit
from mirror.background import background, together
from mirror.engine import Engine, open_engine
from mirror.errors import MirrorError, NotAFolder, NotFound, OriginFailed, ProtocolError, Stalled
from mirror.paging import reading
from mirror.remotes.base import Pager, Scanner
from mirror.retry import Schedule
from mirror.steady import keep_steps_short
from mirror.traffic import Traffic
from mirror.walking import Failures, walk_folders

log = logging.getLogger(__name__)

REPORT_INTERVAL = 0.1
"""Seconds between two reports of progress."""
UNITS_PER_JOB = 4
"""Folders to read side by side, for each job: some are done before others."""
DEEPEST_DIVISION = 6
"""Levels that are listed to find that many."""
MOST_UNITS = 4096
"""Folders of one folder that are read one by one; where there are more, most are small: all in one go."""
DIVIDED_PAGES = 4
"""A folder whose listing has more pages is not divided: it is quicker read with all that lies below."""


@dataclass(slots=True)
class Progress:
    """How far a run is, as far as this process has seen."""

    files: int = 0
    """Files that were listed."""
    folders: int = 0
    """Folders that are complete."""
    requests: int = 0
    """Requests sent."""
    failed: int = 0
    """Folders that could not be listed."""
    added: int = 0
    changed: int = 0
    removed: int = 0
    """Names, of folders that were listed before."""

    def saw(self, changes: Changes) -> None:
        """Count what changed in one folder."""
        self.added += len(changes.added)
        self.changed += len(changes.changed)
        self.removed += len(changes.removed)


@dataclass(slots=True)
class Summary(Progress):
    """The end of a run."""

    files_known: int = 0
    """Files that the index has, of the folder that was indexed."""
    folders_known: int = 0
    """Folders, itself included."""
    resumed: bool = False
    """An earlier run was gone on with."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of each folder that could not be had."""
    elapsed: float = 0.0
    """Seconds."""

    @property
    def ok(self) -> bool:
        """Every folder lists from the index."""
        return not self.failed


async def index(
    source: str,
    path: str,
    cache_folder: Path,
    *,
    jobs: int,
    deadline: float,
    traffic: Traffic,
    report: Callable[[Progress], None],
    anew: bool = False,
) -> Summary:
    """Make the index of a folder of a source, and of all below it.

    Args:
        source: the source URL.
        path: of the folder; ``""``: the whole source.
        cache_folder: the cache whose index it is.
        jobs: requests at once.
        deadline: seconds without a byte after which a request counts as stalled.
        traffic: how much may be asked of the network.
        report: called with the progress now and then, and once at the end.
        anew: begin anew, also where an earlier run was stopped.

    Raises:
        UsageError: the source cannot mean anything.
        NotFound: there is no such folder.
        NotAFolder: it is a file.
        MirrorError: the origin cannot be asked, or stopped answering in the middle.
        cache.CacheError: the cache cannot be used.
    """
    keep_steps_short()
    started = trio.current_time()
    summary = Summary()
    async with open_engine(
        source,
        cache_folder,
        ttl=0.0,
        deadline=deadline,
        on_change=summary.saw,
        traffic=traffic,
    ) as engine:
        root = await folder_at(engine, path)
        run = _Run(engine, Schedule(deadline=deadline), jobs, summary, report)
        async with background() as nursery:
            nursery.start_soon(run.report_now_and_then)
            await run.everything(root, anew=anew)
        summary.requests = engine.remote.requests
        summary.failures = run.failures.all
        await trio.to_thread.run_sync(_count, engine.cache, root.id, summary)
    summary.elapsed = trio.current_time() - started
    report(summary)
    return summary


async def folder_at(engine: Engine, path: str) -> Node:
    """The folder of a path, known or found out. Raises as `index`."""
    node = engine.namespace.root
    for name in path.split("/"):
        if name in {"", "."}:
            continue
        try:
            node = await engine.namespace.lookup(node.id, name)
        except NotFound as exc:
            raise NotFound(f"there is no {path} in {engine.remote.url}: 'mirror ls' shows what is") from exc
    if node.kind is not Kind.FOLDER:
        raise NotAFolder(f"{path} is a file, not a folder: name the folder that it is in")
    return node


def _count(cache: Cache, root: int, summary: Summary) -> None:
    """Count what the index has. In a thread."""
    left = [root]
    while left:
        folder = left.pop()
        below = [node.id for node in cache.tree.folders(folder)]
        summary.folders_known += 1
        summary.files_known += cache.tree.count(folder) - len(below)
        left += below


class _Run:
    """One run's own state."""

    def __init__(
        self,
        engine: Engine,
        schedule: Schedule,
        jobs: int,
        summary: Summary,
        report: Callable[[Progress], None],
    ) -> None:
        self.summary = summary
        self.failures = Failures()
        self._engine = engine
        self._cache = engine.cache
        self._scans = engine.cache.scans
        self._schedule = schedule
        self._jobs = jobs
        self._report = report
        self._began_at = 0.0

    async def report_now_and_then(self) -> None:
        while True:
            await trio.sleep(REPORT_INTERVAL)
            self.summary.requests = self._engine.remote.requests
            self._report(self.summary)

    async def everything(self, root: Node, *, anew: bool) -> None:
        left = [] if anew else self._scans.units(root.id)
        run = next((unit for unit in left if unit.folder == root.id and unit.began_at <= time.time()), None)
        self.summary.resumed = run is not None
        if run is None:
            run = await self._scans.begin(root.id, time.time())
        self._began_at = run.began_at
        remote = self._engine.remote
        if isinstance(remote, Scanner):
            if run.state is State.WAITING:
                await self._divide(run)
            await self._scan_all(remote, run)
        if self.failures.origin_is_down:
            return
        await self._walk([root.id])
        if not self.failures.origin_is_down:
            # What was refused will be refused again: the next run is to look at everything.
            for unit in self._scans.units(root.id):
                if unit.folder != run.folder:
                    await self._scans.end(unit)
            await self._scans.end(run)

    # -- folder by folder --------------------------------------------------------------------

    def _is_due(self, folder: Node) -> bool:
        return folder.listed_at is None or not self._began_at <= folder.listed_at <= time.time()

    async def _walk(self, folders: Sequence[int]) -> None:
        await walk_folders(self._cache, folders, due=self._is_due, ask=self._list, jobs=self._jobs)

    async def _list(self, folder: Node) -> bool:
        try:
            await self._engine.namespace.relist(folder.id)
        except NotFound:
            return False  # it is gone since its parent was listed
        except MirrorError as exc:
            self._failed(folder, exc)
            return folder.listed_at is not None
        self.failures.succeeded()
        self.summary.folders += 1
        files = await trio.to_thread.run_sync(self._files_in, folder.id)
        self.summary.files += files
        return True

    def _files_in(self, folder: int) -> int:
        return self._cache.tree.count(folder) - len(self._cache.tree.folders(folder))

    def _failed(self, folder: Node, why: MirrorError) -> None:
        self.summary.failed += 1
        self.failures.add(self._cache.tree.path(folder.id), why)

    # -- by pages ----------------------------------------------------------------------------

    async def _divide(self, run: Unit) -> None:
        """List the top of the tree, until there are enough folders to work on side by side."""
        units: list[int] = []
        level = [run.folder]
        for _ in range(DEEPEST_DIVISION):
            if not level or len(level) + len(units) >= self._jobs * UNITS_PER_JOB:
                break
            below: list[int] = []

            async def divide(folder: Node, below: list[int] = below) -> bool:
                if not self._is_due(folder) or await self._list_the_top(folder):
                    found = [node.id for node in self._cache.tree.folders(folder.id)]
                    if len(found) <= MOST_UNITS:
                        below += found
                        return False
                units.append(folder.id)
                return False

            await walk_folders(self._cache, level, due=lambda _: True, ask=divide, jobs=self._jobs)
            level = below
        await self._scans.divide(run, units + level)

    async def _list_the_top(self, folder: Node) -> bool:
        """List a folder; False: it is too large, or cannot be listed: try to read it with all below it."""
        remote = self._engine.remote
        if not isinstance(remote, Pager):
            return await self._list(folder)
        path = self._cache.tree.path(folder.id)
        asked_at = time.time()
        entries: list[Entry] = []
        where = self._engine.namespace.where(path)
        try:
            async with reading(partial(remote.pages, path), None, self._schedule, where) as pages:
                for _ in range(DIVIDED_PAGES):
                    page = await anext(pages)
                    entries += [entry for _, entry in page.files]
                    if page.cursor is None:
                        break
                else:
                    return False
        except MirrorError as exc:
            self._failed(folder, exc)
            return False
        self.summary.saw(await self._cache.tree.put_listing(folder.id, entries, validator=None, at=asked_at))
        self.failures.succeeded()
        self.summary.folders += 1
        self.summary.files += sum(entry.kind is Kind.FILE for entry in entries)
        return True

    async def _scan_all(self, remote: Scanner, run: Unit) -> None:
        send, receive = trio.open_memory_channel[Unit](0)

        async def work(units: trio.MemoryReceiveChannel[Unit]) -> None:
            async with units:
                async for unit in units:
                    await self._scan(remote, unit)

        async with together() as nursery:
            for _ in range(self._jobs):
                nursery.start_soon(work, receive.clone())
            receive.close()
            async with send:
                for unit in self._scans.units(run.run):
                    if unit.state in (State.PAGES, State.SWEEPING):
                        await send.send(unit)

    async def _scan(self, remote: Scanner, unit: Unit) -> None:
        folder = self._cache.tree.node(unit.folder)
        if folder is None or not folder.current:
            await self._scans.end(unit)
            return
        try:
            if unit.state is State.PAGES:
                await self._read(remote, unit)
            await self._sweep(unit)
        except NotFound:
            pass  # it is gone; its parent's listing will tell
        except (OriginFailed, Stalled) as exc:
            self._failed(folder, exc)
            return
        except MirrorError as exc:
            log.info("%s is not read with all below it: %s", folder.name, exc)
            return  # folder by folder it may be had, or what cannot be had is known
        self.failures.succeeded()
        await self._scans.end(unit)

    async def _read(self, remote: Scanner, unit: Unit) -> None:
        path = self._cache.tree.path(unit.folder)
        if unit.cursor is not None:
            try:
                await self._read_from(remote, path, unit)
            except (OriginFailed, NotFound):
                raise
            except MirrorError:
                # Cursors do not last everywhere: one of an earlier process may mean nothing any more.
                unit = await self._scans.again(unit)
            else:
                return
        await self._read_from(remote, path, unit)

    async def _read_from(self, remote: Scanner, path: str, unit: Unit) -> None:
        pages = Pages(unit)
        prefix = f"{path}/" if path else ""
        where = self._engine.namespace.where(path)
        async with reading(partial(remote.scan, path), unit.cursor, self._schedule, where) as ahead:
            async for page in ahead:
                files = [(_below(each, prefix), entry) for each, entry in page.files]
                written = await self._scans.put_page(pages, files, page.cursor, last=page.cursor is None)
                self.summary.files += len(files)
                for changes in written.changes:
                    self.summary.saw(changes)

    async def _sweep(self, unit: Unit) -> None:
        folders, after = [unit.folder], 0
        while folders:
            written, after = await self._scans.sweep(unit, folders, after)
            self.summary.folders += written.listed
            for changes in written.changes:
                self.summary.saw(changes)


def _below(path: str, prefix: str) -> str:
    if not path.startswith(prefix):
        raise ProtocolError(f"the listing of {prefix} has {path}, which is not in it")
    return path[len(prefix) :]
