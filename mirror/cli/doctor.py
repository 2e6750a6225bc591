"""``mirror doctor``: one line for each thing a mount needs, with what to do where it is not so."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli.folders import default_cache, resolved
from mirror.cli.values import CACHE_OPTION

if TYPE_CHECKING:
    from mirror.doctor import Finding

EXAMPLES = """\b
Examples:
  mirror doctor
  sudo mirror doctor                     # also tries whether the kernel takes a cached file
  mirror doctor --cache /nvme/cache
  mirror doctor --json | jq '.[] | select(.verdict != "ok")'
"""


@click.command(short_help="Check what this machine can do for a mount.", epilog=EXAMPLES)
@CACHE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print a list with one object for each check.")
def doctor(cache: Path | None, as_json: bool) -> None:
    """Check what this machine can do for a mount, and say what to change.

    Exit code 1 when no mount can work; what is only slower is a warning.
    """
    from mirror.doctor import Verdict, examine

    findings = examine(resolved(default_cache() if cache is None else cache))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _show(findings)
    sys.exit(1 if any(finding.verdict is Verdict.FAIL for finding in findings) else 0)


def _show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        said = Text(finding.seen)
        if finding.advice:
            said.append(f"\n-> {finding.advice}", style="dim")
        table.add_row(Text(finding.verdict.value, style=colours[finding.verdict.value]), finding.check, said)
    Console(highlight=False).print(table)
