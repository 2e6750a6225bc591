"""``mirror mount``: check what was asked, then let the keeper do it.

Everything that can be known without a process is checked here, so that a wrong argument costs one line and
leaves nothing behind. The settings in ``-o`` become the defaults of the long options of the same name: there
is one parser for both, and what stands on the command line itself wins.
"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli.folders import apart, log_of, make, resolved, usable_cache
from mirror.cli.values import (
    DEADLINE_OPTION,
    DURATION,
    PATH,
    SIZE,
    MountOptions,
    limit_options,
    mount_options,
    traffic_options,
)
from mirror.config import FetchMode, MountConfig, OpenMode, VerifyMode
from mirror.errors import MirrorError, UsageError

EXAMPLES = """\b
Examples:
  mirror mount https://data.example.org/imagenet/ /mnt/imagenet
  mirror mount --cache /nvme/cache --ttl 1h --open wait https://data.example.org/ /mnt/data
  mirror mount -o allow_other,ttl=inf https://data.example.org/ /mnt/data
  mirror mount --cache-size 200G --min-free 10% https://data.example.org/ /mnt/data
  mirror mount --foreground https://data.example.org/ /mnt/data

\b
Options of -o:
  allow_other           let other users read the mount
  no_passthrough        answer every read in the daemon (to compare, or to find a fault)
  nodev,nosuid,noexec…  as for any mount
  KEY=VALUE             cache, cache_size, min_free, open, open_wait_size, ttl,
                        fetch, deadline, max_connections, bwlimit, verify, scrub,
                        read_ahead, backing_limit, spin, log_file: as the long options
