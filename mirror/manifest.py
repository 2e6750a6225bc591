"""A manifest of any source: every file that matches, with all that is known of it, in the source's order.

The tree is walked as `mirror warm` walks it. Files are looked at by several tasks at once where that takes a
request; a short queue of them is written in the order in which they were found, so two manifests of one tree
can be compared line by line, and memory does not grow with the tree.

Digests are written where somebody knows them: the source by its validators, the cache by what was promised of
a file and found true, and by the CRC-32C that it has of everything that is complete. `sha256` for all of them
takes their bytes: each file is fetched into the cache, and hashed there.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trio

from cache import Node
from cache.digests import Algorithm
from mirror.background import background
from mirror.engine import Engine, open_engine
from mirror.errors import MirrorError, NoSpace, OriginFailed, Stalled
from mirror.fetch import Priority
from mirror.fetching import GIVE_UP_AFTER, Progress
from mirror.http import answers
from mirror.limits import raise_descriptor_limit
from mirror.remotes.base import Addressed
from mirror.remotes.manifest.output import Line, Writer
from mirror.remotes.names import to_url
from mirror.selection import File, read_patterns, walk
from mirror.times import SECOND
from mirror.traffic import Traffic
from mirror.warm import REPORT_INTERVAL

QUEUE = 256
"""Files found and not written yet."""
WRITTEN = 64
"""Rows written at a time."""
PIECE = 1024 * 1024
"""Bytes hashed at a time."""
VISIT = 64 * PIECE
"""Bytes hashed in one visit to a thread, which cannot be cancelled."""

FETCHABLE = ("http", "https", "file")
"""Schemes of URLs that a manifest as a source can have."""

_COLUMNS = {Algorithm.SHA256: "sha256", Algorithm.MD5: "md5", Algorithm.CRC32C: "crc32c"}


@dataclass(slots=True)
class Written(Progress):
    """What came of it."""

    digests: int = 0
    """Rows that have a sha256."""
    elsewhere: int = 0
    """Rows whose URL is not one that a manifest as a source can have, or that have none."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of each file or folder that could not be had: then nothing is worth keeping."""


class _Slot:
    """A file between being found and being written."""

    __slots__ = ("done", "line", "node", "path")

    def __init__(self, path: str, node: Node) -> None:
        self.path = path
        self.node = node
        self.line: Line | None = None
        self.done = trio.Event()


async def write_manifest(
    source: str,
    patterns: Sequence[str],
    cache_folder: Path,
    writer: Writer,
    *,
    sha256: bool,
    jobs: int,
    deadline: float,
    report: Callable[[Progress], None],
    traffic: Traffic = Traffic(),  # noqa: B008 - frozen
) -> Written:
    """Write a row for every file of ``source`` that matches one of ``patterns`` (none: all of them).

    Args:
        source: the source URL.
        patterns: as for `mirror.warm.warm`.
        cache_folder: the cache.
        writer: takes the rows, in threads.
        sha256: fetch what has no sha256 yet, and compute it.
        jobs: files looked at, or fetched, at once.
        deadline: seconds without a byte after which a request has failed.
        report: called with the progress now and then.
        traffic: how much may be asked of the network.

    Raises:
        UsageError: the source or a pattern cannot mean anything.
        MirrorError: the source cannot be listed, or stopped answering in the middle.
        cache.CacheError: the cache cannot be used.
    """
    raise_descriptor_limit()
    run = _Run(writer, report, jobs, sha256=sha256)
    wanted = read_patterns(patterns)
    started = time.time()
    async with open_engine(
        source, cache_folder, ttl=0.0, since=started, deadline=deadline, traffic=traffic
    ) as engine:
        await engine.namespace.check_source()
        async with background() as nursery:
            nursery.start_soon(run.report_now_and_then, engine)
            async with trio.open_nursery() as working:
                send, receive = trio.open_memory_channel[_Slot](QUEUE)
                walking = partial(walk, engine.namespace, wanted)
                working.start_soon(run.find, engine, walking, send, working)
                working.start_soon(run.write, receive)
        if run.gave_up is not None:
            raise run.gave_up
        run.written.bytes_fetched = engine.fetcher.bytes_fetched
    return run.written


