"""``mirror evict``: remove cached files that somebody names, as far as nobody needs them now."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli import human
from mirror.cli.folders import existing_cache
from mirror.cli.running import Ticker, finished, interruptible
from mirror.cli.values import BELOW, CACHE_OPTION
from mirror.errors import MirrorError, UsageError

if TYPE_CHECKING:
    from mirror.clearing import Cleared

EXAMPLES = """\b
Examples:
  mirror evict https://data.example.org/imagenet/ 'train/**/*.tar'
  mirror evict --dry-run https://data.example.org/imagenet/ --all
  mirror evict --all --pinned                             # empty the cache

Patterns are those of 'mirror warm'. Names stay known, and an evicted file is fetched again when it is read.
"""


@click.command(short_help="Remove cached files.", epilog=EXAMPLES)
@click.argument("source", required=False)
@click.argument("patterns", type=BELOW, nargs=-1, metavar="[PATTERN]...")
@click.option("--all", "all_", is_flag=True, help="All files of SOURCE; without a SOURCE, of all sources.")
@click.option("--pinned", is_flag=True, help="Also files that are pinned; the pins stay.")
@click.option("-n", "--dry-run", is_flag=True, help="Remove nothing, only say what would be.")
@CACHE_OPTION
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but failures.")
@click.option("--json", "as_json", is_flag=True, help="Print what went and what stayed as JSON.")
def evict(
    source: str | None,
    patterns: tuple[str, ...],
    all_: bool,
    pinned: bool,
    dry_run: bool,
    cache: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Remove what is cached of the files of SOURCE that match a PATTERN, earlier versions included.

    Files that somebody has open, that are being fetched or that are pinned stay. Mounts are asked to let go
    of those that they only keep at hand. Exit code 0 also when some stay; 1 when nothing is cached that
    matches.
    """
    if all_ and patterns:
        raise UsageError("--all means every file: leave out the patterns, or --all")
    if not all_ and (source is None or not patterns):
        raise UsageError("name a source and patterns, or --all: 'mirror ls --cached' shows what is cached")
    from mirror.remotes import key

    url = None if source is None else key(source)
    folder = existing_cache(cache)
    ticker = Ticker(quiet=quiet)

    async def work() -> Cleared:
        from cache import Cache
        from mirror.clearing import clear
        from mirror.selection import read_patterns, root_of

        wanted = None if all_ else read_patterns(patterns)
        async with Cache.open(folder) as opened:
            return await clear(
                opened,
                0 if url is None else root_of(opened, url).id,
                wanted,
                pinned=pinned,
                dry_run=dry_run,
                report=lambda so_far: ticker.say(lambda: gone(so_far, dry_run=dry_run)),
            )

    cleared = finished(interruptible(work), "stopped; what was removed until then is gone")
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run} | asdict(cleared), indent=2))
    elif not quiet and cleared.matched:
        click.echo("\n".join(lines(cleared, dry_run=dry_run)))
    if not cleared.matched and patterns:
        raise MirrorError(f"nothing that is cached of {url} matches {' '.join(patterns)}")
    sys.exit(0)


def gone(cleared: Cleared, *, dry_run: bool) -> str:
    """What went, in one line."""
    verb = "would be removed" if dry_run else "removed"
    freed = human.size(cleared.freed)
    return f"{human.count(cleared.removed, 'object')} {verb}, {freed} {'would be ' if dry_run else ''}freed"


def lines(cleared: Cleared, *, dry_run: bool) -> list[str]:
    """What went, and what stayed and why."""
    stayed = (
        (cleared.in_use, cleared.in_use_bytes, "in use"),
        (cleared.filled, cleared.filled_bytes, "being fetched"),
        (cleared.pinned, cleared.pinned_bytes, "pinned (--pinned removes them too)"),
    )
    verb = "would stay" if dry_run else "stayed"
    return [
        gone(cleared, dry_run=dry_run),
        *(
            f"{human.count(count, 'object')} {verb} ({human.size(size)}): {why}"
            for count, size, why in stayed
            if count
        ),
    ]
