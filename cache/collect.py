"""Removing what nobody can use any more, when somebody asks for it.

Nothing here is needed for a cache to work: past versions are evicted first, rows of files that are gone
are found when they are opened. But they take room until then, and rows of past versions stay for ever.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from cache import index, pins, policy
from cache.errors import of_sqlite
from cache.model import Node
from cache.recalls import STALE_SECONDS
from cache.serving import unserved
from cache.store import Cache
from cache.sweep import Swept

FORGET_AFTER = 4 * 7 * 86400.0
"""Seconds after which a version that is past, and has no object, is forgotten."""
CHUNK = 1024
"""Objects removed between two reports."""
NODES = 5000
"""Rows deleted in one transaction."""

_OLD = """
    FROM nodes WHERE current = 0 AND coalesce(checked_at, listed_at, 0) < ?
        AND NOT EXISTS (SELECT 1 FROM objects WHERE objects.node = nodes.id)
        AND NOT EXISTS (SELECT 1 FROM ghosts WHERE ghosts.node = nodes.id)
        AND NOT EXISTS (SELECT 1 FROM recalls WHERE recalls.node = nodes.id)
        AND NOT EXISTS (SELECT 1 FROM nodes AS below WHERE below.parent = nodes.id AND below.current = 1)
        AND NOT EXISTS (SELECT 1 FROM nodes AS below WHERE below.parent = nodes.id AND below.current = 0)
