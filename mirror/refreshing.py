"""Refreshing: what is cached of a source's names is compared with the origin now, whatever the TTL.

Folders that were listed are listed again, with their validators where the origin has such. Files that no
listing vouches for, and that were asked about before, are asked about again. What changed is in the index
then; the mounts of the source, which other processes serve, hear of it (`cache.news`) and tell their kernels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from cache import Changes, Kind, Node
from mirror import runtime
from mirror.background import background, together
from mirror.engine import Engine, open_engine
from mirror.errors import IsAFolder, MirrorError, NotFound, SetupError, UsageError
from mirror.keeper import client
from mirror.remotes import key
from mirror.retry import Schedule
from mirror.traffic import Traffic
from mirror.walking import Failures, walk_folders

REPORT_INTERVAL = 0.1
"""Seconds between two reports of progress."""
HEARD_WITHIN = 5.0
"""Seconds that a mount may take to hear of the news; it takes a tenth of one unless it is in trouble."""
_ASK_AGAIN = 0.05


@dataclass(slots=True)
class Progress:
    """How far a run is."""

    folders: int = 0
    """Folders that were compared."""
    files: int = 0
    """Files that were asked about by themselves."""
    added: int = 0
    changed: int = 0
    removed: int = 0
    """Names."""
    failed: int = 0

    def saw(self, changes: Changes) -> None:
        """Count what changed."""
        self.added += len(changes.added)
        self.changed += len(changes.changed)
        self.removed += len(changes.removed)


@dataclass(slots=True)
class Summary(Progress):
    """The end of a run."""

    mounts: list[str] = field(default_factory=list)
    """Mountpoints of the source whose kernel knows of the changes."""
    silent: list[str] = field(default_factory=list)
    """Those that did not say so in time."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of what could not be compared."""
    elapsed: float = 0.0
    """Seconds."""

    @property
    def ok(self) -> bool:
        """All of it was compared, and every mount knows."""
        return not self.failed and not self.silent


@dataclass(frozen=True, slots=True)
class Target:
    """What a user named by a path in a mount."""

    source: str
    cache: str
    path: str
    """Below the source."""


def mounted_at(path: Path) -> Target:
    """What a path means that is a mountpoint or lies in a mount; nothing in the mount is looked at.

    Raises:
        SetupError: it is in no mount of this program, or its keeper does not answer.
    """
    for mount in sorted(runtime.mounts(), key=lambda mount: -len(mount.path.parts)):
        if path.is_relative_to(mount.path):
            said = client.status(str(mount.path))
            below = path.relative_to(mount.path).as_posix()
            return Target(said["source"], said["cache"], "" if below == "." else below)
    raise SetupError(f"{path} is not mounted by mirror: 'mirror status' lists what is")


async def refresh(
    source: str,
    paths: Sequence[str],
    cache_folder: Path,
    *,
    jobs: int,
    deadline: float,
    traffic: Traffic,
    report: Callable[[Progress], None],
) -> Summary:
    """Compare what is known of a source with the origin.

    Args:
        source: the source URL.
        paths: files, and folders with all that was listed below them; none: everything that was listed.
        cache_folder: the cache.
        jobs: requests at once.
        deadline: seconds without a byte after which a request counts as stalled.
        traffic: how much may be asked of the network.
        report: called with the progress now and then.

    Raises:
        UsageError: the source or a path cannot mean anything.
        NotFound: there is no such path, here or at the origin.
        MirrorError: the origin cannot be asked, or stopped answering in the middle.
        cache.CacheError: the cache cannot be used.
    """
    started = trio.current_time()
    summary = Summary()
    async with open_engine(
        source,
        cache_folder,
        ttl=float("inf"),
        deadline=deadline,
        on_change=summary.saw,
        traffic=traffic,
    ) as engine:
        run = _Run(engine, Schedule(deadline=deadline), jobs, summary)
        async with background() as nursery:
            nursery.start_soon(_report_now_and_then, summary, report)
            for path in paths or [""]:
                await run.one(path)
        summary.failures = run.failures.all
        last = engine.cache.news.last()
    summary.mounts, summary.silent = await _heard(key(source), cache_folder, last)
    summary.elapsed = trio.current_time() - started
    return summary


