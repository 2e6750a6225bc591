"""`mirror status`, `doctor` and `warm`, as a script would use them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from tests.support.command import PROGRAM, mirror
from tests.support.data import MiB, noise, put
from tests.support.mounts import mounted, prepared
from tests.support.servers import Server, nginx
from tests.support.waiting import eventually

COUNTERS = {"read_requests", "opens_passthrough", "opens_cached", "remote_requests", "bytes_fetched"}


def test_status_shows_what_lsof_cannot(folder: Path, origin: Server) -> None:
    """With `--json`: every mount, its processes, its counters and its backing files."""
    put(folder, "file.bin", noise("status", 3 * MiB))
    with mounted(origin.url) as mount:
        with (mount.path / "file.bin").open("rb") as one, (mount.path / "file.bin").open("rb") as two:
            assert one.read() == two.read()
            # Without a folder: all mounts of the machine, those of other tests among them.
            rows = json.loads(mount.mirror("status", "--json").out)
            (row,) = [row for row in rows if row["mountpoint"] == str(mount.path)]
            assert row == row | {
                "mountpoint": str(mount.path),
                "source": origin.url,
                "cache": str(mount.cache),
                "passthrough": True,
                "passthrough_reason": None,
                "worker_restarts": 0,
            }
            assert row["counters"].keys() >= COUNTERS
            assert row["counters"]["bytes_fetched"] == 3 * MiB
            for process in ("keeper_pid", "worker_pid"):
                assert row[process] in mount.processes()
            backing = row["backing"]
            assert (backing["registered"], backing["open"]) == (1, 1)
            assert backing["limit"] >= 1
            (file,) = backing["files"]
            assert file["backing_id"] > 0
            assert file["open_handles"] == 2
            assert Path(file["path"]).is_relative_to(mount.cache)
            assert Path(file["path"]).read_bytes() == noise("status", 3 * MiB)
        human = mount.mirror("status", mount.path).ok().out
        assert origin.url in human
        assert str(mount.path) in human


def test_status_without_passthrough_says_why(folder: Path, origin: Server) -> None:
    """`-o no_passthrough` is off by request; everything is read all the same."""
    put(folder, "file.bin", noise("plain", 3 * MiB))
    with mounted(origin.url, args=["-o", "no_passthrough"]) as mount:
        assert (mount.path / "file.bin").read_bytes() == noise("plain", 3 * MiB)
        status = mount.status()
        assert status["passthrough"] is False
        assert "no_passthrough" in status["passthrough_reason"]
        assert status["counters"]["read_requests"] > 0
        assert status["backing"]["registered"] == 0


def test_doctor_knows_this_machine(tmp_path: Path) -> None:
    """Every check has a name, a verdict and a sentence; a machine that runs these tests can mount."""
    checks = json.loads(mirror("doctor", "--json", env={"MIRROR_CACHE": str(tmp_path / "cache")}).ok().out)
    rows = checks["checks"] if isinstance(checks, dict) else checks
    assert len(rows) >= 5
    assert "/dev/fuse" in json.dumps(rows)
    assert mirror("doctor", env={"MIRROR_CACHE": str(tmp_path / "cache")}).ok().out.count("\n") >= 5


def test_warm_fetches_what_matches_once(folder: Path, origin: Server) -> None:
    """Exit code 0 only if all of it is there; a second run fetches nothing; a mount then needs no origin."""
    for name in ("a/1.bin", "a/2.bin", "a/b/3.bin", "c/4.bin"):
        put(folder, name, noise(name, 100_000))
    with prepared(origin.url) as mount:
        warm = ["warm", origin.url, "--cache", str(mount.cache)]
        mount.mirror(*warm, "a/**").ok()
        got = {r.uri for r in origin.requests() if r.method == "GET" and r.uri.endswith(".bin")}
        assert got == {"/a/1.bin", "/a/2.bin", "/a/b/3.bin"}
        mount.mirror(*warm).ok()
        origin.forget()
        mount.mirror(*warm).ok()
        assert [r for r in origin.requests() if r.method == "GET" and r.uri.endswith(".bin")] == []
        mount.mount().ok()
        assert (mount.path / "c/4.bin").read_bytes() == noise("c/4.bin", 100_000)
        assert mount.counters()["bytes_fetched"] == 0


def test_warm_says_what_is_missing(folder: Path) -> None:
    """A file that cannot be had makes the exit code 1, and is named; the others are there."""
    for name in ("good.bin", "bad.bin"):
        put(folder, name, noise(name, 1000))
    conf = "location = /bad.bin { return 403; }"
    with nginx(folder, autoindex="json", extra_conf=conf) as origin, prepared(origin.url) as mount:
        refused = mount.mirror("warm", origin.url, "--cache", mount.cache)
        assert refused.code == 1, str(refused)
        assert "bad.bin" in refused.out + refused.err
        origin.forget()
        mount.mirror("warm", origin.url, "good.bin", "--cache", mount.cache).ok()
        assert [r for r in origin.requests() if r.method == "GET" and r.uri == "/good.bin"] == []


def test_warm_that_is_stopped_goes_on_where_it_was(folder: Path, slow_origin: Server) -> None:
    """Ctrl-C ends it with exit code 130; the next run fetches only what is missing."""
    size = 24 * MiB
    put(folder, "large.bin", noise("stopped", size))
    with prepared(slow_origin.url) as mount:
        argv = [str(PROGRAM), "warm", slow_origin.url, "--cache", str(mount.cache)]
        process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
        )
        eventually(lambda: _on_disk(mount.cache) > 8 * MiB, "a part of it is there")
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130, out + err
        assert "Traceback" not in err
        slow_origin.forget()
        mount.mirror("warm", slow_origin.url, "--cache", mount.cache).ok()
        again = [r for r in slow_origin.requests() if r.method == "GET" and r.uri == "/large.bin"]
        assert sum(r.sent for r in again) < size - 4 * MiB, again
        mount.mount().ok()
        assert (mount.path / "large.bin").read_bytes() == noise("stopped", size)


def _on_disk(folder: Path) -> int:
    """Bytes that the files of a folder take."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:  # a file of SQLite's that was there a moment ago
            continue
    return total
