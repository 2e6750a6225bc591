"""``mirror pin``: keep files whatever happens, and fetch them."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli import human
from mirror.cli.folders import usable_cache
from mirror.cli.running import interruptible
from mirror.cli.values import BELOW
from mirror.cli.warm import as_document, fetching_options, helping, show
from mirror.errors import UsageError
from mirror.traffic import Traffic

if TYPE_CHECKING:
    from mirror.warm import Summary

EXAMPLES = """\b
Examples:
  mirror pin https://data.example.org/imagenet/ labels 'val/**/*.tar'
  mirror pin --no-fetch https://data.example.org/imagenet/ 'train/**'
  mirror pin https://data.example.org/imagenet/ '**'     # everything

\b
Patterns are those of 'mirror warm'. A pin stays until 'mirror unpin': files that appear later and match
are pinned too, and fetched by a mount that sees them.
"""


@click.command(short_help="Keep files in the cache whatever happens, and fetch them.", epilog=EXAMPLES)
@click.argument("source")
@click.argument("patterns", type=BELOW, nargs=-1, required=True, metavar="PATTERN...")
@click.option("--no-fetch", is_flag=True, help="Only record the pins.")
@fetching_options
def pin(
    source: str,
    patterns: tuple[str, ...],
    cache: Path | None,
    no_fetch: bool,
    jobs: int,
    processes: int | None,
    deadline: float,
    max_connections: int,
    bwlimit: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Keep every file of SOURCE that matches a PATTERN in the cache, and fetch what is missing.

    All that is pinned has to fit the limits of the cache; else nothing is changed, and the line says the
    numbers. Exit code 0 only when all of it is there (with --no-fetch: recorded). Stopped by Ctrl-C, the
    pins stay, and the next run goes on.
    """
    if deadline <= 0:
        raise UsageError("--deadline must be above 0")
    from mirror.cli.progress import reporter
    from mirror.pin import pin as keep
    from mirror.remotes import canonical

    url = canonical(source)
    folder = usable_cache(cache)
    recorded: list[bool] = []
    traffic = Traffic(max_connections, bwlimit)
    with (
        helping(
            url, patterns, folder, 1 if no_fetch else processes, jobs=jobs, deadline=deadline, traffic=traffic
        ) as helpers,
        reporter(quiet=quiet) as report,
    ):

        async def work() -> Summary:
            return await keep(
                url,
                patterns,
                folder,
                jobs=jobs,
                deadline=deadline,
                fetching=not no_fetch,
                report=report,
                recorded=lambda: recorded.append(True),
                traffic=traffic,
                helpers=helpers,
            )

        outcome = interruptible(work)
    if isinstance(outcome, signal.Signals):
        how = "the pins are kept, run the same again to go on" if recorded else "nothing was pinned"
        click.echo(f"mirror: stopped; {how}", err=True)
        sys.exit(128 + outcome)
    if recorded and not outcome.files_total and not outcome.failed:
        click.echo("mirror: warning: nothing matches yet; what appears later is pinned", err=True)
    if no_fetch and recorded:
        if as_json:
            click.echo(as_document(outcome))
        elif not quiet:
            total = human.count(outcome.files_total, "file")
            click.echo(f"pinned, not fetched: {total}, {human.size(outcome.bytes_total)}")
        for path, reason in outcome.failures:
            click.echo(f"mirror: warning: {path} is not counted: {reason}", err=True)
        return
    if not show(outcome, quiet=quiet, as_json=as_json, matched=True):
        sys.exit(1)
