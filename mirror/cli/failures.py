"""What failed, as the commands that work on many files say it at their end."""

from __future__ import annotations

from collections.abc import Sequence

import click

from mirror.cli import human

SHOWN = 10
"""So many of the failures are printed; ``--json`` has all of them."""


def show(failures: Sequence[tuple[str, str]]) -> None:
    """Print the first of them, each a path and a reason, on standard error."""
    for path, reason in failures[:SHOWN]:
        click.echo(f"mirror: {line(path, reason)}", err=True)
    if (hidden := len(failures) - SHOWN) > 0:
        click.echo(f"mirror: … and {human.count(hidden, 'more failure')}", err=True)


def line(path: str, reason: str) -> str:
    """Path and reason, the path once where the reason begins with it, and harmless to a terminal."""
    return human.name(reason if reason.startswith(f"{path}: ") else f"{path}: {reason}")