"""


def _read_mount_options(context: click.Context, _: click.Parameter, lists: tuple[str, ...]) -> MountOptions:
    """Read ``-o`` before every other option, and make its settings their defaults."""
    options = mount_options(lists)
    names = {"open": "open_mode", "open_wait_size": "open_wait_bytes"}
    context.default_map = {names.get(key, key): value for key, value in options.settings.items()}
    return options


@click.command(short_help="Mount a source read-only on a folder.", epilog=EXAMPLES)
@click.argument("source")
@click.argument("mountpoint", type=PATH)
@click.option(
    "--cache",
    type=PATH,
    metavar="DIR",
    help="Folder of the cache.  [default: $MIRROR_CACHE, else /var/cache/mirror for root, "
    "else ~/.cache/mirror]",
)
@limit_options
@click.option(
    "--open",
    "open_mode",
    type=click.Choice([mode.value for mode in OpenMode]),
    default="auto",
    show_default=True,
    help="What opening an incomplete file does: wait for all of it, stream, or (auto) wait for "
    "small files and stream large ones.",
)
@click.option(
    "--open-wait-size",
    "open_wait_bytes",
    callback=SIZE,
    default="16M",
    show_default=True,
    metavar="SIZE",
    help="Largest file that --open auto waits for.",
)
@click.option(
    "--fetch",
    type=click.Choice([mode.value for mode in FetchMode]),
    default="auto",
    show_default=True,
    help="How much of a large file is fetched when some of it is read: all of it, only what is read, or "
    "(auto) what is read until that is a tenth of it, or a reader goes forward.",
)
@click.option(
    "--ttl",
    callback=DURATION,
    default="60",
    show_default=True,
    metavar="SECONDS",
    help="How long names, attributes and listings are trusted; also 5m, 1h, inf.",
)
@DEADLINE_OPTION
@traffic_options
@click.option(
    "--verify",
    "verify",
    type=click.Choice([mode.value for mode in VerifyMode]),
    default="never",
    show_default=True,
    help="Compare complete files with their checksums before the kernel is given them: when they are "
    "opened, or only in the background (--scrub).",
)
@click.option(
    "--scrub",
    callback=DURATION,
    default="30d",
    show_default=True,
    metavar="PERIOD",
    help="How often everything that is cached is read again and compared, in the background; inf: never.",
)
@click.option(
    "--read-ahead",
    callback=SIZE,
    default="1M",
    show_default=True,
    metavar="SIZE",
    help="How far the kernel reads ahead in files it does not read by itself (root only).",
)
@click.option(
    "--backing-limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Most files that the kernel reads by itself at once.  [default: what the limit of open "
    "files leaves]",
)
@click.option(
    "--spin",
    type=click.IntRange(0, 10_000),
    default=50,
    show_default=True,
    metavar="MICROSECONDS",
    help="How long to poll for the next request before sleeping; 0: never.",
)
@click.option(
    "--log-file",
    type=PATH,
    metavar="FILE",
    help="Where a mount in the background logs.  [default: a file in CACHE/log]",
)
@click.option(
    "-f", "--foreground", is_flag=True, help="Stay, log to standard error, and unmount at Ctrl-C or SIGTERM."
)
@click.option(
    "-o",
    "options",
    multiple=True,
    metavar="OPTIONS",
    is_eager=True,
    callback=_read_mount_options,
    help="Mount options as for mount(8), separated by commas; may be repeated.",
)
def mount(
    source: str,
    mountpoint: Path,
    cache: Path | None,
    cache_size: str | None,
    min_free: str | None,
    open_mode: str,
    open_wait_bytes: int,
    fetch: str,
    ttl: float,
    deadline: float,
    max_connections: int,
    bwlimit: str | None,
    verify: str,
    scrub: float,
    read_ahead: int,
    backing_limit: int | None,
    spin: int,
    log_file: Path | None,
    foreground: bool,
    options: MountOptions,
) -> None:
    """Mount SOURCE read-only on the empty folder MOUNTPOINT.

    Returns as soon as the mount answers. SOURCE is a URL: of a folder that a web server lists, or of one
    file (https:), of a bucket or a part of it (s3:, gs:, az:), of a repository (hf:), of a folder (webdavs:,
    file:), or of a list of files (manifest+https:).
    """
    if deadline <= 0:
        raise UsageError("--deadline must be above 0: it is the patience with an origin, in seconds")
    if scrub <= 0:
        raise UsageError("--scrub must be above 0: it is a period, as in 30d; inf switches it off")
    from mirror.keeper import launch
    from mirror.keeper import options as kernel_options
    from mirror.remotes import canonical

    kernel_options.parse(options.kernel)
    where = resolved(mountpoint)
    url = canonical(source)
    folder = usable_cache(cache)
    apart(folder, where)
    make(folder)
    if log_file is None and not foreground:
        log_file = log_of(folder, where)
        make(log_file.parent)
    config = MountConfig(
        source=url,
        mountpoint=str(where),
        cache=str(folder),
        cache_size=cache_size,
        min_free=min_free,
        open_mode=OpenMode(open_mode),
        open_wait_bytes=open_wait_bytes,
        fetch=FetchMode(fetch),
        ttl=ttl,
        deadline=deadline,
        max_connections=max_connections,
        bwlimit=bwlimit,
        verify=VerifyMode(verify),
        scrub=scrub,
        passthrough=options.passthrough,
        backing_limit=backing_limit,
        spin_us=spin,
        read_ahead_kb=read_ahead // 1024,
        foreground=foreground,
        mount_options=options.kernel,
        log_file=None if log_file is None else str(resolved(log_file)),
    )
    if foreground:
        launch.run_foreground(config)
    started = launch.start(config)
    if started.warning:
        click.echo(f"mirror: warning: {started.warning}", err=True)
    click.echo(f"{url} is mounted on {where}{_how(config)}")


def _how(config: MountConfig) -> str:
    """Say at once when the kernel will not read files by itself, and why."""
    from mirror.keeper import client

    if not config.passthrough:
        return ", without passthrough as asked"
    try:
        reason = client.status(config.mountpoint)["passthrough_reason"]
    except MirrorError:
        # The mount answered a moment ago; `mirror status` will tell more than a guess here.
        return ""
    return f", without passthrough: {reason}" if reason else ""
