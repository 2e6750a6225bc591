"""One answer of the origin, read past the cache by whoever follows it.

A stream holds one open part, from where its first read began to the end of the file, and a window of
it in memory: a little behind its readers, because the kernel asks slightly out of order, and a little
ahead. When the window is full nothing more is received, so the origin waits as well; when nobody
has read for a while, the stream ends.

What is known of the version itself, and outlives its streams, is a `File`. Bytes of two versions
are never mixed: each answer is held against the node, and against the validator that an earlier
answer stated. Where nothing tells versions apart, a whole file has to come out of one answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from math import inf

import trio

from cache import Node, same_version
from mirror.errors import MirrorError, OriginFailed, Transient, VersionChanged
from mirror.fetch.slots import Fixed, Priority, Slots
from mirror.fetch.window import Runs, Window
from mirror.remotes.base import Part, Remote
from mirror.retry import Attempts, Schedule

log = logging.getLogger(__name__)

MiB = 1024 * 1024

READ = MiB
"""Most bytes of one read of a stream: those of the kernel's largest."""
AHEAD = MiB
"""Bytes received beyond what was asked for; the socket holds as much again."""
BEHIND = 2 * MiB
"""Bytes kept behind the furthest read."""
WINDOW = BEHIND + READ + AHEAD
"""Nothing is received while a stream holds so much; one chunk, a mebibyte at most, may go beyond."""
NEAR = BEHIND
"""A read that begins up to so far beyond a stream waits for it instead of asking anew; what it leaves out
is still in the window when it comes late."""
IDLE = 10.0
"""Seconds without a read after which a stream ends."""


class File:
    """A version that is read past the cache: what its answers have told, and who reads it."""

    def __init__(self, node: Node, path: str) -> None:
        self.node = node
        self.path = path
        self.validator = node.validator
        self.ranges: bool | None = None
        """Whether the origin serves parts of it; None: not known yet."""
        self.single = node.validator is None and (node.mtime_ns is None or node.size is None)
        """Nothing tells whether two answers are of one version, as far as is known."""
        self.answered = False
        """Readers have bytes of an answer; while `single`, none of another one may be given out."""
        self.begun = 0
        """How often it was begun at its first byte because it is `sequential`."""
        self.runs = Runs()
        self.streams: list[Stream] = []

    @property
    def sequential(self) -> bool:
        """It can only be read through, from its first byte on."""
        return self.ranges is False or self.single

    def accept(self, body: Part, asked: int) -> None:
        """Hold the head of an answer to a request from byte ``asked`` on against the version.

        Raises:
            VersionChanged: it is of another one, or cannot be told from one.
        """
        seen = body.entry
        known = replace(self.node, validator=self.validator or self.node.validator)
        if not same_version(known, seen):
            raise VersionChanged(f"{self.path} has changed at the origin")
        if self.answered and None in (known.validator, seen.validator):
            raise self.not_continued()
        self.validator = known.validator or seen.validator
        self.single = seen.validator is None
        if asked > 0 and body.start == 0:
            self.ranges = False

    def not_continued(self) -> VersionChanged:
        """What is left of an answer that ended cannot be had."""
        return VersionChanged(f"{self.path} cannot be continued: the origin gives it no strong validator")


class _Wanted:
    """A read that waits for bytes ``start`` to ``stop``."""

    __slots__ = ("start", "stop", "woken")

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.woken = trio.Event()


