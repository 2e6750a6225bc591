"""The calls on one file that run without the interpreter: what they bring, and that nothing stays open."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
import trio
import trio.testing

from cache import _files
from cache._files import Job, store, take
from cache.file_thread import done, file_thread
from tests.support.waiting import eventually

BLOCK = 1000


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


def descriptors() -> set[str]:
    """Files that are open."""
    links = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    return {str(link) for link in links if link.is_absolute() and not str(link).startswith("/proc/")}


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def taken(part: Path, final: Path | None = None, *, writer: bool = True) -> Job[None]:
    job: Job[None] = take(str(part), None if final is None else str(final), writer)
    return job.run()


def test_a_lease_of_a_new_file(tmp_path: Path) -> None:
    """Its folder is made as well; the descriptors are a lock's and a writer's."""
    part = tmp_path / "ab" / "abcd.part"
    job = taken(part, tmp_path / "ab" / "abcd")
    fd, inode, length, trusted, writer, found = job.lease()
    try:
        assert (job.error, length, trusted, found) == (0, 0, True, -1)
        assert inode == part.stat().st_ino
        assert part.parent.stat().st_mode & 0o777 == 0o700
        assert part.stat().st_mode & 0o777 == 0o600
        assert os.write(writer, b"x") == 1
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
        again = taken(part)
        assert (again.error, again.stage) == (errno.EWOULDBLOCK, "lease")
    finally:
        os.close(fd)
        os.close(writer)
    again = taken(part)
    assert again.error == 0  # and what nobody takes of a job is closed with it
    with part.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_has_the_final_name_is_opened_in_place_of_a_writer(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"there")
    fd, _, _, _, writer, found = taken(tmp_path / "f.part", tmp_path / "f").lease()
    assert writer == -1
    assert os.read(found, 9) == b"there"
    os.close(fd)
    os.close(found)


def test_a_lease_is_of_the_file_that_has_the_name(tmp_path: Path) -> None:
    """A link that leads elsewhere is not followed, and another's file not trusted."""
    (tmp_path / "link").symlink_to(tmp_path / "other")
    assert taken(tmp_path / "link").error == errno.ELOOP
    (tmp_path / "open").touch()
    (tmp_path / "open").chmod(0o666)
    job = taken(tmp_path / "open")
    fd, _, _, trusted, writer, _ = job.lease()
    os.close(fd)
    assert (trusted, writer) == (False, -1)
    assert taken(tmp_path / "no" / "such" / "folder").error == errno.ENOENT


@pytest.mark.parametrize("at", [0, 1, 999, 1000, 70_000])
def test_sums_are_of_what_was_written_block_by_block(tmp_path: Path, at: int) -> None:
    data = os.urandom(150_001)
    with (tmp_path / "f").open("w+b") as file:
        job: Job[None] = store(
            file.fileno(), at, BLOCK, [data[:7], b"", memoryview(data)[7:140_000], bytearray(data[140_000:])]
        )
        runs = job.run().runs
        assert os.pread(file.fileno(), len(data), at) == data
    assert (runs[0][0], runs[-1][1]) == (at, at + len(data))
    ends = [stop for _, stop, _ in runs]
    assert ends[:-1] == list(range((at // BLOCK + 1) * BLOCK, at + len(data), BLOCK))
    for start, stop, crc in runs:
        assert crc == google_crc32c.value(data[start - at : stop - at])


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4096, 12_287, 12_288, 12_296, 24_579, 100_003])
def test_crc32c_is_what_others_compute(size: int) -> None:
    data = os.urandom(size)
    assert _files.crc32c(data) == google_crc32c.value(data)
    assert _files.crc32c(memoryview(data)[3:], _files.crc32c(data[:3])) == google_crc32c.value(data)


def test_a_file_gets_its_name_when_it_is_what_was_written(tmp_path: Path) -> None:
    part, final = tmp_path / "f.part", tmp_path / "f"
    fd, inode, *_, writer, _ = taken(part, final).lease()
    job: Job[None] = store(writer, 0, BLOCK, [b"hello"], str(part), str(final), inode, 5)
    reader, copy = job.run().named()
    assert (job.error, job.closed, job.changed) == (0, True, False)
    assert os.read(reader, 9) == b"hello"
    assert not part.exists()
    assert not os.get_inheritable(reader)
    assert not os.get_inheritable(copy)
    for each in (fd, reader, copy):
        os.close(each)


def test_a_file_that_nobody_wants_is_looked_at_and_closed(tmp_path: Path) -> None:
    part, final = tmp_path / "f.part", tmp_path / "f"
    fd, inode, *_, writer, _ = taken(part, final).lease()
    before = len([*Path("/proc/self/fd").iterdir()])
    job: Job[None] = store(writer, 0, BLOCK, [b"hello"], str(part), str(final), inode, 5, False)
    assert job.run().named() == (-1, -1)
    assert (job.error, job.closed, job.changed) == (0, True, False)
    assert final.read_bytes() == b"hello"
    assert len([*Path("/proc/self/fd").iterdir()]) == before - 1, "the writer's is closed"
    os.close(fd)


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("spoil", ["longer", "replaced", "gone", "anybody's"])
def test_another_file_gets_no_name(tmp_path: Path, spoil: str, wanted: bool) -> None:
    part, final = tmp_path / "f.part", tmp_path / "f"
    fd, inode, *_, writer, _ = taken(part, final).lease()
    os.write(writer, b"hello")
    if spoil == "longer":
        os.pwrite(writer, b"!", 5)
    elif spoil == "anybody's":
        part.chmod(0o666)
    else:
        part.unlink()
        if spoil == "replaced":
            part.write_bytes(b"hello")
    job: Job[None] = store(writer, 0, BLOCK, [], str(part), str(final), inode, 5, wanted)
    job.run()
    assert (job.changed, job.closed) == (True, True)
    assert not final.exists()
    os.close(fd)


def test_a_write_that_fails_leaves_the_file_open_and_without_a_name(tmp_path: Path) -> None:
    """It may be tried again. What went before is written, which counts for nothing."""
    part, final = tmp_path / "f.part", tmp_path / "f"
    fd, inode, *_, writer, _ = taken(part, final).lease()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    data = os.urandom(200_000)
    try:
        job: Job[None] = store(writer, 0, BLOCK, [data], str(part), str(final), inode, 200_000)
        job.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, kept)
    assert (job.error, job.stage, job.closed) == (errno.EFBIG, "write", False)
    assert part.stat().st_size == 100_000, "a write that was cut short was gone on with"
    job = store(writer, 0, BLOCK, [data], str(part), str(final), inode, 200_000)
    for each in (fd, *job.run().named()):
        os.close(each)
    assert final.read_bytes() == data


