"""``mirror unmount``: ask the keeper to go, and wait until it has gone."""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli.folders import resolved
from mirror.cli.values import DURATION, PATH
from mirror.errors import UsageError

EXAMPLES = """\b
Examples:
  mirror unmount /mnt/imagenet
  mirror unmount --lazy /mnt/imagenet    # while it is in use: open files stay readable until closed
"""


@click.command(short_help="Unmount, and wait until it is gone.", epilog=EXAMPLES)
@click.argument("mountpoint", type=PATH)
@click.option("-l", "--lazy", is_flag=True, help="Detach it even when it is in use.")
@click.option(
    "--timeout",
    callback=DURATION,
    default="30",
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for its processes to end.",
)
def unmount(mountpoint: Path, lazy: bool, timeout: float) -> None:
    """Unmount MOUNTPOINT; returns once it is gone and its processes have ended.

    With --lazy, a mount in use is detached at once; its processes end when its last user lets go.
    """
    if timeout <= 0:
        raise UsageError("--timeout must be above 0")
    from mirror.keeper import client

    where = resolved(mountpoint)
    if lives_on := client.unmount(str(where), lazy=lazy, timeout=timeout):
        click.echo(f"mirror: {lives_on}", err=True)
