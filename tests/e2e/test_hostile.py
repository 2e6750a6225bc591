"""`docs/hostile.md`: whatever an origin does, right bytes or the right errno come, in time."""

from __future__ import annotations

import errno
import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import readers
from tests.support.hostile import Behaviour, Hostile, hostile
from tests.support.misbehaviours import (
    ALL,
    DEADLINE,
    HEALTHY,
    LATER,
    Ward,
    digests,
    folder_of,
    html_page,
    well,
)
from tests.support.mounts import Mount, mounted
from tests.support.waiting import eventually

MEMORY = 64 * 1024
"""KiB that the worker may grow by."""

PATIENCE = 3 * DEADLINE + 4.0
"""Seconds for a look-up, an open and a read, each with a deadline, and for a machine that is busy."""

DIGESTS = {hashlib.sha256(body).hexdigest(): name for name, body in digests()}


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Hostile, Mount, int]]:
    """A mount of a server on which every misbehaviour has a folder, and the worker's normal memory.

    That is what it takes once it has fetched some files from an origin that is well.
    """
    with hostile(Ward().routes) as server:
        args = ["--deadline", str(DEADLINE), "--ttl", "0"]
        with mounted(server.url, args=args) as mount:
            for name in HEALTHY:
                assert read(mount.path / name / "f") == "right"
            yield server, mount, memory(mount.worker_pid, "VmRSS")


def memory(pid: int, what: str) -> int:
    """KiB of a process's memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1])
    raise AssertionError(what)


def read(path: Path) -> str:
    """What a reader gets: the name of a version, or of an errno."""
    got = readers.run("read", path, timeout=60)
    return errno.errorcode[got["errno"]] if got["errno"] else DIGESTS.get(got["sha256"], "WRONG BYTES")


@pytest.mark.parametrize("name", ALL)
def test_misbehaviour(name: str, stage: tuple[Hostile, Mount, int]) -> None:
    """The right bytes or the right errno, in time; one line; afterwards the file reads right."""
    server, mount, normal = stage
    case, folder, worker = ALL[name], f"/{folder_of(name)}/", mount.worker_pid
    Path(f"/proc/{worker}/clear_refs").write_text("5")  # the high-water mark begins anew
    path, logged = mount.path / folder_of(name), len(mount.log)
    server.routes |= case.routes(server.url, folder)
    began = time.monotonic()
    if case.listing:
        got = readers.run("names", path, timeout=60)
        outcome = errno.errorcode[got["errno"]] if got["errno"] else "right"
        if not got["errno"]:
            assert tuple(got["names"]) == case.names
    else:
        outcome = read(path / "f")
    took = time.monotonic() - began
    if outcome.isupper() and outcome != "ENOENT":
        # The keeper writes what the worker said, a moment later.
        eventually(lambda: f"({outcome})" in mount.log[logged:], f"a line says {outcome}")
    log = mount.log[logged:]
    server.routes |= well(folder, LATER) if case.anew else well(folder)
    assert outcome in case.outcomes, log
    assert took < PATIENCE
    assert "Traceback" not in log
    failures = [line for line in log.splitlines() if " WARNING " in line or " ERROR " in line]
    if outcome.isupper() and outcome != "ENOENT":
        assert len([line for line in failures if f"({outcome})" in line]) <= 2, log
    assert len(log.splitlines()) <= 12, log
    assert all(len(line) < 600 for line in log.splitlines()), log
    eventually(lambda: read(path / "f") == "right", "it reads right when the origin is well again")
    assert mount.worker_pid == worker
    assert memory(worker, "VmHWM") - normal < MEMORY


def test_folders_within_each_other_without_an_end_are_bounded(stage: tuple[Hostile, Mount, int]) -> None:
    """A folder that contains itself ends where no path can be longer."""
    server, mount, _ = stage
    page = html_page(b"<title>Index of /</title><a href='./%s/'>x</a>" % (b"d" * 200))

    class Deep(dict[str, Behaviour]):
        """Every path below ``/deep/`` is a folder that holds a folder."""

        def get(self, path: str, default: Behaviour | None = None) -> Behaviour | None:  # type: ignore[override]
            return page if path.startswith("/deep/") else super().get(path, default)

    server.routes = Deep(server.routes)
    got = readers.run("descend", mount.path / "deep", timeout=60)
    assert errno.errorcode[got["errno"]] == "ENAMETOOLONG"
    assert 15 <= got["depth"] <= 21


def test_the_manual_has_every_misbehaviour_and_no_other() -> None:
    """Row by row, with every errno."""
    manual = (Path(__file__).parents[2] / "docs" / "hostile.md").read_text().split("## The tables")[1]
    rows = re.findall(r"^\| (?!what the|---)(.*?) \| (.*) \|$", manual, re.MULTILINE)
    assert [name for name, _ in rows] == [*ALL]
    for name, gets in rows:
        assert re.findall(r"`(E[A-Z]+)`", gets) == [what for what in ALL[name].outcomes if what.isupper()]
