"""A few mebibytes of a file in memory, and who reads in a row: pure bookkeeping of the bypass."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

SLACK = 128 * 1024
"""A read that begins so near to where an earlier one ended goes on from there; a large one, within
twice its size."""
RUNS = 16
"""Readers of one file that are told apart."""


class Window:
    """Consecutive bytes of a file: they come in at the end and are dropped at the front."""

    def __init__(self, start: int) -> None:
        self.first = start
        """Offset of the first byte that is here."""
        self.end = start
        """One past the last byte."""
        self._chunks: deque[bytes | memoryview] = deque()

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return self.end - self.first

    def add(self, chunk: bytes | memoryview) -> None:
        """Append the bytes at `end`."""
        self._chunks.append(chunk)
        self.end += len(chunk)

    def trim(self, upto: int) -> None:
        """Drop what lies before ``upto``, in whole chunks."""
        while self._chunks and self.first + len(self._chunks[0]) <= upto:
            self.first += len(self._chunks.popleft())

    def clear(self) -> None:
        """Drop everything."""
        self._chunks.clear()
        self.first = self.end

    def read(self, start: int, stop: int) -> bytes:
        """The bytes ``start`` to ``stop``, all of which have to be here."""
        if not self.first <= start <= stop <= self.end:
            raise ValueError(f"{start} to {stop} is not in {self.first} to {self.end}")
        pieces = []
        at = self.first
        for chunk in self._chunks:
            if at >= stop:
                break
            if at + len(chunk) > start:
                pieces.append(memoryview(chunk)[max(0, start - at) : stop - at])
            at += len(chunk)
        return b"".join(pieces)


@dataclass(slots=True)
class _Run:
    stop: int
    length: int


class Runs:
    """Which reads of a file go on where an earlier one ended."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []  # the one that grew last is the last

    def note(self, start: int, stop: int) -> int:
        """Note a read; returns how many bytes were read in a row up to it."""
        # The kernel sends several large reads at once, and they may arrive in any order.
        slack = max(SLACK, 2 * (stop - start))
        for run in reversed(self._runs):
            if run.stop - slack <= start <= run.stop + slack:
                before = run.length
                run.length += max(0, stop - max(start, run.stop))
                run.stop = max(run.stop, stop)
                self._runs.remove(run)
                self._runs.append(run)
                return before
        self._runs.append(_Run(stop, stop - start))
        del self._runs[:-RUNS]
        return 0

    def failed(self, start: int) -> None:
        """The bytes of a read from ``start`` on could not be had: whoever asks again goes on from there.

        The kernel does, page by page, when a read-ahead failed.
        """
        for run in reversed(self._runs):
            if run.stop - run.length <= start < run.stop:
                run.length -= run.stop - start
                run.stop = start
                return
