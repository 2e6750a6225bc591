"""Reading past the cache: what it cannot hold is served straight from the origin, nothing is kept.

A read asks for its own bytes and no more, until several follow each other: then they come out of a
`mirror.fetch.stream.Stream`, one answer that goes on to the end of the file. So a random reader
transfers little more than it reads, and a sequential one does not wait for the origin each time.

An origin that serves no ranges, and a file that nothing tells the version of, can only be streamed
from the first byte: such files are made for readers that go forward.

There are `STREAMS` streams at most, each with a window of bounded size, so all of them together hold at
most `MEMORY` bytes, however many files are read. A reader that finds no stream free asks for its own
bytes, as a random one does.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial

import trio

from cache import Node
from mirror.errors import MirrorError
from mirror.fetch.slots import Fixed, Priority, Slots
from mirror.fetch.stream import BEHIND, READ, WINDOW, File, Stream
from mirror.remotes.base import Remote
from mirror.retry import Schedule, retrying

log = logging.getLogger(__name__)

STREAMS = 6
"""Streams at once; each holds a connection, too."""
STREAMS_PER_FILE = 3
CHUNK = 1024 * 1024
"""A remote's largest chunk."""
MEMORY = STREAMS * (WINDOW + CHUNK)
"""Bytes that all streams may hold: 30 MiB."""
RUN = 1024 * 1024
"""Bytes that must have been read in a row before a stream is worth while."""
GRACE = 1.0
"""A stream that was read from in the last so many seconds is not ended for another one's sake: else more
readers than streams would take them from each other at every read."""
FILES = 1024
"""Versions whose answers are remembered."""


class Bypass:
    """All that is read past one cache from one source. `held` never exceeds `MEMORY`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        remote: Remote,
        slots: Slots,
        schedule: Schedule,
        path: Callable[[Node], str],
    ) -> None:
        """Read from ``remote``; ``path`` says where a node is there. Streams end with ``nursery``."""
        self._nursery = nursery
        self._remote = remote
        self._slots = slots
        self._schedule = schedule
        self._path = path
        self._files: OrderedDict[int, File] = OrderedDict()
        self._streams: list[Stream] = []
        self._changed = trio.Event()  # a stream has ended, or may be ended now

    @property
    def streams(self) -> int:
        """Streams under way."""
        return len(self._streams)

    @property
    def held(self) -> int:
        """Bytes that streams hold in memory."""
        return sum(stream.window.held for stream in self._streams)

    def begin(self, node: Node, validator: str | None, *, answered: bool) -> None:
        """A file was opened, and found no room in the cache: what it has no validator for begins anew.

        Args:
            node: the file.
            validator: what the attempt to cache it learned.
            answered: readers have bytes that came before there was no room.
        """
        file = self._file(node)
        file.validator = file.validator or validator
        if all(stream.complete and not stream.busy for stream in file.streams):
            for stream in list(file.streams):
                stream.close()
            file.answered = answered

    async def read(self, node: Node, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop``; fewer only at the end of the file.

        Raises:
            VersionChanged: this version cannot be had any more, or not from ``start`` on.
            MirrorError: the bytes cannot be had now.
        """
        file = self._file(node)
        pieces = []
        for at in range(start, stop, READ):
            end = min(at + READ, stop)
            in_a_row = file.runs.note(at, end)
            try:
                pieces.append(await self._piece(file, at, end, in_a_row))
            except MirrorError:
                file.runs.failed(at)
                raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _piece(self, file: File, start: int, stop: int, in_a_row: int) -> bytes:
        while True:
            stream = _following(file.streams, start, stop)
            if stream is None and file.sequential:
                while not self._make_room(file, grace=0.0):
                    await self._changed.wait()
                stream = _following(file.streams, start, stop) or self._begin_anew(file, start)
            elif stream is None and in_a_row >= RUN and self._make_room(file, grace=GRACE):
                stream = self._open(file, start)
            if stream is not None:
                return await stream.read(start, stop)
            # One request each: readers far from each other have nothing to share.
            data = await retrying(self._schedule, partial(self._exact, file, start, stop), file.node.name)
            if data is not None:
                return data

    async def _exact(self, file: File, start: int, stop: int) -> bytes | None:
        """Ask for a range and no more; None: the file turned out to be a sequential one."""
        async with (
            self._slots.hold(Fixed(Priority.DEMAND)),
            self._remote.open_part(file.path, start, stop, validator=file.validator) as body,
        ):
            file.accept(body, start)
            if not body.ranges:
                file.ranges = False
            if file.sequential:
                return None
            data = b"".join([bytes(chunk) async for chunk in body])
            file.answered = True
            return data

    # -- streams -----------------------------------------------------------------------------

    def _begin_anew(self, file: File, start: int) -> Stream:
        """Stream a file from its first byte on, which is the only way to read it."""
        if file.single and (file.answered or file.streams):
            raise file.not_continued()
        file.begun += 1
        if file.begun == 2:  # said once
            log.info("%s: the origin serves no ranges: reading backwards fetches it anew", file.path)
        # Reads that came together may not have reached us in their order.
        return self._open(file, max(0, start - BEHIND))

    def _open(self, file: File, start: int) -> Stream:
        stream = Stream(
            file,
            start,
            remote=self._remote,
            slots=self._slots,
            schedule=self._schedule,
            changed=self._note_change,
        )
        file.streams.append(stream)
        self._streams.append(stream)
        self._nursery.start_soon(stream.run)
        return stream

    def _make_room(self, file: File, *, grace: float) -> bool:
        """Have a stream free for a file, by ending the one idle longest if need be."""
        if len(file.streams) >= STREAMS_PER_FILE:
            candidates: Iterable[Stream] = file.streams
        elif self.streams >= STREAMS:
            candidates = self._streams
        else:
            return True
        latest = trio.current_time() - grace
        idle = [stream for stream in candidates if not stream.busy and stream.used_at <= latest]
        if not idle:
            return False
        min(idle, key=lambda stream: stream.used_at).close()
        return True

    def _note_change(self) -> None:
        self._streams = [stream for stream in self._streams if not stream.ended]
        # Several may wait, so nobody but this replaces it.
        self._changed.set()
        self._changed = trio.Event()

    def _file(self, node: Node) -> File:
        file = self._files.get(node.id)
        if file is None:
            file = self._files[node.id] = File(node, self._path(node))
        self._files.move_to_end(node.id)
        if len(self._files) > FILES:
            oldest = next((key for key, other in self._files.items() if not other.streams), node.id)
            if oldest != node.id:
                del self._files[oldest]
        return file


def _following(streams: Iterable[Stream], start: int, stop: int) -> Stream | None:
    """The stream that has a range, or will have it soonest; None: there is none."""
    serving = [stream for stream in streams if stream.serves(start)]
    return max(serving, key=lambda stream: min(stream.window.end, stop), default=None)
