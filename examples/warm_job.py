"""A job that fills the cache over night: ``warm`` from Python, tried again until everything is there.

    python examples/warm_job.py https://data.example.org/tree/ 'train/**/*.tar' --rounds 5

Made for cron or a unit's timer: one line a minute, exit code 0 only when every file that matches is in the
cache. Stopped and started again, it goes on where it was; mounts of the same cache see each file at once.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import trio

from cache import CacheError
from mirror.cli.folders import default_cache
from mirror.errors import MirrorError, UsageError
from mirror.warm import Progress, Summary, warm

LINE_EVERY = 60.0
"""Seconds between two lines of progress."""
FIRST_PAUSE = 30.0
"""Seconds before the second round; each further pause is twice as long."""


class Log:
    """Writes a line now and then."""

    def __init__(self) -> None:
        """The first line comes with the first report."""
        self._due = 0.0

    def __call__(self, progress: Progress) -> None:
        """Take a report, of which there are many."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + LINE_EVERY
            done, total = progress.bytes_done / 1e6, progress.bytes_total / 1e6
            total_files = f"{progress.files_total:,}{'+' if progress.listing else ''}"
            print(f"{progress.files_done:,} of {total_files} files, {done:,.0f} of {total:,.0f} MB")


def main() -> None:
    """Run rounds until one of them leaves nothing to fetch."""
    parser = argparse.ArgumentParser(description="Fill the cache, and try again until it is full.")
    parser.add_argument("source")
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    pause = FIRST_PAUSE
    for left in reversed(range(options.rounds)):
        try:
            summary = one_round(options.source, options.patterns, options.cache, options.jobs)
        except UsageError as error:
            # Trying again would not help.
            print(error, file=sys.stderr)
            sys.exit(2)
        except (MirrorError, CacheError) as error:
            print(error, file=sys.stderr)
        else:
            print(
                f"{summary.files_fetched:,} files fetched, {summary.failed:,} failed, {summary.elapsed:.0f} s"
            )
            if summary.ok:
                return
            for path, reason in summary.failures[:10]:
                print(f"{path}: {reason}", file=sys.stderr)
        if left:
            time.sleep(pause)
            pause *= 2
    sys.exit(1)


def one_round(source: str, patterns: list[str], cache: Path, jobs: int) -> Summary:
    """Fetch once what is missing."""

    async def run() -> Summary:
        return await warm(source, patterns, cache, jobs=jobs, deadline=30.0, report=Log())

    return trio.run(run)


if __name__ == "__main__":
    main()
