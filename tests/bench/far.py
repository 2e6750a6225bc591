"""The row about a far origin: 200 ms away over a gigabit a second that loses one packet in a hundred.

Two network namespaces, joined by `farlink.c`: it forwards packets between a TUN device in each and delays,
paces and drops them, so TCP sees what it sees on such a link (this kernel may have no netem). nginx is in
one of them, the mount and curl are in the other. curl fetches the file as as many ranges at once as
the mount may have connections.

Where namespaces or TUN devices are not to be had (it takes root), the row is left out, and a line says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from tests.bench.measure import OURS, REFERENCE, Result, Row, take_turns
from tests.bench.stand import Stand, settle, wall
from tests.support.data import MiB
from tests.support.mounts import mounted
from tests.support.servers import nginx

FAR = Row(
    "far",
    "cold sequential read, 200 ms away",
    "as many curl connections",
    "MB/s",
    0.9,
    1.0,
    more_is_better=True,
)

ROWS = (FAR,)

CONNECTIONS = 16
_ROUND_TRIP_US = 200_000
_BITS = 1_000_000_000
_LOSS = 10_000
"""Of a million packets, in each direction."""
_FILE = "far.bin"
_HERE, _THERE = "10.200.0.1", "10.200.0.2"


def measure(stand: Stand, wanted: set[str]) -> Iterator[Result]:
    """Measure the row, if it is wanted."""
    if FAR.key not in wanted:
        return
    size = stand.scale.big_bytes // 2
    with ExitStack() as stack:
        try:
            here, there = stack.enter_context(_link(stand))
        except (OSError, subprocess.CalledProcessError) as exc:
            click.echo(f"LEFT OUT: {FAR.title}: no namespaces joined by TUN devices here ({exc})", err=True)
            return
        origin = stand.folder / "far"
        origin.mkdir()
        with (stand.origin / "big.bin").open("rb") as source, (origin / _FILE).open("wb") as target:
            shutil.copyfileobj(source, target, 16 * MiB)
            target.truncate(size)
        server = stack.enter_context(nginx(origin, host=_THERE, prefix=_inside(there)))
        megabytes = size / 1e6
        _curl(stand, here, server.url, size)  # the origin's pages
        sides = {
            OURS: lambda: megabytes / _mount(stand, here, server.url),
            REFERENCE: lambda: megabytes / _curl(stand, here, server.url, size),
        }
        notes = {"connections": CONNECTIONS, "round_trip_ms": _ROUND_TRIP_US / 1000, "loss": _LOSS / 1e6}
        yield Result(FAR, take_turns(stand.scale.cold_rounds, sides), notes)
        shutil.rmtree(origin)


def _mount(stand: Stand, namespace: str, url: str) -> float:
    args = ("--max-connections", str(CONNECTIONS))
    with mounted(url, args=args, prefix=_inside(namespace)) as mount:
        settle()
        return wall([str(stand.reader), "seq", str(mount.path / _FILE)])


def _curl(stand: Stand, namespace: str, url: str, size: int) -> float:
    folder = Path(tempfile.mkdtemp(prefix="curl-far-", dir=stand.folder))
    try:
        settle()
        each = size // CONNECTIONS
        began = time.perf_counter()
        running = [
            subprocess.Popen(
                [
                    *_inside(namespace),
                    *("curl", "-sSf", "-o", str(folder / str(start)), "-r", f"{start}-{start + each - 1}"),
                    url + _FILE,
                ]
            )
            for start in range(0, size, each)
        ]
        codes = [process.wait() for process in running]
        seconds = time.perf_counter() - began
        if any(codes):
            raise RuntimeError(f"curl failed: {codes}")
        return seconds
    finally:
        shutil.rmtree(folder)


def _inside(namespace: str) -> tuple[str, ...]:
    # Not `ip netns exec`, which makes a mount namespace as well, where nobody else sees the mount.
    return ("nsenter", f"--net=/run/netns/{namespace}", "--")


@contextmanager
def _link(stand: Stand) -> Iterator[tuple[str, str]]:
    """Two namespaces with the link between them; `_HERE` is the first one's address."""
    names = [f"mirror-{os.getpid()}-{end}" for end in ("here", "there")]
    program = stand.folder / "farlink"
    source = Path(__file__).with_name("farlink.c")
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-std=gnu11", "-pthread", "-o", str(program), str(source)], check=True)
    with ExitStack() as stack:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=True)
        argv = [str(program), *names, str(_ROUND_TRIP_US // 2), str(_BITS), str(_LOSS)]
        link = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(link.communicate)  # closes its standard input, which ends it
        assert link.stdout is not None
        if link.stdout.readline() != "ready\n":
            raise OSError("no TUN device")
        for name, own, other in zip(names, (_HERE, _THERE), (_THERE, _HERE), strict=True):
            for words in (
                f"addr add {own} peer {other} dev far",
                "link set far mtu 1500 txqueuelen 10000 up",
                "link set lo up",
            ):
                subprocess.run(["ip", "-n", name, *words.split()], check=True, capture_output=True)
        yield names[0], names[1]
