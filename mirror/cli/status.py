"""``mirror status``: what the keepers of this machine say, as a table for people or as JSON for scripts."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from mirror.cli import human
from mirror.cli.folders import resolved
from mirror.cli.values import PATH
from mirror.errors import MirrorError

EXAMPLES = """\b
Examples:
  mirror status
  mirror status /mnt/imagenet
  mirror status --json | jq '.[].counters.read_requests'
"""


@click.command(short_help="Show the mounts of this machine.", epilog=EXAMPLES)
@click.argument("mountpoint", type=PATH, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a list with one object for each mount.")
def status(mountpoint: Path | None, as_json: bool) -> None:
    """Show the mounts of this machine, or the one at MOUNTPOINT.

    Exit code 1 when one of this user's mounts does not answer.
    """
    from mirror import runtime
    from mirror.keeper import client

    known: list[dict[str, Any]] = []
    silent: list[str] = []
    others: list[str] = []
    if mountpoint is not None:
        known.append(client.status(str(resolved(mountpoint))))
    else:
        for mount in runtime.mounts():
            try:
                known.append(client.status(str(mount.path)))
            except MirrorError as error:
                if mount.owner in (None, os.geteuid()):
                    silent.append(str(error))
                else:
                    others.append(f"{mount.path} is uid {mount.owner}'s: their 'mirror status' shows it")
    if as_json:
        click.echo(json.dumps(known, indent=2))
    elif known:
        _show(known)
    elif not silent and not others:
        click.echo("no mounts")
    for line in others + silent:
        click.echo(f"mirror: {line}", err=True)
    if silent:
        sys.exit(1)


def _show(mounts: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for mount in mounts:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows(mount):
            # A Text, so that brackets in a URL are not read as markup.
            table.add_row(name, Text(value))
        console.print(table)
        if mount is not mounts[-1]:
            console.print()


def rows(mount: dict[str, Any]) -> list[tuple[str, str]]:
    """One mount as names and sentences, in reading order."""
    counters, backing = mount["counters"], mount["backing"]
    restarts = mount["worker_restarts"]
    restarted = f", restarted {human.count(restarts, 'time')}" if restarts else ""
    reason = mount["passthrough_reason"]
    opens = (
        f"{counters.get('opens_passthrough', 0):,} read by the kernel alone, "
        f"{counters.get('opens_cached', 0):,} through the page cache"
    )
    fetched = human.size(counters.get("bytes_fetched", 0))
    connections = human.count(counters.get("connections", 0), "connection")
    limit = counters.get("bwlimit")
    at_most = f", at most {human.size(limit)} a second" if limit else ""
    files = (
        f"{backing['registered']:,} registered, {backing['open']:,} open, "
        f"{backing['held']:,} held (limit {backing['limit']:,})"
    )
    return [
        ("mountpoint", mount["mountpoint"]),
        ("source", mount["source"]),
        ("cache", mount["cache"]),
        ("passthrough", "on" if mount["passthrough"] else f"off: {reason or 'no reason given'}"),
        ("processes", f"keeper {mount['keeper_pid']}, worker {mount['worker_pid'] or 'starting'}{restarted}"),
        ("opens", opens),
        ("reads", f"{counters.get('read_requests', 0):,} requests reached the daemon"),
        ("origin", f"{human.count(counters.get('remote_requests', 0), 'request')}, {fetched} fetched"),
        ("network", f"{connections} busy{at_most}"),
        ("backing files", files),
    ]
