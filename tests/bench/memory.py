"""The row about memory: keeper and worker with a huge folder listed and several fills under way.

One folder of 100,000 entries is listed through the mount, entry by entry with its attributes; then 8
readers stream large files from a rate-limited origin, and while all 8 fills run, the proportional set
size (PSS) of both processes is sampled. The figure is the highest sum seen. It is not a ratio of two
measurements: the reference is 1 MiB, so that "ratio" is the figure itself.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import OURS, REFERENCE, Result, Row
from tests.bench.stand import Stand
from tests.support.data import MiB
from tests.support.mounts import Mount, mounted
from tests.support.servers import nginx
from tests.support.waiting import eventually

MEMORY = Row("memory", "memory of keeper and worker", "1 MiB", "MiB", 250, 150, absolute=True)

ROWS = (MEMORY,)

_FILL_BYTES = 512 * MiB
_RATE = "4m"
"""A second and connection: slow enough that no fill ends while it is looked at."""
_SAMPLES = 30
_PAUSE = 0.1


def measure(stand: Stand, wanted: set[str]) -> Iterator[Result]:
    """Measure the row, if it is wanted."""
    if MEMORY.key in wanted:
        yield _memory(stand)


def _memory(stand: Stand) -> Result:
    scale, origin = stand.scale, stand.folder / "many"
    (origin / "entries").mkdir(parents=True)
    for number in range(scale.listed):
        (origin / "entries" / f"entry-{number:06d}.bin").touch()
    names = [f"fill-{number}.bin" for number in range(scale.fills)]
    for name in names:
        with (origin / name).open("wb") as file:
            file.truncate(_FILL_BYTES)  # sparse: only the mount writes its bytes
    with nginx(origin, autoindex="json", rate=_RATE) as server, mounted(server.url) as mount:
        with os.scandir(mount.path / "entries") as entries:
            listed = sum(1 for entry in entries if entry.stat().st_size == 0)
        assert listed == scale.listed, f"{listed} of {scale.listed} entries are listed"
        after_listing = _both(mount, "Pss")
        readers = [subprocess.Popen([str(stand.reader), "seq", str(mount.path / name)]) for name in names]
        try:
            least = scale.fills * 2 * MiB
            eventually(lambda: mount.counters()["bytes_fetched"] > least, "all fills run")
            pss, rss = _sample(mount)
            assert all(reader.poll() is None for reader in readers), "a fill ended while memory was measured"
        finally:
            for reader in readers:
                reader.kill()
                reader.wait()
        peaks = {name: _peak(pid) for name, pid in _pids(mount).items()}
    notes = {"rss_mib": rss, "after_listing_mib": after_listing, "peak_rss_mib": peaks}
    return Result(MEMORY, {OURS: [pss], REFERENCE: [1.0]}, notes)


def _sample(mount: Mount) -> tuple[float, float]:
    """Highest PSS and RSS of both processes together, in MiB."""
    pss, rss = [], []
    for _ in range(_SAMPLES):
        pss.append(_both(mount, "Pss"))
        rss.append(_both(mount, "Rss"))
        time.sleep(_PAUSE)
    return max(pss), max(rss)


def _pids(mount: Mount) -> dict[str, int]:
    status = mount.status()
    return {"keeper": status["keeper_pid"], "worker": status["worker_pid"]}


def _both(mount: Mount, field: str) -> float:
    # All of them: a helper process that one of the two starts counts as well.
    return sum(_kib(Path(f"/proc/{pid}/smaps_rollup"), field) for pid in mount.processes()) / 1024


def pss(pid: int) -> float:
    """Proportional set size of a process, in MiB."""
    return _kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss") / 1024


def _peak(pid: int) -> float:
    return _kib(Path(f"/proc/{pid}/status"), "VmHWM") / 1024


def _kib(table: Path, field: str) -> int:
    for line in table.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0])
    raise ValueError(f"{table} has no {field}")