async def test_jobs_are_done_in_their_order_also_for_who_is_cancelled(tmp_path: Path) -> None:
    """Whoever is cancelled waits for its job, has what it brings, and hears of it then."""
    got: list[int] = []

    async def one(number: int) -> None:
        job: Job[Any] = await done(take(str(tmp_path / str(number)), None, False), waits=True)
        os.close(job.lease()[0])
        got.append(number)
        await trio.sleep_forever()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(one, number)
                await trio.lowlevel.cancel_shielded_checkpoint()
            scope.cancel()
    assert scope.cancelled_caught
    assert len(got) <= 100
    assert sorted(got) == sorted(int(path.name) for path in tmp_path.iterdir())


async def test_no_small_file_waits_for_what_is_done_to_a_large_one(tmp_path: Path) -> None:
    slow, small = tmp_path / "slow", tmp_path / "small"
    slow.touch(0o600)
    job: Job[Any] = take(str(slow), None, True)
    lease = os.open(slow, os.O_RDONLY)  # whoever opens it for writing has to wait until we let go of it
    try:
        fcntl.fcntl(lease, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file_thread(large=True).do, job)
            await trio.testing.wait_all_tasks_blocked(0.05)
            with trio.fail_after(5):
                other: Job[Any] = await done(take(str(small), None, False), waits=True)
            with pytest.raises(ValueError, match="not finished"):
                job.lease()
            fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    finally:
        os.close(lease)
    mine, _, _, _, writer, _ = job.lease()
    for fd in (other.lease()[0], mine, writer):
        os.close(fd)


def test_what_is_left_at_the_end_is_done_and_closed(tmp_path: Path) -> None:
    thread: _files.Thread[None] = _files.Thread()
    for number in range(50):
        thread.submit([take(str(tmp_path / str(number)), None, True)], None)
    thread.close()
    assert len(list(tmp_path.iterdir())) == 50
    with pytest.raises(ValueError, match="closed"):
        thread.submit([take(str(tmp_path / "x"), None, False)], None)
    jobs = thread.done()
    assert [job.error for job in jobs] == [0] * 50
    with pytest.raises(ValueError, match="once"):
        jobs[0].run()


def test_a_job_tells_nothing_before_it_is_done(tmp_path: Path) -> None:
    job: Job[None] = take(str(tmp_path / "f"), None, False)
    for ask in (job.lease, job.named, lambda: job.runs):
        with pytest.raises(ValueError, match="not finished"):
            ask()
    with pytest.raises(ValueError, match="two names"):
        store(0, 0, 0, [])
    with pytest.raises(TypeError):
        store(0, 0, BLOCK, ["text"])  # type: ignore[list-item]


def test_each_run_has_a_thread_of_its_own() -> None:
    async def one() -> int:
        return id(file_thread())

    before = threads()
    for _ in range(3):
        trio.run(one)
        # A thread that has been joined is listed a moment longer.
        eventually(lambda: threads() <= before, "its thread has ended")


def test_one_that_goes_with_an_error_leaves_the_error() -> None:
    def made() -> None:
        thread: _files.Thread[None] = _files.Thread()
        thread.submit("no jobs", None)  # type: ignore[arg-type]

    with pytest.raises(TypeError):
        made()