class _Run:
    """One run's own state."""

    def __init__(
        self, writer: Writer, report: Callable[[Progress], None], jobs: int, *, sha256: bool
    ) -> None:
        self.written = Written()
        self.gave_up: MirrorError | None = None
        self._writer = writer
        self._report = report
        self._sha256 = sha256
        self._turns = trio.Semaphore(jobs)
        self._failures_in_a_row = 0

    async def report_now_and_then(self, engine: Engine) -> None:
        while True:
            await trio.sleep(REPORT_INTERVAL)
            self.written.bytes_fetched = engine.fetcher.bytes_fetched
            self.written.bytes_under_way = engine.fetcher.bytes_under_way
            self._report(self.written)

    async def find(
        self,
        engine: Engine,
        walking: partial[Coroutine[Any, Any, None]],
        send: trio.MemorySendChannel[_Slot],
        nursery: trio.Nursery,
    ) -> None:
        async def found(files: Sequence[File]) -> None:
            for path, node in files:
                await found_one(path, node)

        async def found_one(path: str, node: Node) -> None:
            self.written.files_total += 1
            self.written.bytes_total += node.size or 0
            slot = _Slot(path, node)
            await send.send(slot)
            if node.size is not None and not self._sha256:
                slot.line = self._line(engine, path, node, None)
                slot.done.set()
                return
            await self._turns.acquire()
            nursery.start_soon(self._look, engine, slot, nursery.cancel_scope)

        async with send:
            await walking(found, self._failed)
        self.written.listing = False

    async def write(self, receive: trio.MemoryReceiveChannel[_Slot]) -> None:
        lines: list[Line] = []
        async with receive:
            async for slot in receive:
                await slot.done.wait()
                if slot.line is not None:
                    lines.append(slot.line)
                    self.written.files_done += 1
                    self.written.bytes_done += slot.line.get("size", 0)
                if len(lines) >= WRITTEN:
                    lines, ready = [], lines
                    await trio.to_thread.run_sync(self._writer.write, ready)
        if lines:
            await trio.to_thread.run_sync(self._writer.write, lines)

    async def _look(self, engine: Engine, slot: _Slot, scope: trio.CancelScope) -> None:
        try:
            slot.line = await self._asked(engine, slot.path, slot.node)
        except MirrorError as exc:
            self._failed(slot.path, exc)
            origin = isinstance(exc, OriginFailed | Stalled)
            self._failures_in_a_row = self._failures_in_a_row + 1 if origin else 0
            if self._failures_in_a_row >= GIVE_UP_AFTER:
                self.gave_up = OriginFailed(f"{exc}; gave up after {GIVE_UP_AFTER} files in a row")
                scope.cancel()
        else:
            self._failures_in_a_row = 0
        finally:
            self._turns.release()
            slot.done.set()

    async def _asked(self, engine: Engine, path: str, listed: Node) -> Line:
        node = listed
        if node.size is None:
            node = await engine.namespace.fresh(node)
            self.written.bytes_total += node.size or 0
        line = self._line(engine, path, node, None)
        if not self._sha256 or "sha256" in line:
            return line
        digest = await _hashed(engine, node)
        # Its size and its validator may be known only now.
        return self._line(engine, path, engine.namespace.node(node.id), digest)

    def _line(self, engine: Engine, path: str, node: Node, digest: str | None) -> Line:
        line: Line = {"path": path}
        url = address(engine, path)
        if url is not None:
            line["url"] = url
        if url is None or urlsplit(url).scheme not in FETCHABLE:
            self.written.elsewhere += 1
        if node.size is not None:
            line["size"] = node.size
        # A time in whole minutes is not the one that the file itself has.
        if node.mtime_ns is not None and node.mtime_resolution_ns <= SECOND:
            line["mtime"] = node.mtime_ns
        if digest is not None:
            line["sha256"] = digest
        for known in engine.cache.objects.digests(node):
            if (column := _COLUMNS.get(known.algorithm)) is not None:
                line[column] = known.value.hex()
        for prefix, column in (("sha-256:", "sha256"), ("md5:", "md5"), (answers.ETAG, "etag")):
            if node.validator is not None and node.validator.startswith(prefix):
                line[column] = node.validator.removeprefix(prefix)
        return line

    def _failed(self, path: str, why: MirrorError) -> None:
        self.written.failed += 1
        self.written.failures.append((path, str(why)))


def address(engine: Engine, path: str) -> str | None:
    """The URL of a file, else the source's own with the path; None: there is only a secret one."""
    remote = engine.remote
    if isinstance(remote, Addressed):
        return remote.address(path)
    return f"{remote.url.partition('?')[0].rstrip('/')}/{to_url(path)}"


async def _hashed(engine: Engine, node: Node) -> str:
    """The sha256 of a file, fetched into the cache if it can hold it."""
    hashing = hashlib.sha256()
    try:
        await engine.fetcher.whole(node, Priority.WARM)
    except NoSpace:
        fd = None
    else:
        fd = engine.cache.objects.open_complete(node)
    if fd is not None:
        try:
            size = os.fstat(fd).st_size
            for start in range(0, size, VISIT):
                await trio.to_thread.run_sync(_update, hashing.update, fd, start, min(start + VISIT, size))
        finally:
            os.close(fd)
        return hashing.hexdigest()
    at = 0
    while data := await engine.fetcher.read(node, at, PIECE):
        await trio.to_thread.run_sync(hashing.update, data)
        at += len(data)
    return hashing.hexdigest()


def _update(update: Callable[[bytes], None], fd: int, start: int, stop: int) -> None:
    for at in range(start, stop, PIECE):
        update(os.pread(fd, min(PIECE, stop - at), at))
