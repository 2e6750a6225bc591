"""Rates by time of day, as rclone writes them: ``10M``, or ``08:00,1M 19:00,off``. Pure.

A table holds times and the rate from each of them on, until the next one; before the first time of a
week the last one's counts, for weeks follow each other. A time without a day is one of every day.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from time import struct_time

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60
_AT = re.compile(r"(?:([A-Za-z]{3})-)?(\d{1,2}):(\d{2})", re.ASCII)
_RATE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)([bkmgtBKMGT]?)(?:i?[bB])?", re.ASCII)
_POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4}
SLOWEST = 1024
"""Bytes a second; a limit below would not leave enough for the heads of answers."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """Rates in bytes a second; None: no limit."""

    changes: tuple[tuple[int, int | None], ...]
    """Minute of the week (Monday 0:00 is 0) and the rate from then on, sorted; never empty."""

    def at(self, now: struct_time) -> int | None:
        """Return the rate at a local time."""
        minute = now.tm_wday * _DAY + now.tm_hour * 60 + now.tm_min
        rate = self.changes[-1][1]
        for begins, then in self.changes:
            if begins > minute:
                break
            rate = then
        return rate

    @classmethod
    def parse(cls, text: str) -> Timetable:
        """Read a rate, or a table of times and rates.

        Raises:
            ValueError: it is neither; one line that says what is understood.
        """
        words = text.split()
        if len(words) == 1 and "," not in words[0]:
            return cls(((0, _rate(words[0], text)),))
        changes: dict[int, int | None] = {}
        # Of two entries for the same minute the later one counts, and one with a day before one without.
        for word in sorted(words, key=lambda word: "-" in word):
            at, comma, rate = word.partition(",")
            found = _AT.fullmatch(at)
            if found is None or not comma or int(found[2]) > 23 or int(found[3]) > 59:
                raise _wrong(text)
            day = (found[1] or "").lower()
            if day and day not in _DAYS:
                raise _wrong(text)
            minute, value = int(found[2]) * 60 + int(found[3]), _rate(rate, text)
            for number, name in enumerate(_DAYS):
                if day in ("", name):
                    changes[number * _DAY + minute] = value
        if not changes:
            raise _wrong(text)
        return cls(tuple(sorted(changes.items())))


def _rate(word: str, text: str) -> int | None:
    if word.lower() in {"off", "0"}:
        return None
    found = _RATE.fullmatch(word)
    if found is None:
        raise _wrong(text)
    rate = int(float(found[1]) * 1024 ** _POWERS[found[2].lower()])
    if rate < SLOWEST:
        raise ValueError(f"{word!r} is too slow a rate: at least 1K, or off")
    return rate


def _wrong(text: str) -> ValueError:
    return ValueError(
        f"{text!r} is no rate: write bytes a second as in 10M, off, or a table as in '08:00,1M 19:00,off'"
    )
