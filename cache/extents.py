"""Which bytes of an object are present: sorted, merged, half-open ranges.

The ranges are one flat list of edges ``[start, stop, start, stop, …]``: an offset lies in a range
exactly when the number of edges at or before it is odd, so one bisection answers every question.
The list is replaced, never changed, so that a reader in another thread sees the ranges either before
or after an `add`; writers have to take turns.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Extents:
    """Byte ranges that are present. Compares and iterates as its ``(start, stop)`` pairs."""

    __slots__ = ("_edges",)

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._edges: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Note that ``start`` to ``stop`` is present; an empty range changes nothing.

        Raises:
            ValueError: the range ends before it starts, or starts before 0.
        """
        if not 0 <= start <= stop:
            raise ValueError(f"not a byte range: {start} to {stop}")
        if start == stop:
            return
        edges = self._edges
        # Ranges that only touch the new one are merged with it: hence left for start, right for stop.
        first, last = bisect_left(edges, start), bisect_right(edges, stop)
        middle = [start] if first % 2 == 0 else []
        if last % 2 == 0:
            middle.append(stop)
        self._edges = edges[:first] + middle + edges[last:]

    def covers(self, start: int, stop: int) -> bool:
        """Whether every byte of ``start`` to ``stop`` is present."""
        if start >= stop:
            return True
        edges = self._edges
        at = bisect_right(edges, start)
        return at % 2 == 1 and edges[at] >= stop

    def gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The ranges missing between ``start`` and ``stop``, sorted."""
        missing = []
        at = start
        for a, b in self:
            if b <= at:
                continue
            if a >= stop:
                break
            if a > at:
                missing.append((at, a))
            at = b
        if at < stop:
            missing.append((at, stop))
        return missing

    def first_gap(self, at: int, size: int) -> tuple[int, int] | None:
        """The first missing range from ``at`` on in an object of ``size`` bytes, or None."""
        edges = self._edges
        index = bisect_right(edges, at)
        if index % 2 == 1:
            at = edges[index]
            index += 1
        if at >= size:
            return None
        return at, min(size, edges[index]) if index < len(edges) else size

    def copy(self) -> Extents:
        """The ranges as they are now; costs nothing."""
        other = Extents()
        other._edges = self._edges
        return other

    @property
    def total(self) -> int:
        """Bytes present."""
        edges = self._edges
        return sum(edges[1::2]) - sum(edges[::2])

    @property
    def stop(self) -> int:
        """One past the last byte present; 0 when there is none."""
        edges = self._edges
        return edges[-1] if edges else 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        edges = self._edges
        return zip(edges[::2], edges[1::2], strict=True)

    def __len__(self) -> int:
        return len(self._edges) // 2

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extents) and self._edges == other._edges

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Extents({list(self)})"
