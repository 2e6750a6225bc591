"""``mirror pins``: what is kept whatever happens, and how much of it is here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mirror.cli import human
from mirror.cli.folders import existing_cache
from mirror.cli.running import finished, interruptible
from mirror.cli.values import CACHE_OPTION

if TYPE_CHECKING:
    from cache.pins import Pin
    from cache.survey import Tally

EXAMPLES = """\b
Examples:
  mirror pins
  mirror pins --json https://data.example.org/imagenet/ | jq '.[].pattern'
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """One pin, and what it means."""

    pin: Pin
    tally: Tally


@click.command(short_help="Show what is pinned, and how much of it is cached.", epilog=EXAMPLES)
@click.argument("source", required=False)
@CACHE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print a list with one object for each pin.")
def pins(source: str | None, cache: Path | None, as_json: bool) -> None:
    """Show the pins of the cache, or only those of SOURCE, as far as its folders were ever listed.

    Files that several patterns match are counted with each of them.
    """
    from mirror.remotes import key

    url = None if source is None else key(source)
    folder = existing_cache(cache)

    async def work() -> list[Shown]:
        import trio

        from cache import Cache
        from cache.patterns import Patterns
        from mirror.selection import root_of

        async with Cache.open(folder) as opened:
            if url is not None:
                root_of(opened, url)
            found = []
            for pin in opened.pins.all():
                if url in {None, pin.source}:
                    root = root_of(opened, pin.source)
                    patterns = Patterns([pin.pattern])
                    tally = await trio.to_thread.run_sync(opened.survey.tally, root.id, patterns)
                    found.append(Shown(pin, tally))
            return found

    found = finished(interruptible(work))
    if as_json:
        click.echo(json.dumps([as_document(each) for each in found], indent=2))
    elif found:
        click.echo("\n".join(lines(found)))
    else:
        click.echo("nothing is pinned")


def lines(found: list[Shown]) -> list[str]:
    """For people, a line for each pin."""
    rows = [("PATTERN", "FILES", "SIZE", "CACHED", "SINCE", "SOURCE")]
    for each in found:
        tally = each.tally
        more = "+" if tally.unlisted or tally.unsized else ""
        rows.append(
            (
                human.name(each.pin.pattern),
                f"{tally.files:,}{'+' if tally.unlisted else ''}",
                human.size(tally.bytes) + more,
                f"{tally.cached_files:,}",
                human.moment(each.pin.pinned_at),
                human.name(each.pin.source),
            )
        )
    unlisted = sum(each.tally.unlisted for each in found)
    note = (
        [f"+: {human.count(unlisted, 'folder')} never listed, or sizes not told"]
        if any("+" in row[2] for row in rows)
        else []
    )
    return [*human.table(rows, frozenset({0, 5})), *note]


def as_document(each: Shown) -> dict[str, Any]:
    """For scripts: bytes, and seconds since the epoch."""
    tally = each.tally
    return {
        "source": each.pin.source,
        "pattern": each.pin.pattern,
        "pinned_at": each.pin.pinned_at,
        "files": tally.files,
        "bytes": tally.bytes,
        "cached_files": tally.cached_files,
        "cached_bytes": tally.cached_bytes,
        "unknown_sizes": tally.unsized,
        "unlisted_folders": tally.unlisted,
    }
