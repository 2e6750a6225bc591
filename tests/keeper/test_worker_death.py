"""The worker dies: nobody notices, until it keeps dying."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.keeper.conftest import Home, wait_for_end
from tests.support.waiting import eventually

READER = """if True:
    import os, sys
    folder, files, rounds = sys.argv[1], sys.argv[2], 0
    while not os.path.exists(sys.argv[3]):
        for name in sorted(os.listdir(folder)):
            with open(f"{folder}/{name}", "rb") as ours, open(f"{files}/{name}", "rb") as known:
                if ours.read() != known.read():
                    sys.exit("wrong bytes in " + name)
        rounds += 1
    print(rounds)
"""


def test_a_worker_killed_again_and_again_is_not_noticed(home: Home) -> None:
    """A SIGKILL of the worker every time it has come back, under load: no request fails."""
    home.add(plain1=300_000, plain2=50_000, whole1=50_000, later1=200_000, direct=60_000)
    home.start()
    stop = home.folder / "stop"
    arguments = [sys.executable, "-S", "-c", READER, str(home.path), str(home.files), str(stop)]
    readers = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for restarts in range(1, 11):
        before = home.counters()["replies"]
        eventually(lambda before=before: home.counters()["replies"] > before, "the worker serves")  # type: ignore[misc]
        os.kill(home.status()["worker_pid"], signal.SIGKILL)
        eventually(
            lambda restarts=restarts: (  # type: ignore[misc]
                home.status()["worker_restarts"] == restarts and home.counters()["takeovers"] == restarts
            ),
            "another worker takes over",
        )
    stop.touch()
    for reader in readers:
        assert int(reader.communicate(timeout=60)[0]) > 0
        assert reader.returncode == 0
    assert home.status()["worker_restarts"] == 10


def test_complete_files_open_while_there_is_no_worker(home: Home) -> None:
    """Opens of registered files are answered by the keeper, worker or no worker."""
    home.add(whole=100_000)
    home.start()
    (home.path / "whole").read_bytes()
    worker = home.status()["worker_pid"]
    os.kill(worker, signal.SIGSTOP)
    try:
        for _ in range(100):
            assert len((home.path / "whole").read_bytes()) == 100_000
    finally:
        os.kill(worker, signal.SIGCONT)


def test_counters_of_a_silent_worker_stay(home: Home) -> None:
    """What a worker said last is shown, with its age, while it does not answer and after its death."""
    home.add(plain=1000)
    home.start()
    (home.path / "plain").read_bytes()
    fresh = home.status()
    assert fresh["counters"]["worker_opens"] == 1
    worker = fresh["worker_pid"]
    os.kill(worker, signal.SIGSTOP)
    silent = home.status()
    assert silent["counters"]["worker_opens"] == 1
    assert silent["worker_counters_age_s"] > fresh["worker_counters_age_s"]
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: home.status()["worker_pid"] not in (worker, None), "another worker starts")
    assert "worker_opens" in home.counters()


def test_a_worker_that_keeps_dying_ends_the_mount(home: Home) -> None:
    """5 deaths within 10 s end the mount, with a message that says so."""
    home.add(crash=10)
    keeper = home.start().keeper_pid
    with pytest.raises(OSError, match=r"Input/output|not connected"):
        (home.path / "crash").read_bytes()
    wait_for_end(keeper)
    assert home.gone()
    assert "the worker died 5 times in 10 s, the last time by killed by SIGSEGV" in home.log


def test_a_successor_that_cannot_start_ends_the_mount(make_home: Callable[..., Home]) -> None:
    """The last words of a worker stand in the message that ends the mount."""
    home = make_home(misbehave="die-later")
    home.add(plain=10)
    keeper = home.start().keeper_pid
    (home.path / "plain").read_bytes()
    os.kill(home.status()["worker_pid"], signal.SIGKILL)
    wait_for_end(keeper)
    assert home.gone()
    assert "exit code 1: no strength left" in home.log
