"""Measure what a mount costs and gives: ``python -m tests.bench --json bench.json``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from tests.bench import cold, eviction, far, index, listing, loop, memory, rclone, report, together, warm
from tests.bench.measure import Result
from tests.bench.stand import QUICK, Scale, stand

ON_THE_STAND = (warm, cold, memory, index, listing, loop, together, rclone, far)
"""What needs mounts, a web server and files; eviction does not."""
KEYS = [row.key for module in (*ON_THE_STAND, eviction) for row in module.ROWS]
GROUPS = {module.GROUP: [row.key for row in module.ROWS] for module in (eviction, index, listing, rclone)}


@click.command()
@click.option(
    "--only",
    "only",
    type=click.Choice([*KEYS, *GROUPS]),
    multiple=True,
    help="Measure this row or group only; repeatable.",
)
@click.option("--quick", is_flag=True, help="Less of everything: shows that it runs, its ratios are a hint.")
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds of every comparison.")
@click.option("--folder", type=click.Path(path_type=Path, exists=True), help="Where the scratch folder goes.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write all figures to this file.")
@click.option("--readme", type=click.Path(path_type=Path, exists=True), help="Put the table into this file.")
@click.option("--check", is_flag=True, help="Exit code 1 when a row is not what it must be.")
def main(
    only: tuple[str, ...],
    quick: bool,
    rounds: int | None,
    folder: Path | None,
    target: Path | None,
    readme: Path | None,
    check: bool,
) -> None:
    """Measure every row, print a table, write JSON."""
    scale = QUICK if quick else Scale()
    if rounds is not None:
        scale = replace(scale, rounds=rounds, cold_rounds=rounds)
    wanted = {key for name in only or KEYS for key in GROUPS.get(name, [name])}
    about = {**report.machine(folder or Path(tempfile.gettempdir())), "quick": quick}
    results = []
    for result in _all(wanted, scale, folder):
        results.append(result)
        click.echo(f"{result.row.title}: {result.ratio:.2f} of {result.row.against}", err=True)
    report.show(results)
    if target is not None:
        rows = [result.as_json() for result in results]
        target.write_text(json.dumps({"machine": about, "rows": rows}, indent=2, ensure_ascii=False) + "\n")
    if readme is not None:
        report.write_readme(readme, results)
    if check and any(result.ok is False for result in results):
        raise SystemExit(1)


def _all(wanted: set[str], scale: Scale, folder: Path | None) -> Iterator[Result]:
    if wanted & {row.key for module in ON_THE_STAND for row in module.ROWS}:
        with stand(scale, folder) as bench:
            for module in ON_THE_STAND:
                yield from module.measure(bench, wanted)
    yield from eviction.measure(wanted)


if __name__ == "__main__":
    main()
