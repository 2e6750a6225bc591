"""The open rule on real mounts: who answers, in which mode, with how many READs in user space."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.keeper.conftest import Home
from tests.support.waiting import eventually


def test_an_open_that_registers_is_served_by_the_kernel(home: Home) -> None:
    """A worker that registers a node and then answers gets passthrough for that very open."""
    home.add(whole=3_000_000)
    home.start()
    for _ in range(3):
        assert (home.path / "whole").read_bytes() == (home.files / "whole").read_bytes()
    counters = home.counters()
    assert counters["read_requests"] == 0
    assert counters["opens_passthrough"] == 3
    assert counters["opens_by_keeper"] == 2
    assert counters["worker_opens"] == 1


def test_reads_of_every_kind_stay_in_the_kernel(home: Home) -> None:
    """read, pread, mmap, splice and sendfile of a complete file send no READ to user space."""
    home.add(whole=1_000_000)
    data = (home.files / "whole").read_bytes()
    home.start()
    with (home.path / "whole").open("rb") as file, (home.folder / "copy").open("w+b") as copy:
        fd = file.fileno()
        assert os.pread(fd, 4096, 500_000) == data[500_000:504_096]
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as view:
            assert view[:] == data
        assert os.sendfile(copy.fileno(), fd, 0, len(data)) == len(data)
        reader, writer = os.pipe()
        assert os.splice(fd, writer, 4096, offset_src=0) == 4096
        assert os.read(reader, 4096) == data[:4096]
        os.close(reader)
        os.close(writer)
    assert (home.folder / "copy").read_bytes() == data
    assert home.counters()["read_requests"] == 0


def test_willneed_on_a_passthrough_handle_is_answered(home: Home) -> None:
    """posix_fadvise(WILLNEED) makes the kernel ask the worker, also for a handle it never saw opened."""
    home.add(whole=1_000_000)
    home.start()
    (home.path / "whole").read_bytes()
    with (home.path / "whole").open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        assert file.read() == (home.files / "whole").read_bytes()
    eventually(lambda: home.counters()["requests_in_flight"] == 0, "the worker answers the READs")
    assert home.counters()["worker_opens"] == 1


def test_modes_never_mix(home: Home) -> None:
    """While a page-cached handle is open every open is page-cached; afterwards it is passthrough."""
    home.add(later=200_000)
    home.start()
    with (home.path / "later").open("rb") as first:
        first.read(10)  # registers it
        with (home.path / "later").open("rb") as second:
            assert second.read() == (home.files / "later").read_bytes()
        assert home.counters()["opens_passthrough"] == 0
    eventually(lambda: "later" in home.backing(), "it is registered")

    def passthrough() -> bool:
        (home.path / "later").read_bytes()
        return home.counters()["opens_passthrough"] > 0

    eventually(passthrough, "the last page-cached handle is released")


def test_a_mapping_keeps_its_mode_after_close(home: Home) -> None:
    """A mapping of a page-cached handle counts as open: no passthrough open fails beside it."""
    home.add(later=8192)
    home.start()
    with (home.path / "later").open("rb") as file:
        view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    assert view[0:1] == (home.files / "later").read_bytes()[0:1]
    assert (home.path / "later").read_bytes() == (home.files / "later").read_bytes()
    assert home.counters()["opens_passthrough"] == 0
    view.close()


def test_a_retired_file_serves_its_handles_to_the_end(home: Home) -> None:
    """Retiring takes the id back at the last release; open handles and opens until then go on."""
    home.add(whole=100_000, retire=10)
    home.start()
    data = (home.files / "whole").read_bytes()
    with (home.path / "whole").open("rb") as file:
        (home.path / "retire").read_bytes()
        eventually(lambda: home.backing()["whole"]["retiring"], "it is retiring")
        assert file.read() == data
        assert (home.path / "whole").read_bytes() == data
        assert home.counters()["opens_by_keeper"] == 1
    eventually(lambda: not home.backing(), "its last handle is released")
    assert (home.path / "whole").read_bytes() == data
    assert home.counters()["worker_opens"] == 3  # both files once, and this one again
    assert home.counters()["read_requests"] == 1  # of the other file


def test_an_unlinked_backing_file_goes_on(home: Home) -> None:
    """A cached file that is unlinked is readable for as long as it is registered."""
    home.add(whole=100_000)
    home.start()
    data = (home.files / "whole").read_bytes()
    with (home.path / "whole").open("rb") as file:
        (home.files / "whole").unlink()
        assert file.read() == data
        assert (home.path / "whole").read_bytes() == data


def test_the_keeper_holds_each_backing_file_open(home: Home) -> None:
    """Tools like lsof show every backing file, because the keeper keeps a descriptor of it."""
    home.add(whole=10)
    home.start()
    (home.path / "whole").read_bytes()
    keeper = home.status()["keeper_pid"]
    held = {str(fd.readlink()) for fd in Path(f"/proc/{keeper}/fd").iterdir()}
    assert str(home.files / "whole") in held


def test_the_budget_retires_the_idlest(home: Home) -> None:
    """At the limit the file that has been idle longest is given up, and registered again when opened."""
    home.add(**{f"whole{i}": 5000 for i in range(6)})
    home.start(backing_limit=4)
    for _ in range(2):
        for i in range(6):
            assert (home.path / f"whole{i}").read_bytes() == (home.files / f"whole{i}").read_bytes()
    status = home.status()
    assert status["backing"]["registered"] == status["backing"]["limit"] == 4
    assert status["counters"]["read_requests"] == 0
    assert status["counters"]["retired_for_budget"] >= 2


def test_over_budget_files_are_page_cached(home: Home) -> None:
    """With every registered file open another one is still readable, through the page cache."""
    home.add(whole1=5000, whole2=5000)
    home.start(backing_limit=1)
    with (home.path / "whole1").open("rb") as first:
        assert (home.path / "whole2").read_bytes() == (home.files / "whole2").read_bytes()
        assert first.read() == (home.files / "whole1").read_bytes()
    counters = home.counters()
    assert counters["registrations_over_budget"] == 1
    assert counters["opens_cached"] == 1


def test_a_backing_file_of_another_file_system_is_refused(make_home: Callable[..., Home]) -> None:
    """Only files on the cache's own file system become backing files."""
    home = make_home(cache=str(Path("/dev/shm")))
    home.add(whole=1000)
    home.start()
    assert (home.path / "whole").read_bytes() == (home.files / "whole").read_bytes()
    counters = home.counters()
    assert counters["registrations_refused"] == 1
    assert counters["opens_cached"] == 1


def test_the_mount_is_read_only(home: Home) -> None:
    """Opening for writing gets EROFS."""
    home.add(whole=10)
    home.start()
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        os.open(home.path / "whole", os.O_RDWR)


def test_passthrough_can_be_switched_off(home: Home) -> None:
    """With -o no_passthrough everything works, through the worker, and status says why."""
    home.add(whole=100_000)
    home.start(passthrough=False)
    assert (home.path / "whole").read_bytes() == (home.files / "whole").read_bytes()
    status = home.status()
    assert status["passthrough"] is False
    assert "no_passthrough" in status["passthrough_reason"]
    assert status["counters"]["opens_passthrough"] == 0
    assert status["backing"]["registered"] == 0
