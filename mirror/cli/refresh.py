"""``mirror refresh``: a change at the origin is seen now, also through mounts that are open."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli import failures, human
from mirror.cli.folders import resolved, usable_cache
from mirror.cli.running import Ticker, finished, interruptible
from mirror.cli.values import BELOW, CACHE_OPTION, DEADLINE_OPTION, listing_traffic, traffic_options
from mirror.errors import UsageError

if TYPE_CHECKING:
    from mirror.refreshing import Progress, Summary

EXAMPLES = """\b
Examples:
  mirror refresh https://data.example.org/imagenet/
  mirror refresh https://data.example.org/imagenet/ train/n01440764 labels.csv
  mirror refresh /mnt/imagenet
  mirror refresh /mnt/imagenet/train
"""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@click.command(short_help="See now what changed at an origin.", epilog=EXAMPLES)
@click.argument("what", metavar="SOURCE|MOUNTPOINT")
@click.argument("paths", type=BELOW, nargs=-1, metavar="[PATH]...")
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
@DEADLINE_OPTION
@traffic_options
@click.option("-q", "--quiet", is_flag=True, help="No progress, only what failed.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def refresh(
    what: str,
    paths: tuple[str, ...],
    cache: Path | None,
    jobs: int,
    deadline: float,
    max_connections: int,
    bwlimit: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compare what is known of SOURCE, or of the mount at MOUNTPOINT, with the origin now.

    PATHs are files, or folders with all that was listed below them; without any, everything that was ever
    listed. On return every mount of the source over this cache shows what changed. Exit code 0 only when
    all of it was compared.
    """
    import sys

    if deadline <= 0:
        raise UsageError("--deadline must be above 0")
    from mirror.remotes import canonical

    if _URL.match(what):
        url, wanted = canonical(what), list(paths)
        folder = usable_cache(cache)
    else:
        if cache is not None:
            raise UsageError("--cache goes with a SOURCE: a mount has its own")
        from mirror.refreshing import mounted_at

        target = mounted_at(resolved(Path(what)))
        url, folder = target.source, usable_cache(Path(target.cache))
        wanted = [f"{target.path}/{path}" for path in paths] or [target.path]
    traffic = listing_traffic(jobs, max_connections, bwlimit)
    ticker = Ticker(quiet=quiet)

    def report(progress: Progress) -> None:
        ticker.say(lambda: f"{human.count(progress.folders, 'folder')} compared")

    async def work() -> Summary:
        from mirror.refreshing import refresh as compare

        return await compare(
            url, wanted, folder, jobs=jobs, deadline=deadline, traffic=traffic, report=report
        )

    outcome: Summary | signal.Signals = interruptible(work)
    summary = finished(outcome, "stopped; what was compared so far is known")
    if as_json:
        click.echo(as_document(summary))
    elif not quiet:
        click.echo(sentence(summary))
    failures.show(summary.failures)
    for mountpoint in summary.silent:
        click.echo(f"mirror: {mountpoint} did not say in time that it knows: see 'mirror status'", err=True)
    if not summary.ok:
        sys.exit(1)


def as_document(summary: Summary) -> str:
    """The summary as one JSON object; seconds, and each failure with its path and reason."""
    document = {"ok": summary.ok} | asdict(summary)
    document["failures"] = [{"path": path, "reason": reason} for path, reason in summary.failures]
    return json.dumps(document, indent=2)


def sentence(summary: Summary) -> str:
    """The end of a run in one line."""
    compared = human.count(summary.folders, "folder")
    if summary.files:
        compared += f" and {human.count(summary.files, 'file')}"
    counts = (
        (summary.added, "new"),
        (summary.changed, "changed"),
        (summary.removed, "gone"),
        (summary.failed, "FAILED"),
    )
    found = ", ".join(f"{number:,} {word}" for number, word in counts if number) or "nothing has changed"
    told = f"; told {human.count(len(summary.mounts), 'mount')}" if summary.mounts else ""
    return f"{compared} compared: {found}{told}"
