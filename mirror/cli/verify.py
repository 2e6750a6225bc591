"""``mirror verify``: read the cache again, say what is damaged, and fetch that anew."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli import human
from mirror.cli.folders import existing_cache
from mirror.cli.values import BELOW, CACHE_OPTION, DEADLINE_OPTION, SIZE, traffic_options
from mirror.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mirror.verify import Damage, Summary

SHOWN = 20
"""So many of the damaged files are printed; ``--json`` has all of them."""
EXAMPLES = """\b
Examples:
  mirror verify https://data.example.org/imagenet/
  mirror verify https://data.example.org/imagenet/ 'train/**/*.tar'
  mirror verify --all --rate 50M
  mirror verify --all --json > report.json

\b
Exit codes:
  0   everything that is cached is what came from the origin
  1   something was damaged; it was removed, and fetched again where the origin answers
  2   nothing was damaged, but not everything could be checked
"""


@click.command(short_help="Read the cache again and compare it with its checksums.", epilog=EXAMPLES)
@click.argument("source", required=False)
@click.argument("patterns", type=BELOW, nargs=-1, metavar="[PATTERN]...")
@click.option("--all", "everything", is_flag=True, help="Every source of the cache.")
@CACHE_OPTION
@click.option(
    "--rate", callback=SIZE, metavar="SIZE", help="Most bytes to read in a second.  [default: no limit]"
)
@click.option("--no-refetch", is_flag=True, help="Remove what is damaged, fetch nothing.")
@DEADLINE_OPTION
@traffic_options
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary, only what is damaged.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def verify(
    source: str | None,
    patterns: tuple[str, ...],
    everything: bool,
    cache: Path | None,
    rate: int | None,
    no_refetch: bool,
    deadline: float,
    max_connections: int,
    bwlimit: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Read what is cached of SOURCE again, all of it or what matches a PATTERN, and compare it.

    Works mounted or not. What is damaged is removed, and fetched again where the origin answers.
    """
    if everything == (source is not None):
        raise UsageError("name a SOURCE, or --all for every source of the cache")
    if deadline <= 0:
        raise UsageError("--deadline must be above 0")
    from mirror.cli.running import finished, interruptible
    from mirror.remotes import key
    from mirror.traffic import Traffic
    from mirror.verify import verify as check

    url = None if source is None else key(source)
    folder = existing_cache(cache)
    with _reporter(quiet=quiet) as report:
        work = partial(
            check,
            url,
            patterns,
            folder,
            rate=float(rate or 0),
            deadline=deadline,
            refetch=not no_refetch,
            report=report,
            traffic=Traffic(max_connections, bwlimit),
        )
        stopped_or_done = interruptible(work)
    outcome = finished(stopped_or_done, "stopped; what was checked until then is noted")
    if as_json:
        click.echo(as_document(outcome))
    elif not quiet:
        click.echo(sentence(outcome, url, patterns))
    _say_what_is_wrong(outcome)
    sys.exit(outcome.exit_code)


def _say_what_is_wrong(outcome: Summary) -> None:
    lines = [describe(damage) for damage in outcome.damage]
    lines += [f"{path}: not checked: {reason}" for path, reason in outcome.unchecked]
    for line in lines[:SHOWN]:
        click.echo(f"mirror: {line}", err=True)
    if (hidden := len(lines) - SHOWN) > 0:
        click.echo(f"mirror: … and {human.count(hidden, 'more file')}; --json has all", err=True)


def describe(damage: Damage) -> str:
    """One damaged file in a line."""
    where = ", ".join(f"bytes {start:,} to {stop:,}" for start, stop in damage.ranges[:3])
    if len(damage.ranges) > 3:
        where += ", …"
    done = "fetched again" if damage.refetched else f"removed{f' ({damage.reason})' if damage.reason else ''}"
    return f"{damage.path}: damaged{f' ({where})' if where else ''}, {done}"


def sentence(outcome: Summary, url: str | None, patterns: Sequence[str]) -> str:
    """The end of a run over a source (None: all) in one line."""
    rate = human.rate(outcome.bytes_done, outcome.elapsed)
    checked = human.count(outcome.objects_done, "file")
    parts = [f"{checked} checked ({human.size(outcome.bytes_done)} in {human.time(outcome.elapsed)}, {rate})"]
    if not outcome.objects_done:
        parts = [f"nothing is cached{'' if url is None else f' of {url}'}"]
        if patterns:
            parts = [f"nothing that is cached of {url} matches {' '.join(patterns)}"]
    elif outcome.exit_code == 0:
        parts.append("all good")
    if outcome.bad:
        parts.append(f"{outcome.bad:,} DAMAGED, {outcome.refetched:,} of them fetched again")
    if outcome.unknown or outcome.failed:
        parts.append(f"{outcome.unknown + outcome.failed:,} could not be checked")
    return ", ".join(parts)


def as_document(outcome: Summary) -> str:
    """The outcome as JSON."""
    document = asdict(outcome) | {
        "ok": outcome.exit_code == 0,
        "unchecked": [{"path": path, "reason": reason} for path, reason in outcome.unchecked],
    }
    return json.dumps(document, indent=2)


@contextmanager
def _reporter(*, quiet: bool) -> Iterator[Callable[[Summary], None]]:
    """Give what a run reports its progress to; without a terminal it is not shown."""
    if quiet:
        yield lambda _: None
        return
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        bars.SpinnerColumn(),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.TextColumn("{task.description}"),
    )
    with bars.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def report(summary: Summary) -> None:
            said = f"{summary.objects_done:,} of {summary.objects_total:,} files"
            if summary.bad:
                said += f", {summary.bad:,} DAMAGED"
            bar.update(
                task, total=summary.bytes_total or None, completed=summary.bytes_done, description=said
            )

        yield report
