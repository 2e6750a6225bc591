"""``mirror index``: all listings of a source into the cache, so that they are never asked for one by one."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli import failures, human
from mirror.cli.folders import usable_cache
from mirror.cli.running import interruptible
from mirror.cli.values import BELOW, CACHE_OPTION, DEADLINE_OPTION, listing_traffic, traffic_options
from mirror.errors import UsageError

if TYPE_CHECKING:
    from mirror.indexing import Progress, Summary

PLAIN_INTERVAL = 5.0
"""Seconds between two lines where there is no terminal."""

EXAMPLES = """\b
Examples:
  mirror index https://data.example.org/imagenet/
  mirror index https://data.example.org/imagenet/ train
  mirror index --jobs 32 --json https://data.example.org/ > summary.json

\b
Afterwards, without the origin:
  mirror ls -R --offline https://data.example.org/imagenet/
  mirror mount --ttl inf https://data.example.org/imagenet/ /mnt/imagenet
"""


@click.command(short_help="List a whole source into the cache, ahead of use.", epilog=EXAMPLES)
@click.argument("source")
@click.argument("path", type=BELOW, default="")
@CACHE_OPTION
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    metavar="N",
    help="Folders listed at once.",
)
@click.option("--anew", is_flag=True, help="Begin anew, also where an earlier run was stopped.")
@DEADLINE_OPTION
@traffic_options
@click.option("-q", "--quiet", is_flag=True, help="No progress, only what failed.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def index(
    source: str,
    path: str,
    cache: Path | None,
    jobs: int,
    anew: bool,
    deadline: float,
    max_connections: int,
    bwlimit: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """List SOURCE, or the folder PATH of it, with all that lies below, into the cache.

    Afterwards every folder lists from the index, also after a restart and without the origin. Stopped or
    killed, it goes on where it was. Exit code 0 only when every folder is listed.
    """
    if deadline <= 0:
        raise UsageError("--deadline must be above 0")
    from mirror.remotes import canonical

    url = canonical(source)
    folder = usable_cache(cache)
    traffic = listing_traffic(jobs, max_connections, bwlimit)

    with reporter(quiet=quiet) as report:

        async def work() -> Summary:
            from mirror.indexing import index as make

            return await make(
                url, path, folder, jobs=jobs, deadline=deadline, traffic=traffic, report=report, anew=anew
            )

        outcome = interruptible(work)
    if isinstance(outcome, signal.Signals):
        how = "without --anew" if anew else "the same"
        click.echo(f"mirror: stopped; what was listed is kept, run {how} again to go on", err=True)
        sys.exit(128 + outcome)
    if as_json:
        click.echo(as_document(outcome))
    elif not quiet:
        click.echo(sentence(outcome))
    failures.show(outcome.failures)
    if not outcome.ok:
        sys.exit(1)


def as_document(summary: Summary) -> str:
    """The summary as one JSON object; seconds, and each failure with its path and reason."""
    document = {"ok": summary.ok} | asdict(summary)
    document["failures"] = [{"path": path, "reason": reason} for path, reason in summary.failures]
    return json.dumps(document, indent=2)


def sentence(summary: Summary) -> str:
    """The end of a run in one line."""
    known = f"{human.count(summary.files_known, 'file')} in {human.count(summary.folders_known, 'folder')}"
    parts = [f"{known}: {human.count(summary.requests, 'request')} in {human.time(summary.elapsed)}"]
    for number, what in ((summary.added, "new"), (summary.changed, "changed"), (summary.removed, "gone")):
        if number:
            parts.append(f"{number:,} {what}")
    if summary.failed:
        parts.append(f"{human.count(summary.failed, 'folder')} FAILED")
    return ", ".join(parts)


def line(progress: Progress, elapsed: float) -> str:
    """How far a run is, in one line."""
    rate = progress.files / elapsed if elapsed > 0 else 0.0
    parts = [
        human.count(progress.files, "file"),
        human.count(progress.folders, "folder"),
        f"{rate:,.0f} files/s",
    ]
    if progress.failed:
        parts.append(f"{progress.failed:,} FAILED")
    return ", ".join(parts)


@contextmanager
def reporter(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Give what a run reports its progress to; standard output stays free for the result."""
    began = last = time.monotonic()
    if quiet:
        yield lambda _: None
        return
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("listing") as status:
            yield lambda progress: status.update(line(progress, time.monotonic() - began))
        return

    def plain(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_INTERVAL:
            last = now
            click.echo(line(progress, now - began), err=True)

    yield plain
