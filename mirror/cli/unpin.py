"""``mirror unpin``: take pins back. The files stay until their room is wanted."""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import human
from mirror.cli.folders import existing_cache
from mirror.cli.running import finished, interruptible
from mirror.cli.values import BELOW, CACHE_OPTION
from mirror.errors import SetupError, UsageError

EXAMPLES = """\b
Examples:
  mirror unpin https://data.example.org/imagenet/ 'val/**/*.tar'
  mirror unpin https://data.example.org/imagenet/ --all
  mirror unpin --all                                       # of all sources
"""


@click.command(short_help="Take pins back.", epilog=EXAMPLES)
@click.argument("source", required=False)
@click.argument("patterns", type=BELOW, nargs=-1, metavar="[PATTERN]...")
@click.option("--all", "all_", is_flag=True, help="All pins of SOURCE; without a SOURCE, of all sources.")
@CACHE_OPTION
def unpin(source: str | None, patterns: tuple[str, ...], all_: bool, cache: Path | None) -> None:
    """Take back the pins of SOURCE that were made with these PATTERNs, as 'mirror pins' shows them.

    What was pinned stays in the cache, and may be evicted from now on.
    """
    if all_ and patterns:
        raise UsageError("--all takes back every pin: leave out the patterns, or --all")
    if not all_ and (source is None or not patterns):
        raise UsageError("name a source and its patterns, or --all: 'mirror pins' shows what is pinned")
    from mirror.remotes import key

    url = None if source is None else key(source)
    folder = existing_cache(cache)

    async def work() -> list[tuple[str, str]]:
        from cache import Cache
        from mirror.selection import root_of

        async with Cache.open(folder) as opened:
            roots = [root for _, root in opened.tree.sources()] if url is None else [root_of(opened, url)]
            gone = []
            for root in roots:
                removed = await opened.pins.remove(root.id, None if all_ else patterns)
                gone += [(root.name, pattern) for pattern in removed]
            return gone

    gone = finished(interruptible(work))
    missing = sorted(set(patterns) - {pattern for _, pattern in gone})
    if gone:
        click.echo(f"{human.count(len(gone), 'pin')} taken back; the files stay until their room is wanted")
    if missing or not gone:
        what = " ".join(missing) or "nothing"
        raise SetupError(
            f"not pinned: {what}: 'mirror pins' shows what is" if missing else "nothing is pinned"
        )
