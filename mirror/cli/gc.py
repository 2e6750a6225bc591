"""``mirror gc``: remove what nobody can use any more, and let the index shrink."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli import human
from mirror.cli.folders import existing_cache, log_of
from mirror.cli.running import Ticker, finished, interruptible
from mirror.cli.values import CACHE_OPTION
from mirror.errors import MirrorError

if TYPE_CHECKING:
    from cache.collect import Collected

LOGS_KEPT = 7 * 86400.0
"""Seconds for which the log of a mount that is gone is kept: it says why."""

NOTHING = "nothing to remove"

EXAMPLES = """\b
Examples:
  mirror gc --dry-run
  mirror gc --cache /nvme/cache
  mirror gc --json | jq .freed
"""


@click.command(short_help="Remove what nobody can use any more.", epilog=EXAMPLES)
@click.option("-n", "--dry-run", is_flag=True, help="Remove nothing, only say what would be.")
@CACHE_OPTION
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but failures.")
@click.option("--json", "as_json", is_flag=True, help="Print what was removed as JSON.")
def gc(dry_run: bool, cache: Path | None, quiet: bool, as_json: bool) -> None:
    """Remove objects of superseded versions, files that the index does not know, and old notes and logs.

    No current file is touched, and nothing that is open; mounts may go on meanwhile. Names of versions that
    are long past are forgotten only while no mount uses the cache. A cache works without this command: it
    gives room back early.
    """
    folder = existing_cache(cache)
    ticker = Ticker(quiet=quiet)

    async def work() -> Collected:
        import trio

        from cache import Cache
        from cache.collect import collect

        mounted = await trio.to_thread.run_sync(is_mounted, folder)
        async with Cache.open(folder) as opened:
            return await collect(
                opened,
                mounted=mounted,
                dry_run=dry_run,
                report=lambda so_far: ticker.say(lambda: f"{human.size(so_far.freed)} freed so far"),
            )

    got = finished(interruptible(work), "stopped; what was removed until then is gone")
    logs, log_bytes = old_logs(folder, dry_run=dry_run)
    if as_json:
        more = {"logs": logs, "log_bytes": log_bytes, "freed": got.freed + log_bytes}
        click.echo(json.dumps({"dry_run": dry_run} | asdict(got) | more, indent=2))
    elif not quiet:
        click.echo("\n".join(lines(got, logs, log_bytes, dry_run=dry_run)))


def is_mounted(cache: Path) -> bool:
    """Whether a mount of this machine uses the cache; one that does not answer may.

    A mount of another user does not: a cache is one user's.
    """
    from mirror import runtime
    from mirror.keeper import client

    for mount in runtime.mounts():
        if mount.owner not in {None, os.geteuid()}:
            continue
        try:
            if client.status(str(mount.path))["cache"] == str(cache):
                return True
        except MirrorError:
            return True
    return False


def old_logs(cache: Path, *, dry_run: bool) -> tuple[int, int]:
    """Remove logs of mounts that are no more; returns how many, and their bytes."""
    from mirror import runtime

    used = {log_of(cache, mount.path) for mount in runtime.mounts()}
    count = size = 0
    for path in sorted((cache / "log").glob("*.log")):
        try:
            status = path.lstat()
            if path in used or time.time() - status.st_mtime < LOGS_KEPT:
                continue
            if not dry_run:
                path.unlink()
        except FileNotFoundError:
            continue
        count += 1
        size += status.st_blocks * 512
    return count, size


def lines(got: Collected, logs: int, log_bytes: int, *, dry_run: bool) -> list[str]:
    """What was done, a line for each kind of thing that there was."""
    files = got.files
    said = [
        (
            got.superseded,
            f"{human.count(got.superseded, 'object')} of superseded versions",
            got.superseded_bytes,
        ),
        (logs, f"{human.count(logs, 'old log')}", log_bytes),
        (got.missing, f"{human.count(got.missing, 'row')} of objects whose files are gone", None),
        (got.nodes or 0, f"{human.count(got.nodes or 0, 'name')} of versions long past", None),
        (got.recalls + got.ghosts, f"{human.count(got.recalls + got.ghosts, 'stale note')}", None),
    ]
    if files is not None:
        said.insert(
            1,
            (files.removed, f"{human.count(files.removed, 'file')} that the index did not know", files.freed),
        )
    verb = "would be removed" if dry_run else "removed"
    shown = [
        f"{what} {verb}" + ("" if size is None else f" ({human.size(size)})")
        for number, what, size in said
        if number
    ]
    if files is not None and files.adopted:
        found = human.count(files.adopted, "object")
        shown.append(f"{found} that the index had lost {'would be ' if dry_run else ''}taken over")
    if files is None:
        shown.append("files were not looked through: another process is doing that at the moment")
    if got.in_use:
        shown.append(f"{human.count(got.in_use, 'object')} of superseded versions stay: in use")
    if got.nodes is None:
        shown.append("names of versions long past stay while a mount uses the cache")
    freed = got.freed + log_bytes
    verb = "would be freed" if dry_run else "freed"
    shown.append(f"{human.size(freed)} {verb}" if freed or any(number for number, _, _ in said) else NOTHING)
    return shown
