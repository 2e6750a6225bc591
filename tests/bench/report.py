"""The bench's table for people and its JSON for scripts."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mirror.doctor import interpreter
from tests.bench.measure import OURS, PLAIN, REFERENCE, Result
from tests.support.mountinfo import mounts


def show(results: Sequence[Result]) -> None:
    """Print one line for each row."""
    table = Table(
        title="ratios within one run: ours / reference, medians of interleaved rounds", pad_edge=False
    )
    for name in ("row", "against"):
        table.add_column(name)
    for name in ("ours", "reference", "no passthrough", "ratio", "must", "aim"):
        table.add_column(name, justify="right")
    table.add_column("ok?")
    for result in results:
        row = result.row
        table.add_row(
            row.title,
            row.against,
            *(_figure(result.median(side), row.unit) for side in (OURS, REFERENCE, PLAIN)),
            f"{result.ratio:.2f}",
            _limit(row.must, more_is_better=row.more_is_better),
            _limit(row.aim, more_is_better=row.more_is_better),
            verdict(result),
        )
    console = Console()
    # In a pipe there is no terminal to fit into, and a cut table is no use in a log.
    console.width = max(console.width, 150) if not console.is_terminal else console.width
    console.print(table)


def markdown(results: Sequence[Result]) -> str:
    """The table of the README."""
    lines = [
        "| | this mount | plain FUSE (`-o no_passthrough`) | reference | ratio |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        ours, reference, plain = (
            _figure(result.median(side), result.row.unit) for side in (OURS, REFERENCE, PLAIN)
        )
        against = f"{reference} ({result.row.against})" if reference and not result.row.absolute else ""
        ratio = f"{result.ratio:.2f}" if against else ""
        lines.append(f"| {result.row.title} | **{ours}** | {plain} | {against} | {ratio} |")
    return "\n".join(lines) + "\n"


def write_readme(readme: Path, results: Sequence[Result]) -> None:
    """Replace the table between the README's two bench markers."""
    text = readme.read_text()
    head, begin, rest = text.partition("<!-- bench:begin")
    marker, _, rest = rest.partition("\n")
    _, end, tail = rest.partition("<!-- bench:end -->")
    if not (begin and end):
        raise ValueError(f"{readme} has no bench markers")
    readme.write_text(f"{head}{begin}{marker}\n{markdown(results)}{end}{tail}")


def verdict(result: Result) -> str:
    """One word: reached the aim, kept the must, or not."""
    if result.ok is None:
        return "-"
    if not result.ok:
        return "[bold red]NO[/]"
    return "[green]aim[/]" if result.aim_ok else "must"


def machine(folder: Path) -> dict[str, object]:
    """What the figures were measured on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        "",
    )
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    version, options, distribution = interpreter.running()
    where = folder.resolve()
    holding = [m for m in mounts() if where.is_relative_to(m.path)]
    return {
        "kernel": platform.release(),
        "python": interpreter.python(version, options, distribution=distribution).seen,
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(memory) // 1024,
        "file_system": max(holding, key=lambda m: len(m.path.parts)).fstype if holding else "",
        "root": os.geteuid() == 0,
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return (f"{value:,.2f} {unit}" if value < 100 else f"{value:,.0f} {unit}").rstrip()


def _limit(value: float | None, *, more_is_better: bool) -> str:
    if value is None:
        return ""
    return f"{'≥' if more_is_better else '≤'} {value:g}"