class Stream:
    """See the module. `run` belongs to the fetcher's nursery; `read` may be cancelled at any time."""

    def __init__(
        self,
        file: File,
        start: int,
        *,
        remote: Remote,
        slots: Slots,
        schedule: Schedule,
        changed: Callable[[], None],
    ) -> None:
        """Prepare to read ``file`` from ``start`` on.

        Args:
            file: what to read.
            start: first byte that is kept.
            remote: where from.
            slots: one of them is held while a part is open.
            schedule: how often a broken part is asked for again.
            changed: called when a read ended, and when the stream has.
        """
        self.file = file
        self.window = Window(start)
        self.used_at = trio.current_time()
        self.ended = False
        self.complete = False
        """The end of the file was received; the window is all that is left."""
        self._remote = remote
        self._slots = slots
        self._schedule = schedule
        self._changed = changed
        self._cursor = start  # one past the furthest byte that was asked for
        self._wanted: list[_Wanted] = []
        self._error: MirrorError | None = None
        self._scope = trio.CancelScope()
        self._kick = trio.Event()  # something that the receiver waits for may have happened

    # -- for readers -------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a read is under way."""
        return bool(self._wanted)

    def serves(self, start: int) -> bool:
        """Whether a read from ``start`` on should wait for this stream."""
        reach = inf if self.file.sequential else max(self.window.end, self._cursor) + NEAR
        return not self.ended and self.window.first <= start <= reach

    async def read(self, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop``, `READ` at most; fewer only at the end of the file.

        Raises:
            VersionChanged: this version cannot be had any more.
            MirrorError: the bytes cannot be had now.
        """
        wanted = _Wanted(start, stop)
        self._wanted.append(wanted)
        self._cursor = max(self._cursor, stop)
        self._kick.set()
        try:
            if not self._over(wanted):
                await wanted.woken.wait()
            if self._error is not None and self.window.end < stop:
                raise self._error
            end = self.window.end
            return self.window.read(min(start, end), min(stop, end))
        finally:
            self._wanted.remove(wanted)
            self.used_at = trio.current_time()
            self._trim()
            self._kick.set()
            self._changed()

    def close(self) -> None:
        """End a stream that nobody waits for; its memory is free at once."""
        self._end(OriginFailed(f"{self.file.path}: the stream was closed"))
        self.window.clear()
        self._scope.cancel()

    def _over(self, wanted: _Wanted) -> bool:
        return self.window.end >= wanted.stop or self.complete or self.ended

    def _wake(self) -> None:
        for wanted in self._wanted:
            if self._over(wanted):
                wanted.woken.set()

    def _trim(self) -> None:
        kept = [wanted.start for wanted in self._wanted]
        self.window.trim(min([self._cursor - BEHIND, *kept]))

    # -- life --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Receive until the file ends, it fails or nobody reads any more; raises only when cancelled."""
        error: MirrorError = OriginFailed("the mirror is shutting down")
        try:
            with self._scope:
                await self._receive_all()
                self.complete = True
                self._wake()
                await self._until(lambda: False)
        except MirrorError as exc:
            error = exc
        except Exception as exc:
            # Readers must hear of it, and the other streams go on.
            log.exception("%s: unexpected", self.file.path)
            error = OriginFailed(f"{self.file.path}: {exc!r}")
        finally:
            self._end(error)

    def _end(self, error: MirrorError) -> None:
        if self.ended:
            return
        self.ended = True
        self._error = error
        self.file.streams.remove(self)
        self._wake()
        self._changed()

    async def _until(self, ready: Callable[[], bool]) -> None:
        """Return once ``ready``; when nobody has read for a while, end instead."""
        while not ready():
            self._kick = trio.Event()
            with trio.move_on_at(inf if self._wanted else self.used_at + IDLE):
                await self._kick.wait()
            if not self._wanted and trio.current_time() >= self.used_at + IDLE:
                self.close()
                await trio.lowlevel.checkpoint()

    def _has_room(self) -> bool:
        if self.window.held >= WINDOW:
            # Then it is full of what a reader was woken for and takes in a moment, or of one huge chunk.
            return self.busy and not any(self._over(wanted) for wanted in self._wanted)
        return self.window.end < self._cursor + AHEAD

    async def _receive_all(self) -> None:
        attempts = Attempts(self._schedule)
        while True:
            try:
                await self._until(self._has_room)
                async with self._slots.hold(Fixed(Priority.DEMAND)):
                    attempts.asks()
                    await self._request(attempts)
            except Transient as exc:
                if self.file.single and self.file.answered:
                    raise self.file.not_continued() from exc
                pause = attempts.failed(exc)
                if pause is None:
                    raise OriginFailed(f"{self.file.path}: {exc}") from exc
                log.info("%s: %s; trying again in %.1f s", self.file.path, exc, pause)
                await trio.sleep(pause)
            else:
                return

    async def _request(self, attempts: Attempts) -> None:
        """Ask for what is left and take it in, at the pace of the readers."""
        file, window = self.file, self.window
        asked = 0 if file.sequential else window.end
        async with self._remote.open_part(file.path, asked, validator=file.validator) as body:
            file.accept(body, asked)
            at = body.start
            async for chunk in body:
                known = min(len(chunk), max(0, window.end - at))
                at += len(chunk)
                if known < len(chunk):
                    # Not for what comes again, or one that always breaks off there is asked for ever.
                    attempts.progressed()
                    file.answered = True
                    window.add(memoryview(chunk)[known:] if known else chunk)
                    self._trim()
                    self._wake()
                    await self._until(self._has_room)
                    attempts.asks()  # the readers' time is not the origin's
            if file.node.size not in (None, at):
                raise VersionChanged(
                    f"{file.path} has changed at the origin: {at} bytes, not {file.node.size}"
                )
