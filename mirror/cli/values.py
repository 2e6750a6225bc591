"""The values a user writes: durations, sizes, and the list behind ``-o``. Pure; errors are one line.

One parser serves the option and its spelling in ``-o`` (``--open-wait-size 16M``, ``-o open_wait_size=16M``),
so that a line of fstab can say everything that a command line can.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import click
from click.core import ParameterSource

from mirror.errors import UsageError
from mirror.traffic import CONNECTIONS, Traffic

T = TypeVar("T")

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-zA-Z]*)\s*", re.ASCII)


def duration(text: str) -> float:
    """Seconds: ``90``, ``1.5``, ``500ms``, ``5m``, ``1h``, ``2d``, or ``inf`` for ever.

    Raises ValueError with a line that says what is understood.
    """
    if text.strip().lower() in {"inf", "infinite", "forever"}:
        return math.inf
    match = _NUMBER.fullmatch(text)
    if match is None or match[2].lower() not in _SECONDS:
        raise ValueError(
            f"{text!r} is no duration: write seconds, or a number with ms, s, m, h, d or w, or inf"
        )
    return float(match[1]) * _SECONDS[match[2].lower()]


def size(text: str) -> int:
    """Bytes: ``4096``, ``64K``, ``16M``, ``1.5G``, ``16MiB``; units are powers of 1024.

    Raises ValueError with a line that says what is understood.
    """
    match = _NUMBER.fullmatch(text)
    unit = match[2].lower().removesuffix("ib") if match else ""
    if match is None or unit not in _POWERS:
        raise ValueError(f"{text!r} is no size: write bytes, or a number with K, M, G or T")
    return int(float(match[1]) * 1024 ** _POWERS[unit])


def amount(text: str) -> str:
    """Room on a disk: a size as above, or a share of the file system such as ``20%``.

    Returns it in the form of the index: bytes (``"21474836480"``) or a share (``"20%"``).
    Raises ValueError with a line that says what is understood.
    """
    share = text.strip()
    if not share.endswith("%"):
        try:
            return str(size(text))
        except ValueError:
            raise ValueError(
                f"{text!r} is no amount: write bytes, a number with K, M, G or T, or a share as in 20%"
            ) from None
    match = _NUMBER.fullmatch(share[:-1])
    if match is None or match[2] or float(match[1]) > 100:
        raise ValueError(f"{text!r} is no share: write a number from 0 to 100 before the %")
    return f"{float(match[1]):g}%"


def limit(text: str) -> str:
    """As `amount`, or ``none``: no limit. Raises as it does."""
    return "none" if text.strip().lower() == "none" else amount(text)


def option_value(
    parse: Callable[[str], T],
) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    """Make one of the parsers above the callback of a click option; its ValueError names the option then."""

    def callback(context: click.Context, option: click.Parameter, text: str | None) -> T | None:
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error), context, option) from error

    return callback


DURATION = option_value(duration)
SIZE = option_value(size)
AMOUNT = option_value(amount)
LIMIT = option_value(limit)


def limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """``--cache-size`` and ``--min-free``: they are the cache's, so every command that fills one has them."""
    command = click.option(
        "--min-free",
        callback=AMOUNT,
        metavar="SIZE|PERCENT%",
        help="Least that stays free on the file system of the cache.  [kept in the cache until another is "
        "given; at first 5%]",
    )(command)
    return click.option(
        "--cache-size",
        callback=LIMIT,
        metavar="SIZE|PERCENT%|none",
        help="Most that cached files may take, in bytes or as a share of the file system.  [kept in the "
        "cache until another is given; at first none]",
    )(command)


def bwlimit(text: str) -> str | None:
    """Rate or table of rates as `mirror.http.throttle.read_table` takes it, a file's path made absolute.

    None: no limit. Raises ValueError with a line that says what is understood.
    """
    from mirror.http.throttle import FILE, read_table

    if text.strip().lower() in {"off", "0", "none"}:
        return None
    if text.startswith(FILE):
        text = FILE + str(Path(text[1:]).absolute())
    read_table(text)
    return text


