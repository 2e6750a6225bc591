"""``mirror ls``: a folder of a source, with what is here of each file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mirror.cli import human
from mirror.cli.folders import existing_cache, usable_cache
from mirror.cli.running import finished, interruptible
from mirror.cli.values import BELOW, CACHE_OPTION, DEADLINE_OPTION, DURATION
from mirror.errors import UsageError

if TYPE_CHECKING:
    from mirror.browse import Listed

EXAMPLES = """\b
Examples:
  mirror ls https://data.example.org/imagenet/
  mirror ls https://data.example.org/imagenet/ train
  mirror ls -R --cached -1 https://data.example.org/imagenet/
  mirror ls -R --json https://data.example.org/ | jq '.[] | select(.percent < 100) | .path'

\b
Columns: how much of a file is in the cache, P where it is pinned, its size, when it was modified, when
it was last opened through the cache.
"""

_ROW = "{:>6}  {:1}  {:>9}  {:16}  {:16}  {}"


@click.command(short_help="List a folder of a source, and what is cached of it.", epilog=EXAMPLES)
@click.argument("source")
@click.argument("path", type=BELOW, default="")
@CACHE_OPTION
@click.option("-1", "--names", is_flag=True, help="Only names, one a line.")
@click.option("-R", "--recursive", is_flag=True, help="Also what is in the folders below, by its path.")
@click.option("--cached", is_flag=True, help="Only what is in the cache, at least in part.")
@click.option("--offline", is_flag=True, help="Never ask the origin.")
@click.option(
    "--ttl",
    callback=DURATION,
    default="60",
    show_default=True,
    metavar="SECONDS",
    help="How long a listing is trusted before the origin is asked again; also 5m, 1h, inf.",
)
@DEADLINE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print a list with one object for each entry.")
def ls(
    source: str,
    path: str,
    cache: Path | None,
    names: bool,
    recursive: bool,
    cached: bool,
    offline: bool,
    ttl: float,
    deadline: float,
    as_json: bool,
) -> None:
    """List the folder PATH of SOURCE: names, and how much of each file is in the cache.

    The origin is asked where the listing is older than --ttl; when it does not answer, what is known is
    shown, with a warning. Exit code 1 when nothing is known.
    """
    if deadline <= 0:
        raise UsageError("--deadline must be above 0")
    if as_json and names:
        raise UsageError("--json has the names already: leave out one of --json and --names")
    from mirror.remotes import canonical

    url = canonical(source)
    folder = existing_cache(cache) if offline or cached else usable_cache(cache)
    printer = _Printer(as_json=as_json, names=names, paths=recursive)

    async def work() -> None:
        from mirror.browse import browse

        await browse(
            url,
            path,
            folder,
            show=printer.show,
            recursive=recursive,
            cached=cached,
            offline=offline,
            ttl=ttl,
            deadline=deadline,
        )

    finished(interruptible(work))
    printer.end()


class _Printer:
    """Prints folder by folder, so that the first names of a large tree are seen at once."""

    def __init__(self, *, as_json: bool, names: bool, paths: bool) -> None:
        self._as_json = as_json
        self._names = names
        self._paths = paths
        self._begun = False

    def show(self, entries: list[Listed]) -> None:
        """Print the entries of one folder."""
        if not entries:
            return
        if self._as_json:
            lines = ",\n".join(json.dumps(as_document(entry)) for entry in entries)
            click.echo((",\n" if self._begun else "[\n") + lines, nl=False)
        else:
            rows = [self._line(entry) for entry in entries]
            if not self._begun and not self._names:
                rows.insert(0, _ROW.format("CACHED", "", "SIZE", "MODIFIED", "LAST OPENED", "NAME"))
            click.echo("\n".join(rows))
        self._begun = True

    def end(self) -> None:
        """End the list."""
        if self._as_json:
            click.echo("\n]" if self._begun else "[]")

    def _line(self, entry: Listed) -> str:
        found = entry.found
        name = human.name(entry.path if self._paths else found.node.name)
        if found.node.kind.name == "FOLDER":
            name += "/"
        if self._names:
            return name
        size = found.node.size
        return _ROW.format(
            percent(found.percent),
            "P" if entry.pinned else "",
            "-" if size is None else human.size(size),
            human.moment(None if found.node.mtime_ns is None else found.node.mtime_ns / 1e9),
            human.moment(found.used_at),
            name,
        )


def percent(value: float | None) -> str:
    """``100%`` only for what is complete; ``<1%`` for the first bytes."""
    if value is None:
        return "-"
    if 0 < value < 1:
        return "<1%"
    return f"{int(value)}%"


def as_document(entry: Listed) -> dict[str, Any]:
    """One entry for a script: sizes in bytes, times in seconds since the epoch."""
    found = entry.found
    node = found.node
    is_file = node.kind.name == "FILE"
    return {
        "path": entry.path,
        "kind": node.kind.name.lower(),
        "size": node.size,
        "mtime": None if node.mtime_ns is None else node.mtime_ns / 1e9,
        "cached_bytes": found.cached if is_file else None,
        "percent": None if found.percent is None else round(found.percent, 2),
        "complete": found.complete if is_file else None,
        "pinned": entry.pinned,
        "last_used": found.used_at,
        "validator": node.validator,
    }
