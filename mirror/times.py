"""Times as listings and headers write them, in nanoseconds since the epoch.

All of them UTC: a format that writes the server's local time is not parsed as a time at all. Each
function returns None for anything that is not exactly its format, and for a moment that a signed
64-bit count of nanoseconds cannot hold (before 1678, after 2261).
"""

from __future__ import annotations

import re
from calendar import timegm
from datetime import UTC, datetime
from functools import lru_cache

SECOND = 1_000_000_000
_LIMIT = 2**63 // SECOND - 1

# Not from `calendar` or `locale`: these are English whatever the user's language is.
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, start=1)}
_HTTP = re.compile(r"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII)
_NGINX = re.compile(r"(\d\d)-([A-Z][a-z]{2})-(\d{4}) (\d\d):(\d\d)", re.ASCII)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@lru_cache(maxsize=1024)
def http_date(text: str) -> int | None:
    """``Mon, 23 Nov 2026 14:02:14 GMT``: the one format of HTTP that servers still send."""
    if not (found := _HTTP.fullmatch(text)):
        return None
    day, month, year, hour, minute, second = found.groups()
    return _utc(year, month, day, hour, minute, second)


@lru_cache(maxsize=1024)
def nginx_date(text: str) -> int | None:
    """``23-Nov-2026 14:02``: whole minutes."""
    if not (found := _NGINX.fullmatch(text)):
        return None
    day, month, year, hour, minute = found.groups()
    return _utc(year, month, day, hour, minute, "0")


def rfc3339(text: str) -> int | None:
    """``2026-11-23T14:02:14.123456789Z`` or with an offset; up to nanoseconds."""
    if not (found := _RFC3339.fullmatch(text)):
        return None
    whole, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(whole + ("+00:00" if zone in "Zz" else zone))
        seconds = timegm(moment.astimezone(UTC).timetuple())
    except (ValueError, OverflowError):
        return None
    return seconds * SECOND + int((fraction or "").ljust(9, "0")) if abs(seconds) < _LIMIT else None


def _utc(year: str, month: str, day: str, hour: str, minute: str, second: str) -> int | None:
    try:
        # A leap second is the next second: datetime knows none.
        moment = datetime(
            int(year), _MONTHS[month], int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC
        )
    except (KeyError, ValueError):
        return None
    seconds = timegm(moment.timetuple())
    return seconds * SECOND if abs(seconds) < _LIMIT else None
