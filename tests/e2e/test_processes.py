"""`docs/semantics.md`, "Processes": what dies, and what a reader notices of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import readers
from tests.support.command import PROGRAM
from tests.support.data import KiB, MiB, digest, noise, put, tree
from tests.support.mounts import RUNTIME, mounted, prepared
from tests.support.servers import Server
from tests.support.waiting import eventually

LOAD_SECONDS = 10


def _expected(folder: Path, names: list[str], where: Path) -> Path:
    where.write_text(json.dumps({name: digest(folder / name) for name in names}))
    return where


@pytest.mark.parametrize("options", [[], ["-o", "no_passthrough"]], ids=["passthrough", "plain"])
def test_a_dead_worker_costs_no_request(
    options: list[str], folder: Path, origin: Server, tmp_path: Path
) -> None:
    """Killed every second under load: 0 errors, and every byte is right."""
    sizes = {f"small-{n}.bin": 20 * KiB for n in range(40)} | {f"large-{n}.bin": 20 * MiB for n in range(2)}
    for name, size in sizes.items():
        put(folder, name, noise(name, size))
    crowd = [_expected(folder, sorted(sizes), tmp_path / "all"), *_quarters(folder, sizes, tmp_path)]
    # A TTL of 0: names are looked up again and again, so that the worker has work at every moment.
    with mounted(origin.url, args=["--ttl", "0", *options]) as mount:
        running = [readers.start("load", mount.path, part, str(LOAD_SECONDS)) for part in crowd]
        for _ in range(LOAD_SECONDS - 1):
            dead = mount.kill_worker()
            mount.wait_worker(dead)
            # Not a wait for something: the pace of the deaths that the promise allows.
            time.sleep(1)
        answers = [readers.result(reader) for reader in running]
        assert [answer["errors"] for answer in answers] == [{}] * len(crowd)
        assert all(answer["operations"] > 0 for answer in answers)
        assert mount.status()["worker_restarts"] == LOAD_SECONDS - 1


def _quarters(folder: Path, sizes: dict[str, int], tmp_path: Path) -> list[Path]:
    names = sorted(name for name in sizes if name.startswith("small"))
    return [_expected(folder, names[part::2], tmp_path / f"part-{part}") for part in range(2)]


def test_a_worker_killed_in_the_middle_of_a_fill_is_not_noticed(folder: Path, slow_origin: Server) -> None:
    """The reader goes on, and its bytes are right: what the next worker finds in the cache has holes."""
    size = 48 * MiB
    path = put(folder, "large.bin", noise("middle", size))
    with mounted(slow_origin.url) as mount:
        reader = readers.start("read", mount.path / "large.bin")
        # Late enough that the index knows of the object, as it does after a second or so.
        mount.wait_fetched(16 * MiB)
        mount.kill_worker()
        assert readers.result(reader) == {"errno": 0, "size": size, "sha256": digest(path)}


def test_a_mapping_outlives_the_worker(folder: Path, origin: Server) -> None:
    """Open complete files are read while there is no worker at all."""
    data = noise("outlive", 3 * MiB)
    put(folder, "file.bin", data)
    with mounted(origin.url) as mount:
        path = mount.path / "file.bin"
        with path.open("rb") as file:
            assert file.read(10) == data[:10]
            mount.kill_worker()
            assert file.read() == data[10:]
            assert path.read_bytes() == data


def test_a_worker_that_keeps_crashing_ends_the_mount(folder: Path, origin: Server) -> None:
    """5 deaths in 10 seconds: the mount ends with a message that says why, and nothing is left."""
    put(folder, "file.bin", b"x")
    with mounted(origin.url) as mount:
        for _ in range(4):
            mount.wait_worker(mount.kill_worker(signal.SIGSEGV))
        mount.kill_worker(signal.SIGSEGV)
        eventually(lambda: not mount.mounted and not mount.processes(), "the mount ends")
        assert "5 times" in mount.log
        mount.assert_gone()


@pytest.mark.parametrize("victim", ["worker", "keeper and worker"])
def test_a_killed_process_never_leaves_a_wrong_byte(
    victim: str, folder: Path, slow_origin: Server, tmp_path: Path
) -> None:
    """What the cache serves after a kill is right, and what it cannot vouch for is fetched again."""
    names = [f"{number}.bin" for number in range(3)]
    for name in names:
        put(folder, name, noise((victim, name), 20 * MiB))
    cache = tmp_path / "cache"
    for megabytes in (2, 9):
        with mounted(slow_origin.url, cache=cache) as mount:
            running = [readers.start("read", mount.path / name) for name in names]
            mount.wait_fetched(megabytes * MiB)
            if victim == "worker":
                mount.kill_worker()
                assert [readers.result(r)["sha256"] for r in running] == [digest(folder / n) for n in names]
                break
            for pid in mount.processes():
                os.kill(pid, signal.SIGKILL)
            for reader in running:
                readers.result(reader)  # fails, and ends
            mount.mirror("unmount", mount.path).ok()
    with mounted(slow_origin.url, cache=cache) as mount:
        assert [digest(mount.path / name) for name in names] == [digest(folder / name) for name in names]


@pytest.mark.parametrize("how", ["unmount", "SIGINT", "SIGTERM"])
def test_an_unmounted_folder_leaves_nothing_behind(how: str, folder: Path, origin: Server) -> None:
    """After `mirror unmount`, Ctrl-C or SIGTERM the mountpoint is as before and both processes have ended."""
    put(folder, "file.bin", noise("nothing", 3 * MiB))
    with prepared(origin.url) as mount:
        before = mount.path.stat()
        # As a shell starts it: in a process group of its own, which Ctrl-C reaches as a whole.
        process = subprocess.Popen(
            [PROGRAM, "mount", "--foreground", origin.url, mount.path, "--cache", mount.cache],
            env={**os.environ, RUNTIME: str(mount.runtime)},
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        eventually(lambda: mount.mounted, "it is mounted")
        eventually(lambda: any(path.is_socket() for path in mount.runtime.rglob("*")), "it answers questions")
        assert (mount.path / "file.bin").read_bytes() == noise("nothing", 3 * MiB)
        if how == "unmount":
            mount.mirror("unmount", mount.path).ok()
        elif how == "SIGINT":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.terminate()
        _, said = process.communicate(timeout=30)
        assert "Traceback" not in said
        assert process.returncode == 0, said
        mount.assert_gone()
        assert mount.path.stat().st_ino == before.st_ino
        assert list(mount.path.iterdir()) == []


@contextmanager
def _asking(told: signal.Signals) -> Iterator[subprocess.Popen[str]]:
    """A mount in the foreground whose origin does not answer, in a group of its own; it ends by a signal."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with prepared(url) as mount:
            argv = [PROGRAM, "mount", "--foreground", url, mount.path, "--cache", mount.cache]
            process = subprocess.Popen(
                argv,
                env={**os.environ, RUNTIME: str(mount.runtime)},
                stderr=subprocess.PIPE,
                text=True,
                process_group=0,
            )
            connection, _ = silent.accept()
            yield process
            _, said = process.communicate(timeout=30)
            connection.close()
            assert "Traceback" not in said
            assert process.returncode == 128 + told, said
            mount.assert_gone()


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_mount_that_is_stopped_before_it_is_there_says_by_what(told: signal.Signals) -> None:
    with _asking(told) as process:
        os.killpg(process.pid, told)


