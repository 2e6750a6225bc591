"""What a mount does for its cache at its start, behind its readers' backs."""

from __future__ import annotations

import logging

from cache import Cache, CacheError

log = logging.getLogger(__name__)


async def keep_house(cache: Cache) -> None:
    """Evict what is more than the limits allow: they may have been lowered."""
    try:
        freed = await cache.objects.shrink()
    except CacheError as exc:
        log.warning("the cache could not be brought below its limits: %s", exc)
    else:
        if freed:
            log.info("%d bytes were evicted: the cache was over its limits", freed)
