"""See what mirror does, in half a minute and without a network: ``make demo``.

A sample data set is served by a small web server on the loopback device, mounted with the ``mirror`` command,
read cold (everything comes from the origin), read again warm, and compared byte by byte. Where the kernel
can read cached files by itself, no READ request reaches user space the second time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sample
from mounting import Status, mounted
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
READ_SIZE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pass:
    """One reading of every file."""

    name: str
    files: int
    bytes: int
    seconds: float
    opening: float
    """Seconds within open() alone; cold, that includes the fetch of each small file."""
    read_requests: int | None
    """READ requests that reached user space; None: there was no mount between."""


def main() -> None:
    """Run the demonstration; the exit code is 0 when every byte was right."""
    console = Console(highlight=False)
    try:
        with ExitStack() as stack:
            demonstrate(console, stack, sample.Shape())
    except KeyboardInterrupt:
        console.print("stopped; nothing is left mounted")
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        # The command has said on standard error what is wrong.
        sys.exit(error.returncode)


def demonstrate(console: Console, stack: ExitStack, shape: sample.Shape) -> list[Pass]:
    """Do all of it; ``stack`` takes it down again, whatever happens."""
    work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mirror-demo-")))
    data, mountpoint = work / "data", work / "mnt"
    mountpoint.mkdir()
    console.print(f"Writing a sample data set: {shape.small_files:,} small files and {shape.shards} shards")
    sample.generate(data, shape)
    url = stack.enter_context(origin(data))
    console.print(f"$ mirror mount {url} {mountpoint}")
    status = stack.enter_context(mounted(url, mountpoint, work / "cache"))

    names = sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())
    listed = sorted(str(path.relative_to(mountpoint)) for path in mountpoint.rglob("*") if path.is_file())
    if listed != names:
        raise SystemExit("the mount does not show the files that the origin has")

    passes = [
        read_all("cold", mountpoint, names, status),
        read_all("warm", mountpoint, names, status),
        read_all("local disk", data, names, None),
    ]
    compare(data, mountpoint, names)
    console.print(table(passes))
    console.print(f"Every byte is as the origin has it. {verdict(status(), passes[1])}")
    return passes


@contextmanager
def origin(folder: Path) -> Iterator[str]:
    """Serve ``folder`` from a process that outlives a Ctrl-C, as the mount needs it; gives the URL."""
    command = [sys.executable, str(HERE / "origin.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()


def read_all(name: str, root: Path, names: Sequence[str], status: Status | None) -> Pass:
    """Open, read and close each file, one after the other."""
    before = status.read_requests() if status else 0
    buffer = bytearray(READ_SIZE)
    total, opening = 0, 0.0
    started = time.perf_counter()
    for path in [root / name for name in names]:
        opened = time.perf_counter()
        file = os.open(path, os.O_RDONLY)
        opening += time.perf_counter() - opened
        while got := os.readv(file, [buffer]):
            total += got
        os.close(file)
    seconds = time.perf_counter() - started
    requests = status.read_requests() - before if status else None
    return Pass(name, len(names), total, seconds, opening, requests)


def compare(data: Path, mountpoint: Path, names: Sequence[str]) -> None:
    """See that the mount has the origin's bytes; ends the demonstration when it has not."""
    for name in names:
        with (data / name).open("rb") as right, (mountpoint / name).open("rb") as ours:
            while (chunk := right.read(READ_SIZE)) == ours.read(READ_SIZE):
                if not chunk:
                    break
            else:
                raise SystemExit(f"{name} differs from the origin's")


def table(passes: Sequence[Pass]) -> Table:
    """The passes side by side."""
    result = Table(title="Reading every file, one after the other", title_justify="left", box=SIMPLE_HEAD)
    result.add_column("", no_wrap=True)
    for heading in ("files", "MB", "seconds", "MB/s", "µs per open", "READ requests"):
        result.add_column(heading, justify="right")
    for each in passes:
        result.add_row(
            each.name,
            f"{each.files:,}",
            f"{each.bytes / 1e6:,.0f}",
            f"{each.seconds:.2f}",
            f"{each.bytes / each.seconds / 1e6:,.0f}",
            f"{each.opening / each.files * 1e6:,.1f}",
            "-" if each.read_requests is None else f"{each.read_requests:,}",
        )
    return result


def verdict(status: dict[str, Any], warm: Pass) -> str:
    """What the second pass shows, in a sentence."""
    if not status["passthrough"]:
        return f"Reads go through the daemon here: {status['passthrough_reason']}."
    return (
        f"The second time the kernel read {warm.files:,} files by itself: "
        f"{warm.read_requests} READ requests reached user space."
    )


if __name__ == "__main__":
    main()
