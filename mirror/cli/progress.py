"""How far a long run is: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from mirror.cli import human

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from cache.rebuild import Progress as Step
    from mirror.warm import Progress

PLAIN_INTERVAL = 5.0
"""Seconds between two lines where there is no terminal: a log stays readable."""

Report = Callable[["Progress"], None]


@contextmanager
def reporter(*, quiet: bool) -> Iterator[Report]:
    """Give what a run reports its progress to; standard output stays free for the result."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bar() as report:
            yield report
    else:
        yield plain(lambda line: click.echo(line, err=True))


def plain(write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Report:
    """Write a line at most every `PLAIN_INTERVAL` seconds of ``clock``, the first after one interval."""
    started = last = clock()

    def report(progress: Progress) -> None:
        nonlocal last
        now = clock()
        if now - last >= PLAIN_INTERVAL:
            last = now
            write(line(progress, now - started))

    return report


def line(progress: Progress, elapsed: float) -> str:
    """One line: files, bytes, rate, time left; totals are marked ``+`` while the source is being listed."""
    more = "+" if progress.listing else ""
    parts = [
        f"{progress.files_done:,} of {progress.files_total:,}{more} files",
        f"{human.size(there(progress))} of {human.size(progress.bytes_total)}{more}",
        human.rate(progress.bytes_fetched, elapsed),
    ]
    if (left := seconds_left(progress, elapsed)) is not None:
        parts.append(f"{human.time(left)} left")
    if progress.failed:
        parts.append(f"{progress.failed:,} FAILED")
    return ", ".join(parts)


def seconds_left(progress: Progress, elapsed: float) -> float | None:
    """The rest at this run's rate so far; None while the total is not known or nothing was fetched."""
    if progress.listing or not progress.bytes_fetched or elapsed <= 0:
        return None
    return (progress.bytes_total - there(progress)) / (progress.bytes_fetched / elapsed)


def there(progress: Progress) -> int:
    """Bytes that are in the cache, those of incomplete files included: one large file moves the bar too."""
    return min(progress.bytes_total, progress.bytes_done + progress.bytes_under_way)


@contextmanager
def _bar() -> Iterator[Report]:
    from rich import progress as bars
    from rich.console import Console

    started = time.monotonic()
    columns: list[ProgressColumn] = [
        bars.SpinnerColumn(),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.TextColumn("{task.fields[said]}"),
    ]
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, said="listing")

        def report(progress: Progress) -> None:
            bar.update(
                task,
                total=progress.bytes_total or None,
                completed=there(progress),
                said=line(progress, time.monotonic() - started),
            )

        yield report


@contextmanager
def steps() -> Iterator[Callable[[Step], None]]:
    """Give what a check reports its steps to; standard output stays free for the result."""
    if not sys.stderr.isatty():
        yield plain_steps(lambda line: click.echo(line, err=True))
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (bars.SpinnerColumn(), bars.BarColumn(), bars.TextColumn("{task.description}"))
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def report(step: Step) -> None:
            total = step.parts if step.parts > 1 else None
            bar.update(task, total=total, completed=step.done, description=step.step)

        yield report


def plain_steps(
    write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> Callable[[Step], None]:
    """Write a step at most every `PLAIN_INTERVAL` seconds of ``clock``, the first after one interval."""
    last = clock()

    def report(step: Step) -> None:
        nonlocal last
        if clock() - last >= PLAIN_INTERVAL:
            last = clock()
            write(f"{step.step}: {step.done:,} of {step.parts:,}" if step.parts > 1 else step.step)

    return report
