"""``mirror du``: what takes room in a cache, and how much there is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mirror.cli import human
from mirror.cli.folders import existing_cache
from mirror.cli.running import finished, interruptible
from mirror.cli.values import CACHE_OPTION

if TYPE_CHECKING:
    from cache.limits import Limits, Room
    from cache.survey import SourceTotals

EXAMPLES = """\b
Examples:
  mirror du
  mirror du --cache /nvme/cache https://data.example.org/imagenet/
  mirror du --json | jq .room.left
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one cache holds, and may hold."""

    cache: Path
    sources: list[SourceTotals]
    limits: Limits
    room: Room
    index_bytes: int


@click.command(short_help="Show what takes room in the cache, and how much is left.", epilog=EXAMPLES)
@click.argument("source", required=False)
@CACHE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
def du(source: str | None, cache: Path | None, as_json: bool) -> None:
    """Show what the sources of the cache (or only SOURCE) take on disk, its limits, and the room left."""
    from mirror.remotes import key

    url = None if source is None else key(source)
    folder = existing_cache(cache)

    async def work() -> Usage:
        import trio

        from cache import Cache
        from cache.collect import index_size
        from mirror.selection import root_of

        async with Cache.open(folder) as opened:
            if url is not None:
                root_of(opened, url)
            totals = await trio.to_thread.run_sync(opened.survey.totals)
            sources = [total for total in totals if url in {None, total.source}]
            space = opened.space
            return Usage(folder, sources, space.limits(), space.room(), index_size(folder))

    usage = finished(interruptible(work))
    click.echo(json.dumps(as_document(usage), indent=2) if as_json else "\n".join(lines(usage)))


def total_of(sources: list[SourceTotals]) -> SourceTotals:
    """The sums over all sources."""
    from cache.survey import SourceTotals

    total = SourceTotals("total")
    for source in sources:
        for field in fields(source)[1:]:
            setattr(total, field.name, getattr(total, field.name) + getattr(source, field.name))
    return total


def lines(usage: Usage) -> list[str]:
    """For people: a table of sources, then the limits."""
    rows = [("SOURCE", "COMPLETE", "PARTIAL", "ON DISK", "PINNED", "SUPERSEDED")]
    several = [total_of(usage.sources)] if len(usage.sources) != 1 else []
    rows += [
        (
            human.name(total.source),
            f"{total.complete:,}",
            f"{total.partial:,}",
            human.size(total.occupied),
            human.size(total.pinned_bytes),
            f"{total.superseded:,} ({human.size(total.superseded_bytes)})" if total.superseded else "0",
        )
        for total in usage.sources + several
    ]
    limits, room = usage.limits, usage.room
    size = "none" if limits.cache_size is None else shown(str(limits.cache_size))
    free = "5% (the default)" if limits.min_free is None else shown(str(limits.min_free))
    claimed = f", {human.size(room.claimed)} claimed by what is being fetched" if room.claimed else ""
    left = human.size(room.left) if room.left >= 0 else f"none: over by {human.size(-room.left)}"
    if room.disk_is_short and (room.left < 0 or limits.cache_size is not None):
        left += ", as the file system has no more"
    return [
        *human.table(rows),
        "",
        *human.table(
            [
                ("cache", str(usage.cache)),
                ("cache size", f"{size} (so it may hold {human.size(room.capacity)})"),
                ("stays free", free),
                ("taken", f"{human.size(room.occupied)}{claimed}"),
                ("room left", left),
                ("index", human.size(usage.index_bytes)),
            ],
            frozenset({0, 1}),
        ),
    ]


def shown(amount: str) -> str:
    """An amount of the index as a person would write it."""
    return amount if amount.endswith("%") else human.size(int(amount))


def as_document(usage: Usage) -> dict[str, Any]:
    """For scripts: bytes throughout."""
    total = asdict(total_of(usage.sources))
    del total["source"]
    return {
        "cache": str(usage.cache),
        "sources": [asdict(source) for source in usage.sources],
        "total": total,
        "limits": {
            "cache_size": None if usage.limits.cache_size is None else str(usage.limits.cache_size),
            "min_free": None if usage.limits.min_free is None else str(usage.limits.min_free),
        },
        "room": asdict(usage.room),
        "index_bytes": usage.index_bytes,
    }
