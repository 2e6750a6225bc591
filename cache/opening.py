"""The index of a cache that is being opened: made, migrated, or made anew when it is damaged or lost.

All of it happens in one turn (`index.turn`), and ends with this process among those who use the cache. A
damaged index is replaced only when nobody else uses it (`cache.use`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

from cache import damage, index
from cache.errors import CacheError, CacheUnusable
from cache.rebuild import Rebuilt, rebuild
from cache.use import Use

log = logging.getLogger(__name__)


def open_index(cache: Path, make_room: Callable[[], bool] = lambda: False) -> Use:
    """Have an index that can be used; returns this process's use of it, to be closed after all connections.

    ``make_room`` is called when it may be that the disk is full; True: try again.

    Raises:
        CacheUnusable: it cannot be had; the message says why and what to do.
    """
    file = cache / index.NAME
    try:
        use = Use(cache)
    except OSError as exc:
        raise index.cannot_open(file, exc) from exc
    try:
        with index.turn(cache):
            why = _brought_up(file, make_room)
            if why is not None:
                _repair(cache, use, why)
            use.share()
    except OSError as exc:
        use.close()
        raise index.cannot_open(file, exc) from exc
    except BaseException:
        use.close()
        raise
    return use


def _brought_up(file: Path, make_room: Callable[[], bool]) -> str | None:
    """Make or migrate the index; None, or why it has to be made anew."""
    try:
        why = damage.seen(file)
        if why is None:
            index.check_version(index.version_of(file), file)
            index.bring_up(file, make_room)
            why = damage.seen(file)
    except damage.UNREADABLE as exc:
        # An older schema that cannot be migrated is not what its version says.
        if not damage.is_damage(exc) and getattr(exc, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR:
            raise index.cannot_open(file, exc) from exc
        why = str(exc)
    return why


def _repair(cache: Path, use: Use, why: str) -> None:
    if not use.alone():
        raise CacheUnusable(
            f"{cache / index.NAME} is damaged ({why}) and in use by another process: end that (mirror status "
            "shows mounts), then start again"
        )
    try:
        rebuilt = rebuild(cache)
    except CacheError as exc:
        raise CacheUnusable(f"{cache / index.NAME} is damaged ({why}): {exc}") from exc
    log.warning("the index of %s was damaged or lost (%s): %s", cache, why, outcome(rebuilt))


def outcome(rebuilt: Rebuilt) -> str:
    """What was done, in half a sentence."""
    kept = "" if rebuilt.kept_as is None else f"; the old one is kept as {rebuilt.kept_as}"
    return f"made anew from {rebuilt.objects:,} objects{kept}"
