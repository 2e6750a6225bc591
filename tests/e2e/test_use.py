"""What is used is known, whoever answers the open."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from tests.support.data import noise, put
from tests.support.mounts import mounted
from tests.support.servers import Server
from tests.support.waiting import eventually


def test_opens_that_the_keeper_answers_count_as_use(folder: Path, origin: Server) -> None:
    """The index knows when an object was opened last, also when no worker was asked."""
    put(folder, "file.bin", noise("use", 1000))
    with mounted(origin.url) as mount:
        file = mount.path / "file.bin"
        file.read_bytes()
        with sqlite3.connect(mount.cache / "index.sqlite", isolation_level=None, timeout=30) as db:
            sealed = "SELECT 1 FROM objects WHERE sealed_at IS NOT NULL"
            eventually(lambda: db.execute(sealed).fetchone(), "it is sealed")
            mount.kill_worker()  # what it has seen itself goes with it
            eventually(lambda: mount.counters()["takeovers"] == 1, "another worker takes over")
            db.execute("UPDATE objects SET used_at = 5.0")
            before = mount.counters()["opens_by_keeper"]
            file.read_bytes()
            assert mount.counters()["opens_by_keeper"] == before + 1
            mount.unmount()
            (used_at,) = db.execute("SELECT used_at FROM objects").fetchone()
        db.close()
        assert abs(time.time() - used_at) < 60
