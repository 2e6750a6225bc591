"""Reads by reference on real mounts: the keeper reads what the worker only points at."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from mirror.keeper.control import MAX_SOURCES, References, Registrar
from tests.keeper.conftest import Home
from tests.keeper.test_worker_death import READER
from tests.support.waiting import eventually


@pytest.mark.parametrize("kind", ["refer", "refer-direct"])
def test_a_reference_stands_for_the_bytes(home: Home, kind: str) -> None:
    """Whatever part of a file is read, referred to or not, its bytes are right."""
    home.add(**{kind: 3_000_001})
    data = (home.files / kind).read_bytes()
    home.start()
    with (home.path / kind).open("rb", buffering=0) as file:
        for size in (1, 31, 32, 33, 4095, 4096, 4097, 65_536, 1_000_003, 1 << 20):
            for offset in (0, 1, 4095, 1_999_999, len(data) - size, len(data) - 1, len(data)):
                assert os.pread(file.fileno(), size, offset) == data[offset : offset + size]
    counters = home.counters()
    assert counters["reads_by_reference"] == counters["read_requests"] > 0
    assert counters["reads_failed"] == counters["bad_messages"] == 0


def test_what_is_not_in_the_page_cache_is_read_from_the_disk(home: Home) -> None:
    """A source whose bytes have left the page cache is read from the disk, all of it."""
    home.add(refer=4_000_000)
    data = (home.files / "refer").read_bytes()
    home.start()
    with (home.files / "refer").open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert (home.path / "refer").read_bytes() == data
    assert home.counters()["reads_from_disk"] > 0


def test_a_source_that_ends_too_early_is_an_error(home: Home) -> None:
    """Fewer bytes than the worker promised make the read fail, and are never taken for the file's end."""
    home.add(**{"refer": 100_000, "refer-direct": 100_000})
    home.start()
    for name in ("refer", "refer-direct"):
        with (home.path / name).open("rb", buffering=0) as file:
            os.truncate(home.files / name, 50_000)
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                file.readall()
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                os.pread(file.fileno(), 10_000, 49_999)
    assert home.counters()["reads_failed"] > 0


def test_a_reference_to_nothing_is_an_error(home: Home) -> None:
    """A reference to a source that was never offered makes the read fail."""
    home.add(sourceless=1000)
    home.start()
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        (home.path / "sourceless").read_bytes()
    assert home.counters()["reads_by_reference"] == 0


def test_what_looks_like_a_reference_is_data(home: Home) -> None:
    """Without the worker's own token 32 bytes are 32 bytes, whatever they say."""
    home.add(plain=32, forged=100)
    home.start()
    assert (home.path / "plain").read_bytes() == (home.files / "plain").read_bytes()
    forged = (home.path / "forged").read_bytes()
    assert forged[:32] != (home.files / "forged").read_bytes()[:32]
    assert home.counters()["reads_by_reference"] == 0


def test_a_source_of_another_file_system_is_refused(make_home: Callable[..., Home]) -> None:
    """Reads may refer only to files on the cache's own file system."""
    home = make_home(cache="/dev/shm")
    home.add(refer=1000)
    home.start()
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        (home.path / "refer").read_bytes()
    assert home.counters()["registrations_refused"] > 0


def test_a_worker_killed_between_references_is_not_noticed(home: Home) -> None:
    """A successor offers its sources anew: under load no read fails and no byte is wrong."""
    home.add(**{"refer1": 2_500_000, "refer2": 40_000, "refer-direct": 300_000, "plain": 32})
    home.start()
    stop = home.folder / "stop"
    arguments = [sys.executable, "-S", "-c", READER, str(home.path), str(home.files), str(stop)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as reader:
        for restarts in range(1, 6):
            before = home.counters()["reads_by_reference"]
            eventually(lambda before=before: home.counters()["reads_by_reference"] > before, "it is read")  # type: ignore[misc]
            os.kill(home.status()["worker_pid"], signal.SIGKILL)
            eventually(
                lambda restarts=restarts: home.counters()["takeovers"] == restarts,  # type: ignore[misc]
                "another worker takes over",
            )
        stop.touch()
        assert int(reader.communicate(timeout=60)[0]) > 0
    assert reader.returncode == 0


def test_a_worker_keeps_within_the_keepers_table() -> None:
    """At its limit a worker takes back the source it used longest ago, before it offers another."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        references = References(Registrar(theirs), bytes(16))
        for node in range(MAX_SOURCES):
            references.offer(node, ours.fileno())
            ours.recv(100)
        references.payload(0, 0, 1)
        references.offer(MAX_SOURCES, ours.fileno())
        assert 1 not in references
        assert all(node in references for node in (0, 2, MAX_SOURCES))
        assert ours.recv(100)[:4] == (4).to_bytes(4, sys.byteorder)
        with pytest.raises(KeyError):
            references.payload(1, 0, 1)
