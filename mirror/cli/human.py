"""Numbers for people: bytes, rates and times, short enough for a column."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    """Bytes with three digits: ``0 B``, ``999 B``, ``1.46 KiB``, ``23.4 GiB``."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    digits = 0 if unit == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {_UNITS[unit]}"


def rate(count: float, seconds: float) -> str:
    """Bytes a second in MB/s (10^6, as disks and links are sold); ``-`` for no time at all."""
    if seconds <= 0:
        return "-"
    value = count / seconds / 1e6
    return f"{value:,.0f} MB/s" if value >= 9.95 else f"{value:.1f} MB/s"


def time(seconds: float) -> str:
    """A span: ``0.4 s``, ``59 s``, ``12 min 5 s``, ``3 h 20 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(at: float | None) -> str:
    """Epoch seconds as local time, ``2026-11-23 14:02``; ``-`` for None."""
    return "-" if at is None else _minute(int(at // 60))


@lru_cache(maxsize=4096)
def _minute(minute: int) -> str:
    # Files of one folder are often of one minute, and this is most of what printing them takes.
    return datetime.fromtimestamp(minute * 60).astimezone().strftime("%Y-%m-%d %H:%M")


def name(text: str) -> str:
    """A name as one harmless line: what a terminal would obey is escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def table(rows: Sequence[Sequence[str]], left: frozenset[int] = frozenset({0})) -> list[str]:
    """Rows of cells as aligned lines; columns not in ``left`` are aligned at their right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def count(number: int, what: str) -> str:
    """``1 file``, ``4,000 files``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