def test_a_stopped_mount_whose_worker_is_the_first_to_end_says_by_what() -> None:
    """All processes of a group are told at once, and end in any order."""
    with _asking(signal.SIGTERM) as process:
        (worker,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(worker, signal.SIGTERM)
        eventually(
            lambda: "\nState:\tZ" in Path(f"/proc/{worker}/status").read_text(), "the worker has ended"
        )
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGCONT)


def test_an_unmount_in_the_middle_of_fills_is_clean(folder: Path, slow_origin: Server) -> None:
    """Fills under way do not hold an unmount up."""
    put(folder, "large.bin", noise("busy", 64 * MiB))
    with mounted(slow_origin.url) as mount:
        with (mount.path / "large.bin").open("rb") as file:
            file.read(10)
        mount.unmount()


def test_a_busy_mount_is_not_torn_away(folder: Path, origin: Server) -> None:
    """`mirror unmount` says that a file is open, in one line, and the mount goes on."""
    put(folder, "file.bin", noise("busy", 1000))
    with mounted(origin.url) as mount:
        path = mount.path / "file.bin"
        with path.open("rb") as file:
            refused = mount.mirror("unmount", mount.path)
            assert refused.code == 1
            assert len(refused.lines) == 1
            assert "busy" in refused.err
            assert file.read() == noise("busy", 1000)
            assert mount.mounted


def test_a_mount_in_use_that_is_detached_lazily_lives_until_its_last_file_is_closed(
    folder: Path, origin: Server
) -> None:
    """`unmount --lazy` returns at once; open files stay readable, and another mount may take the place."""
    put(folder, "file.bin", noise("lazy", 1000))
    with mounted(origin.url) as mount:
        first = mount.processes()
        with (mount.path / "file.bin").open("rb") as file:
            said = mount.mirror("unmount", "--lazy", mount.path).ok()
            assert "in use" in said.err
            assert not mount.mounted
            mount.mount().ok()
            assert file.read() == noise("lazy", 1000)
        eventually(lambda: not set(first) & set(mount.processes()), "the processes of the first mount end")
        # The end of the first took nothing of the second with it.
        assert mount.status()["keeper_pid"] == mount.keeper_pid
        assert (mount.path / "file.bin").read_bytes() == noise("lazy", 1000)


def test_a_stale_mount_left_by_a_crash_is_cleaned_up(folder: Path, origin: Server) -> None:
    """Mounting again over what killed processes left works, and says so."""
    put(folder, "file.bin", b"still here")
    with mounted(origin.url) as mount:
        for pid in mount.processes():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not mount.processes(), "they are dead")
        assert mount.mounted, "the kernel keeps a mount whose server is dead"
        again = mount.mount().ok()
        assert "stale" in again.err + again.out
        assert (mount.path / "file.bin").read_bytes() == b"still here"
        assert tree(mount.path) == tree(folder)


def test_an_unmount_removes_what_a_crash_left(folder: Path, origin: Server) -> None:
    """`mirror unmount` of a mount whose processes are dead detaches it."""
    put(folder, "file.bin", b"x")
    with mounted(origin.url) as mount:
        for pid in mount.processes():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not mount.processes(), "they are dead")
        mount.mirror("unmount", mount.path).ok()
        assert not mount.mounted