"""
_STALE_GHOSTS = "FROM ghosts WHERE clock < ? OR node IN (SELECT id FROM nodes WHERE current = 0)"


@dataclass(slots=True)
class Collected:
    """What was removed (of a dry run: what would be)."""

    superseded: int = 0
    """Objects of versions that are past."""
    superseded_bytes: int = 0
    """Bytes of disk that they took."""
    in_use: int = 0
    """Objects of past versions that stay, because somebody has them open."""
    files: Swept | None = field(default_factory=Swept)
    """Files that the index did not know; None: another process was looking through them."""
    missing: int = 0
    """Rows of objects whose files are gone."""
    claims: int = 0
    """Claims of processes that died."""
    recalls: int = 0
    ghosts: int = 0
    """Notes of what was evicted long ago."""
    nodes: int | None = 0
    """Rows of past versions; None: a mount uses the cache, and its kernel may know them."""
    index_bytes: int = 0
    """By which the index became smaller on disk."""

    @property
    def freed(self) -> int:
        """Bytes of disk."""
        return self.superseded_bytes + (self.files.freed if self.files else 0) + max(0, self.index_bytes)


async def collect(
    cache: Cache,
    *,
    mounted: bool,
    dry_run: bool = False,
    report: Callable[[Collected], None] = lambda _: None,
    now: float | None = None,
) -> Collected:
    """Remove what nobody can use.

    Args:
        cache: which.
        mounted: a mount is known that uses it: no node is forgotten.
        dry_run: change nothing, only count.
        report: called with what was removed so far.
        now: epoch seconds; None: the clock's.

    Raises:
        CacheFull, CacheBroken: the disk or the index failed; what was removed until then is gone.
    """
    got = Collected()
    await _superseded(cache, got, dry_run, report)
    await trio.to_thread.run_sync(_files, cache, got, dry_run)
    report(got)
    await trio.to_thread.run_sync(_notes, cache, got, mounted, dry_run, time.time() if now is None else now)
    await cache.space.given_back()
    if not dry_run:
        before = index_size(cache.path)
        await trio.to_thread.run_sync(_compact, cache.path)
        got.index_bytes = before - index_size(cache.path)
    return got


def index_size(cache: Path) -> int:
    """Bytes that the index takes, its log included."""
    total = 0
    for name in (index.NAME, f"{index.NAME}-wal", f"{index.NAME}-shm"):
        try:
            total += (cache / name).stat().st_size
        except FileNotFoundError:
            continue
    return total


async def _superseded(
    cache: Cache, got: Collected, dry_run: bool, report: Callable[[Collected], None]
) -> None:
    async def remove(nodes: dict[int, tuple[Node, int]], rounds: int) -> list[Node]:
        if dry_run:
            for node, occupied in nodes.values():
                if await trio.to_thread.run_sync(cache.objects.removal.why_it_stays, node) is None:
                    got.superseded += 1
                    got.superseded_bytes += occupied
                else:
                    got.in_use += 1
            return []
        removed = await cache.objects.eviction.evict([node for node, _ in nodes.values()], rounds=rounds)
        got.superseded += len(removed)
        got.superseded_bytes += sum(each.freed for each in removed)
        report(got)
        gone = {each.node for each in removed}
        return [node for node, _ in nodes.values() if node.id not in gone]

    stayed: list[Node] = []
    chunk: dict[int, tuple[Node, int]] = {}
    for _, found in cache.survey.objects(past_only=True):
        chunk[found.node.id] = found.node, found.occupied
        if len(chunk) >= CHUNK:
            stayed += await remove(chunk, 1)
            chunk.clear()
    stayed += await remove(chunk, 1)
    if stayed:
        left = await remove({node.id: (node, 0) for node in stayed}, 10)
        got.in_use += len(left)


def _files(cache: Cache, got: Collected, dry_run: bool) -> None:
    check = trio.from_thread.check_cancelled
    got.claims = 0 if dry_run else cache.objects.settle_the_dead()
    got.missing = cache.sweep.missing(check, dry_run=dry_run)
    got.files = cache.sweep.run(check, dry_run=dry_run)


def _notes(cache: Cache, got: Collected, mounted: bool, dry_run: bool, now: float) -> None:
    capacity = cache.space.room().capacity

    def tidy(db: sqlite3.Connection) -> None:
        (clock,) = db.execute("SELECT clock FROM space").fetchone()
        before = policy.forget_ghosts_before(clock, capacity)
        got.recalls = _drop(db, "FROM recalls WHERE asked_at < ?", now - STALE_SECONDS, dry_run=dry_run)
        got.ghosts = _drop(db, _STALE_GHOSTS, before, dry_run=dry_run)
        if not dry_run:
            pins.unqueue(db)

    cache.submit(tidy)
    if dry_run:
        with unserved(cache.path) as nobody:
            free = nobody and not mounted
        got.nodes = (
            cache.submit(lambda db: _drop(db, _OLD, now - FORGET_AFTER, dry_run=True)) if free else None
        )
        return
    got.nodes = None if mounted else 0
    while got.nodes is not None:
        trio.from_thread.check_cancelled()
        # Each time anew: a mount that is made now need not wait for long.
        with unserved(cache.path) as nobody:
            if not nobody:
                got.nodes = got.nodes or None
                return
            count = cache.submit(lambda db: _forget_nodes(db, now - FORGET_AFTER))
        # The innermost of what is gone goes first, so there may be several rounds.
        if not count:
            return
        got.nodes += count


def _drop(db: sqlite3.Connection, which: str, value: float, *, dry_run: bool) -> int:
    if dry_run:
        count: int = db.execute(f"SELECT count(*) {which}", (value,)).fetchone()[0]
        return count
    return db.execute(f"DELETE {which}", (value,)).rowcount


def _forget_nodes(db: sqlite3.Connection, before: float) -> int:
    sql = f"DELETE FROM nodes WHERE id IN (SELECT id {_OLD} LIMIT {NODES})"  # noqa: S608 - ours
    return db.execute(sql, (before,)).rowcount


def _compact(cache: Path) -> None:
    """Let SQLite write its log back and cut it, and look at its statistics. Others may be at work."""
    try:
        connection = index.connect(cache / index.NAME)
        try:
            connection.execute("PRAGMA busy_timeout = 1000")
            connection.execute("PRAGMA optimize").fetchall()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as exc:
        raise of_sqlite(exc, "compact the index") from exc
