"""Which bytes of a file to request next: a pure decision.

Demanded bytes come first, then what follows the last demand, then the rest. A part that is already
under way covers a demand when it will reach it soon; when it will not, it is cut short at the
demanded byte and a new part starts there, so that no byte is fetched twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PART_SIZE = 16 * 1024 * 1024
"""Bytes of one ranged request."""
NEAR = 4 * 1024 * 1024
"""A part under way that is fewer bytes than this away from a demand is waited for."""

SMALLEST_SHARE = 256 * 1024
"""Bytes of another's part that are worth a request."""

Range = tuple[int, int]
"""Half-open: first byte, one past the last."""


@dataclass(frozen=True, slots=True)
class Next:
    """The part to request next."""

    start: int
    stop: int
    cut: int | None = None
    """Index of the part under way that must stop at ``start``, or None."""


def subtract(ranges: Iterable[Range], holes: Iterable[Range]) -> list[Range]:
    """What is left of sorted disjoint ``ranges`` without ``holes``, sorted."""
    left = list(ranges)
    for hole_start, hole_stop in holes:
        pieces: list[Range] = []
        for start, stop in left:
            if hole_stop <= start or stop <= hole_start:
                pieces.append((start, stop))
                continue
            if start < hole_start:
                pieces.append((start, hole_start))
            if hole_stop < stop:
                pieces.append((hole_stop, stop))
        left = pieces
    return left


def shared(under_way: Sequence[tuple[Range, float | None]], usual: float | None, delay: float) -> Next | None:
    """Take the end of the part that takes longest, when nothing else is left for a connection to do.

    As much of it as lets both end at the same moment.

    Args:
        under_way: for each part under way, the range that has still to come, and the bytes a second that it
            brings, as far as that is known.
        usual: what a connection to this origin brings.
        delay: seconds until a request has come to that.
    """
    if not under_way:
        return None
    another = usual or 1.0
    # What brings nothing now may go on at any moment.
    rates = [max(another if rate is None else rate, another / 100) for _, rate in under_way]
    seconds = [(stop - at) / rate for ((at, stop), _), rate in zip(under_way, rates, strict=True)]
    index = max(range(len(seconds)), key=seconds.__getitem__)
    ((at, stop), _), rate = under_way[index], rates[index]
    size = int((stop - at - delay * rate) * another / (another + rate))
    return Next(stop - size, stop, cut=index) if size >= SMALLEST_SHARE else None


def next_part(
    gaps: Sequence[Range],
    under_way: Sequence[Range],
    demands: Sequence[Range],
    cursor: int | None,
    part_size: int = PART_SIZE,
) -> Next | None:
    """Decide on one part.

    Args:
        gaps: missing ranges of the file, sorted; parts under way have not filled theirs yet.
        under_way: for each part under way, the range it has still to deliver.
        demands: ranges that readers wait for, the longest waiting first.
        cursor: where the last read ended; what follows is likely to be wanted next. None: demands only.
        part_size: most bytes of a part.

    Returns:
        None when every gap is under way and every demand is near.
    """
    free = subtract(gaps, under_way)
    for start, stop in demands:
        missing = [(max(a, start), min(b, stop)) for a, b in gaps if a < stop and start < b]
        for first, _ in missing:
            for a, b in free:
                if a <= first < b:
                    return Next(first, min(b, first + part_size))
            for index, (at, end) in enumerate(under_way):
                if at + NEAR < first < end:
                    return Next(first, end, cut=index)
    if cursor is None:
        return None
    for start in (cursor, 0):
        for a, b in free:
            if b > start:
                first = max(a, start)
                return Next(first, min(b, first + part_size))
    return None
