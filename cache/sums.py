"""Checksums of what was written: CRC-32C of each run of bytes, computed as the bytes come.

Runs that touch are joined without a look at their bytes (a CRC of two runs follows from the CRCs of
both and the length of the second), whatever the order in which parts arrive. They are joined within
blocks of `BLOCK` bytes only, so that a damaged file can be told where it is damaged; the sum over the
whole file joins them all, and fits the extended attribute of its object.

CRC-32C is what object stores promise of their objects (S3, Google Cloud Storage), and finds every error
of up to 32 bits in a row and any odd number of flipped bits. It is no protection against an attacker:
that is what the modes and the owner of the cache are for.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from cache._files import crc32c

BLOCK = 16 * 1024 * 1024
"""Runs are not joined across a multiple of this many bytes."""

_PAIR = struct.Struct("<II")
_POLYNOMIAL = 0x82F63B78
"""Castagnoli's, bit-reflected (RFC 3720, appendix B.4)."""


class Run(NamedTuple):
    """A run of bytes: first, one past the last, and their CRC-32C; None: nobody computed it."""

    start: int
    stop: int
    crc: int | None


def combined(first: int, second: int, length: int) -> int:
    """CRC-32C of two runs one behind the other; ``length`` is that of the second, in bytes."""
    if not first:
        return second  # nothing is moved: the first of all runs, whose sum is looked for for every file
    # Moving the first by `length` zero bytes is a product with x^(8 * length) modulo the polynomial.
    power = 0
    while length:
        if length & 1:
            first = _product(first, _power_of_256(power))
        length >>= 1
        power += 1
    return first ^ second


class Sums:
    """The runs of one object, sorted and disjoint. Writers have to take turns."""

    __slots__ = ("_runs",)

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self._runs: list[Run] = []
        for run in runs:
            self.add(run)

    def add(self, run: Run) -> None:
        """Note a run; what it overlaps is known to be of other bytes, and forgotten."""
        runs = self._runs
        first = bisect_right(runs, run.start, key=lambda known: known.stop)
        last = bisect_left(runs, run.stop, key=lambda known: known.start)
        # Runs that only touch the new one, in its block, are joined with it.
        if first > 0 and runs[first - 1].stop == run.start and run.start % BLOCK:
            first -= 1
            run = _joined(runs[first], run)
        if last < len(runs) and runs[last].start == run.stop and run.stop % BLOCK:
            run = _joined(run, runs[last])
            last += 1
        self._runs = [*runs[:first], run, *runs[last:]] if last < len(runs) else [*runs[:first], run]

    def copy(self) -> Sums:
        """The runs as they are now; costs nothing."""
        other = Sums()
        other._runs = self._runs
        return other

    def whole(self, size: int) -> int | None:
        """CRC-32C of a file of ``size`` bytes; None unless the sums cover all of it, without a gap."""
        crc, at = 0, 0
        for run in self._runs:
            if run.start != at or run.crc is None:
                return None
            crc = combined(crc, run.crc, run.stop - run.start)
            at = run.stop
        return crc if at == size else None

    def packed(self) -> bytes:
        """The form of ``objects.sums``. Of sums that cover a whole file."""
        return b"".join(_PAIR.pack(run.stop - run.start, run.crc or 0) for run in self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return f"Sums({self._runs})"


def unpacked(sums: bytes) -> list[Run]:
    """The runs of ``objects.sums``.

    Raises:
        ValueError: this is no such value.
    """
    if len(sums) % _PAIR.size:
        raise ValueError("checksums come in pairs of a length and a sum")
    runs, at = [], 0
    for length, crc in _PAIR.iter_unpack(sums):
        runs.append(Run(at, at + length, crc))
        at += length
    return runs


def damaged(runs: Iterable[Run], read: Callable[[int, int], bytes]) -> Iterator[Run]:
    """Those of ``runs`` whose bytes are not what they were; ``read(offset, size)`` gives them.

    One that cannot be read in full is damaged too. Lazy: nothing is read ahead of what is asked for.
    """
    for run in runs:
        at, crc = run.start, 0
        while at < run.stop:
            data = read(at, min(_PIECE, run.stop - at))
            if not data:
                break
            crc = crc32c(data, crc)
            at += len(data)
        if at < run.stop or (run.crc is not None and crc != run.crc):
            yield run


_PIECE = 1024 * 1024


def _joined(first: Run, second: Run) -> Run:
    if first.crc is None or second.crc is None:
        return Run(first.start, second.stop, None)
    return Run(first.start, second.stop, combined(first.crc, second.crc, second.stop - second.start))


def _product(a: int, b: int) -> int:
    """``a * b`` modulo the polynomial, both bit-reflected: the highest bit is the constant term."""
    product = 0
    bit = 1 << 31
    while bit:
        if a & bit:
            product ^= b
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
        bit >>= 1
    return product


_POWERS: list[int] = []


def _power_of_256(power: int) -> int:
    """x^(8 * 2^power) modulo the polynomial."""
    if not _POWERS:
        _POWERS.append(1 << 23)  # x^8
    while len(_POWERS) <= power:
        _POWERS.append(_product(_POWERS[-1], _POWERS[-1]))
    return _POWERS[power]
