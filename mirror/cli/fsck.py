"""``mirror fsck``: check a cache, repair it, and say what was wrong; the exit code says how it ended."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli import human
from mirror.cli.folders import default_cache, resolved
from mirror.cli.values import CACHE_OPTION

if TYPE_CHECKING:
    from cache.fsck import Result

SHOWN = 20
"""So many findings are printed; ``--json`` has all of them."""

CANNOT = 2

EXAMPLES = """\b
Examples:
  mirror fsck
  mirror fsck --dry-run --cache /nvme/cache
  mirror fsck --json | jq '.findings[].what'
  mirror fsck --rebuild                  # throw the index away, make it anew from the objects

\b
Exit code 0: nothing was wrong. 1: something was, and is repaired (with --dry-run: would be).
2: something is wrong still, or it could not be checked; the line says why.
"""


@click.command(short_help="Check the cache and repair it.", epilog=EXAMPLES)
@CACHE_OPTION
@click.option("--rebuild", is_flag=True, help="Throw the index away and make it anew from the objects.")
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing, only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print all that was found as JSON.")
def fsck(cache: Path | None, rebuild: bool, dry_run: bool, as_json: bool) -> None:
    """Check the index against itself and against the cached objects, both ways, and repair what is wrong.

    Works while mounts use the cache, but for an index that has to be made anew. The bytes of files are not
    read again.
    """
    from cache import CacheError
    from cache.fsck import fsck as check
    from mirror.cli.progress import steps

    folder = resolved(default_cache() if cache is None else cache)
    try:
        with steps() as report:
            result = check(folder, anew=rebuild, dry_run=dry_run, report=report)
    except CacheError as error:
        if as_json:
            click.echo(json.dumps({"verdict": "cannot", "error": str(error)}, indent=2))
        click.echo(f"mirror: {' '.join(str(error).split())}", err=True)
        sys.exit(CANNOT)
    if as_json:
        click.echo(as_document(result))
    else:
        _show(result)
    sys.exit(result.verdict)


def as_document(result: Result) -> str:
    """All that was found, as one JSON object."""
    return json.dumps({"verdict": result.verdict.name.lower()} | asdict(result), indent=2)


def _show(result: Result) -> None:
    for finding in result.findings[:SHOWN]:
        click.echo(f"{finding.what}: {finding.done}")
    if (hidden := len(result.findings) - SHOWN) > 0:
        click.echo(f"… and {human.count(hidden, 'more finding')}")
    if result.left_alone:
        several = len(result.left_alone) - 1
        more = f" and {several:,} more" if several else ""
        click.echo(f"left alone, for it is none of the cache's files: {result.left_alone[0]}{more}")
    click.echo(sentence(result))


def sentence(result: Result) -> str:
    """The end of a check in one line."""
    there = f"{human.count(result.objects, 'complete object')} ({human.size(result.bytes)})"
    if result.partial:
        there += f", {result.partial:,} incomplete"
    if not result.findings:
        return f"{there}: clean"
    wrong = human.count(len(result.findings), "thing") + " wrong"
    unfixed = sum(not finding.fixed for finding in result.findings)
    if unfixed:
        return f"{there}: {wrong}, {unfixed:,} of them NOT repaired"
    return f"{there}: {wrong}, {'nothing was changed yet' if result.dry_run else 'repaired'}"