async def _report_now_and_then(summary: Summary, report: Callable[[Progress], None]) -> None:
    while True:
        await trio.sleep(REPORT_INTERVAL)
        report(summary)


class _Run:
    """One run's own state."""

    def __init__(self, engine: Engine, schedule: Schedule, jobs: int, summary: Summary) -> None:
        self.failures = Failures()
        self._namespace = engine.namespace
        self._cache = engine.cache
        self._schedule = schedule
        self._jobs = jobs
        self._summary = summary
        self._began_at = time.time()

    async def one(self, path: str) -> None:
        """Compare what a path names."""
        names = [name for name in path.split("/") if name not in {"", "."}]
        if ".." in names:
            raise UsageError(f"{path}: write a path below the source, without '..'")
        node = self._namespace.root
        for position, name in enumerate(names):
            child = self._cache.tree.child(node.id, name)
            if child is None:
                await self._list(node)
                child = self._cache.tree.child(node.id, name)
            if child is None:
                where = "/".join(names[: position + 1])
                source = self._namespace.root.name
                raise NotFound(f"there is no {where} in {source}: 'mirror ls' shows what is")
            node = child
        if node.kind is Kind.FILE:
            try:
                await self._ask(node)
            except IsAFolder:
                await self._list(self._namespace.node(node.parent))
            return
        await walk_folders(self._cache, [node.id], due=self._is_due, ask=self._folder, jobs=self._jobs)

    def _is_due(self, folder: Node) -> bool:
        return folder.listed_at is None or not self._began_at <= folder.listed_at <= time.time()

    async def _folder(self, folder: Node) -> bool:
        if folder.listed_at is None and folder.id != self._namespace.root.id:
            return False
        try:
            await self._list(folder)
        except NotFound:
            return False
        except MirrorError as exc:
            self._failed(folder, exc)
            return False
        doubtful = await trio.to_thread.run_sync(self._cache.tree.asked_about, folder.id)
        for file in doubtful:
            try:
                await self._ask(file)
            except MirrorError as exc:
                self._failed(file, exc)
        return True

    async def _list(self, folder: Node) -> None:
        known = self._cache.tree.node(folder.id)
        if known is not None and not self._is_due(known):
            return
        await self._namespace.relist(folder.id)
        self.failures.succeeded()
        self._summary.folders += 1

    async def _ask(self, file: Node) -> None:
        with suppress(NotFound):  # which is an answer
            await self._namespace.ask(file, self._schedule)
        self._summary.files += 1

    def _failed(self, node: Node, why: MirrorError) -> None:
        self._summary.failed += 1
        self.failures.add(self._cache.tree.path(node.id), why)


async def _heard(source: str, cache: Path, last: int) -> tuple[list[str], list[str]]:
    """Wait until the mounts of a source have told their kernels; those that have, and those that have not."""
    heard: list[str] = []
    silent: list[str] = []

    async def one(mountpoint: str) -> None:
        with trio.move_on_after(HEARD_WITHIN):
            while True:
                try:
                    said = await trio.to_thread.run_sync(client.status, mountpoint)
                    is_ours = key(said["source"]) == source and said["cache"] == str(cache)
                except MirrorError:
                    return  # another user's, or about to end
                if not is_ours:
                    return
                if said["counters"].get("news", -1) >= last:
                    heard.append(mountpoint)
                    return
                await trio.sleep(_ASK_AGAIN)
        silent.append(mountpoint)

    async with together() as nursery:
        for mount in runtime.mounts():
            nursery.start_soon(one, str(mount.path))
    return sorted(heard), sorted(silent)