BWLIMIT = option_value(bwlimit)


def traffic_options(command: Callable[..., None]) -> Callable[..., None]:
    """``--max-connections`` and ``--bwlimit``, for every command that fetches."""
    command = click.option(
        "--bwlimit",
        callback=BWLIMIT,
        metavar="RATE|TABLE|@FILE",
        help="Most bytes a second to receive, as in 10M; by time of day, as in '08:00,1M 19:00,off'; or a "
        "file with either, read again when it changes.  [default: no limit]",
    )(command)
    return click.option(
        "--max-connections",
        type=click.IntRange(1, 256),
        default=CONNECTIONS,
        show_default=True,
        metavar="N",
        help="Most connections to one server.",
    )(command)


def processes_option(command: Callable[..., None]) -> Callable[..., None]:
    """``--processes``, for what fetches many files."""
    return click.option(
        "--processes",
        type=click.IntRange(1, 256),
        metavar="N",
        help="Processes that share the fetching and its connections.  [default: one for every two CPUs, at "
        "most 4; 1 with --bwlimit]",
    )(command)


def listing_traffic(jobs: int, max_connections: int, bwlimit: str | None) -> Traffic:
    """What a command that lists may ask of the network: a connection for each job, unless the user says."""
    given = click.get_current_context().get_parameter_source("max_connections")
    if given is ParameterSource.DEFAULT:
        max_connections = max(jobs, max_connections)
    return Traffic(max_connections, bwlimit)


class _Path(click.Path):
    """A path that is not empty: that would mean the current folder, and mostly is a variable never set."""

    name = "path"

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        if not os.fspath(value):
            self.fail("the path is empty; write '.' for the current folder", param, ctx)
        return Path(os.fsdecode(super().convert(value, param, ctx)))


PATH = _Path()


class _Below(click.types.StringParamType):
    """A path or a pattern below a source: its names are UTF-8, whatever the names of this machine are."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text: str = super().convert(value, param, ctx)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"{text!a} is not UTF-8, as every name in a source is", param, ctx)
        return text


BELOW = _Below()

CACHE_OPTION = click.option("--cache", type=PATH, metavar="DIR", help="Folder of the cache, as for mount.")
DEADLINE_OPTION = click.option(
    "--deadline",
    callback=DURATION,
    default="30",
    show_default=True,
    metavar="SECONDS",
    help="A request that brings no byte for so long has failed.",
)

_OURS = frozenset(
    {
        "backing_limit",
        "bwlimit",
        "cache",
        "cache_size",
        "deadline",
        "fetch",
        "log_file",
        "max_connections",
        "min_free",
        "open",
        "open_wait_size",
        "read_ahead",
        "scrub",
        "spin",
        "ttl",
        "verify",
    }
)


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What the ``-o`` lists of one command line say."""

    kernel: tuple[str, ...] = ()
    """All that is no setting of ours, as written, each once; `mirror.keeper.options` judges it."""
    settings: dict[str, str] = field(default_factory=dict)
    """Settings of ours by the name of their long option, ``-`` written ``_``; the last one counts."""
    passthrough: bool = True
    """False with ``no_passthrough``."""


def mount_options(lists: Iterable[str]) -> MountOptions:
    r"""Read the values of all ``-o``: comma separated, ``\,`` for a comma within a value.

    Raises UsageError for a setting of ours without a value.
    """
    kernel: dict[str, None] = {}
    settings: dict[str, str] = {}
    passthrough = True
    for word in (word for text in lists for word in _split(text)):
        key, _, value = word.partition("=")
        key = key.replace("-", "_")
        if word in {"no_passthrough", "passthrough"}:
            passthrough = word == "passthrough"
        elif key not in _OURS:
            kernel[word] = None
        elif value:
            settings[key] = value
        else:
            raise UsageError(f"-o {word}: {key} needs a value, as in {key}=…")
    return MountOptions(tuple(kernel), settings, passthrough)


def _split(text: str) -> list[str]:
    words = (word.replace("\\,", ",").strip() for word in re.split(r"(?<!\\),", text))
    return [word for word in words if word]
