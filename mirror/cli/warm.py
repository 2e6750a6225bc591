"""``mirror warm``: fetch ahead of use, show how far it is, and say exactly what is missing at the end.

A signal cancels the run in an orderly way (parts that were fetched stay, and the next run goes on there);
a second one ends the process at once.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli import failures, human
from mirror.cli.folders import usable_cache
from mirror.cli.running import interruptible
from mirror.cli.values import (
    BELOW,
    CACHE_OPTION,
    DEADLINE_OPTION,
    limit_options,
    processes_option,
    traffic_options,
)
from mirror.errors import MirrorError, UsageError
from mirror.traffic import Traffic

if TYPE_CHECKING:
    from mirror.crew import Helper
    from mirror.warm import Summary


EXAMPLES = """\b
Examples:
  mirror warm https://data.example.org/imagenet/
  mirror warm https://data.example.org/imagenet/ 'train/**/*.tar' labels
  mirror warm --cache /nvme/cache --jobs 16 --json https://data.example.org/ > summary.json
  mirror warm --cache-size 200G --min-free 10% https://data.example.org/ 'train/**'

\b
Patterns are compared with the path below SOURCE (quote them, or the shell reads them first):
  *  ?  [a-z]   within one name
  **            any number of folders
  labels        a folder's name: everything below it
"""


def fetching_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what every command has that fetches: cache, jobs, deadline, and how it reports."""
    for option in reversed(
        (
            CACHE_OPTION,
            click.option(
                "-j",
                "--jobs",
                type=click.IntRange(1, 256),
                default=8,
                show_default=True,
                metavar="N",
                help="Files fetched at once.",
            ),
            processes_option,
            DEADLINE_OPTION,
            traffic_options,
            click.option("-q", "--quiet", is_flag=True, help="No progress, only what failed."),
            click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
        )
    ):
        command = option(command)
    return command


@click.command(short_help="Fetch files into the cache ahead of use.", epilog=EXAMPLES)
@click.argument("source")
@click.argument("patterns", type=BELOW, nargs=-1, metavar="[PATTERN]...")
@limit_options
@fetching_options
def warm(
    source: str,
    patterns: tuple[str, ...],
    cache: Path | None,
    cache_size: str | None,
    min_free: str | None,
    jobs: int,
    processes: int | None,
    deadline: float,
    max_connections: int,
    bwlimit: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fetch every file of SOURCE that matches a PATTERN into the cache; all files without one.

    Works mounted or not, and goes on where it was stopped. Exit code 0 only when all of it is there. What
    the cache may not hold is refused as soon as that is seen.
    """
    if deadline <= 0:
        raise UsageError("--deadline must be above 0")
    from mirror.cli.progress import reporter
    from mirror.remotes import canonical
    from mirror.warm import warm as fetch

    url = canonical(source)
    folder = usable_cache(cache)
    traffic = Traffic(max_connections, bwlimit)
    with (
        helping(url, patterns, folder, processes, jobs=jobs, deadline=deadline, traffic=traffic) as helpers,
        reporter(quiet=quiet) as report,
    ):

        async def work() -> Summary:
            return await fetch(
                url,
                patterns,
                folder,
                jobs=jobs,
                deadline=deadline,
                traffic=traffic,
                report=report,
                helpers=helpers,
                cache_size=cache_size,
                min_free=min_free,
            )

        outcome = interruptible(work)
    if isinstance(outcome, signal.Signals):
        click.echo("mirror: stopped; what was fetched is kept, run the same again to go on", err=True)
        sys.exit(128 + outcome)
    if show(outcome, quiet=quiet, as_json=as_json, matched=bool(outcome.files_total or not patterns)):
        return
    if patterns and not outcome.files_total and not outcome.failed:
        raise MirrorError(
            f"nothing in {url} matches {' '.join(patterns)}: see 'mirror warm --help' for patterns"
        )
    sys.exit(1)


@contextmanager
def helping(
    source: str,
    patterns: Sequence[str],
    cache: Path,
    processes: int | None,
    *,
    jobs: int,
    deadline: float,
    traffic: Traffic,
) -> Iterator[Sequence[Helper]]:
    """Have processes ready that share the work of a run. To be entered while there are no threads.

    Args:
        source: the source, canonical.
        patterns: what is fetched of it.
        cache: the cache folder.
        processes: what the user says of their number.
        jobs: files fetched at once, by all together.
        deadline: of the run.
        traffic: what all together may ask of the network.
    """
    from mirror.crew import Job, forked, help_out, helpers_share, size_of_crew
    from mirror.selection import read_patterns
    from mirror.steady import keep_steps_short

    keep_steps_short()
    crew = size_of_crew(processes, jobs, traffic)
    job = Job(
        source,
        read_patterns(patterns),
        cache,
        time.time(),
        deadline,
        helpers_share(jobs, crew),
        Traffic(helpers_share(traffic.connections, crew)),
    )
    with forked(crew - 1, partial(help_out, job)) as helpers:
        yield helpers


def show(outcome: Summary, *, quiet: bool, as_json: bool, matched: bool) -> bool:
    """Print the end of a run; returns whether all of it is there (and there was something)."""
    if as_json:
        click.echo(as_document(outcome))
    elif not quiet and outcome.refused is None and (matched or outcome.failed):
        click.echo(sentence(outcome))
    failures.show(outcome.failures)
    if outcome.refused is not None:
        click.echo(f"mirror: {outcome.refused}", err=True)
    return outcome.ok and matched


def as_document(summary: Summary) -> str:
    """The summary as one JSON object; bytes, seconds, and each failure with its path and reason."""
    document = (
        {"ok": summary.ok}
        | asdict(summary)
        | {
            "failures": [{"path": path, "reason": reason} for path, reason in summary.failures],
        }
    )
    del document["listing"], document["bytes_under_way"]  # of a run that goes on
    return json.dumps(document, indent=2)


def sentence(summary: Summary) -> str:
    """The end of a run in one line."""
    total = f"{human.count(summary.files_total, 'file')}, {human.size(summary.bytes_total)}"
    there = summary.files_done - summary.files_fetched
    if summary.ok and there == summary.files_total > 0:
        return f"{total}: all there already, nothing to fetch"
    parts = []
    if summary.files_fetched or not there:
        rate = human.rate(summary.bytes_fetched, summary.elapsed)
        parts.append(
            f"{human.count(summary.files_fetched, 'file')} fetched "
            f"({human.size(summary.bytes_fetched)} in {human.time(summary.elapsed)}, {rate})"
        )
    if there:
        parts.append(f"{human.count(there, 'file')} already there")
    if summary.failed:
        parts.append(f"{summary.failed:,} FAILED")
    return f"{total}: {', '.join(parts)}"
