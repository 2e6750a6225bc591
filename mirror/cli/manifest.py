"""``mirror manifest``: a list of the files of a source, to be a source itself, or to be compared."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli import failures, human
from mirror.cli.folders import absolute, usable_cache
from mirror.cli.running import interruptible
from mirror.cli.values import BELOW, CACHE_OPTION, DEADLINE_OPTION, PATH, traffic_options
from mirror.errors import MirrorError, UsageError

if TYPE_CHECKING:
    from mirror.manifest import Written

EXAMPLES = """\b
Examples:
  mirror manifest https://data.example.org/imagenet/ --output imagenet.jsonl
  mirror manifest https://data.example.org/imagenet/ 'train/**' --sha256 --output train.parquet
  mirror manifest file:///mnt/nfs/set --format csv | sort > set.csv
  mirror mount manifest+file:///data/imagenet.jsonl /mnt/imagenet

\b
A row has path, url, size, mtime, sha256, md5, crc32c and etag, as far as they are known. Patterns are those
of 'mirror warm'.
"""


@click.command(short_help="Write a list of the files of a source.", epilog=EXAMPLES)
@click.argument("source")
@click.argument("patterns", type=BELOW, nargs=-1, metavar="[PATTERN]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv", "parquet"]),
    help="Form of the list.  [default: by the extension of --output, else jsonl]",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="FILE",
    help="Where to; it appears when it is complete. '-' is standard output.  [default: -]",
)
@click.option(
    "--sha256",
    is_flag=True,
    help="Compute the sha256 of all files; what is not cached is fetched into the cache.",
)
@CACHE_OPTION
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 256),
    default=8,
    show_default=True,
    metavar="N",
    help="Files asked about, or fetched, at once.",
)
@DEADLINE_OPTION
@traffic_options
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary, only what failed.")
def manifest(
    source: str,
    patterns: tuple[str, ...],
    form: str | None,
    output: Path | None,
    sha256: bool,
    cache: Path | None,
    jobs: int,
    deadline: float,
    max_connections: int,
    bwlimit: str | None,
    quiet: bool,
) -> None:
    """Write a row for every file of SOURCE that matches a PATTERN; for all files without one.

    A list is whole or not there: when a folder or a file cannot be had, or the command is stopped, no file is
    left, and one that was there stays. Exit code 0 only when all of it is written.
    """
    if deadline <= 0:
        raise UsageError("--deadline must be above 0")
    from mirror.cli.progress import reporter
    from mirror.remotes import canonical
    from mirror.remotes.manifest import output as out
    from mirror.traffic import Traffic

    url = canonical(source)
    folder = usable_cache(cache)
    target = None if output is None or str(output) == "-" else absolute(output)
    out.check(target)

    with reporter(quiet=quiet) as report:

        async def work() -> Written:
            import trio

            from mirror.manifest import write_manifest

            # Whoever waits for signals gets a turn before there is anything to clean up.
            await trio.lowlevel.checkpoint()
            with out.opened(target, out.format_of(form, target)) as writer:
                written = await write_manifest(
                    url,
                    patterns,
                    folder,
                    writer,
                    sha256=sha256,
                    jobs=jobs,
                    deadline=deadline,
                    report=report,
                    traffic=Traffic(max_connections, bwlimit),
                )
                if written.failures:
                    raise _IncompleteError(written)
                if patterns and not written.files_total:
                    what = " ".join(patterns)
                    raise MirrorError(
                        f"nothing in {url} matches {what}: see 'mirror warm --help' for patterns"
                    )
            return written

        try:
            outcome = interruptible(work)
        except _IncompleteError as exc:
            _show_failures(exc.written)
            sys.exit(1)
    if isinstance(outcome, signal.Signals):
        click.echo("mirror: stopped; no list was written", err=True)
        sys.exit(128 + outcome)
    if outcome.elsewhere:
        click.echo(f"mirror: warning: {elsewhere(outcome)}", err=True)
    if not quiet:
        click.echo(sentence(outcome, target), err=True)


class _IncompleteError(MirrorError):
    """Something could not be had: what was written is thrown away."""

    def __init__(self, written: Written) -> None:
        super().__init__("the list is not complete")
        self.written = written


def _show_failures(written: Written) -> None:
    failures.show(written.failures)
    click.echo("mirror: the list would not be complete: it was not written", err=True)


def elsewhere(written: Written) -> str:
    """What the URLs of a list are not good for."""
    which = "files have" if written.elsewhere != 1 else "file has"
    return (
        f"{written.elsewhere:,} {which} no URL that a manifest as a source can fetch: the list says what "
        "there is, and cannot be mounted"
    )


def sentence(written: Written, output: Path | None) -> str:
    """The end of a run in one line."""
    where = "" if output is None else f", written to {human.name(str(output))}"
    return f"{human.count(written.files_done, 'file')}, {human.size(written.bytes_done)}{where}"
