"""Small files of a folder that are read with nobody waiting: as right as with somebody."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from mirror.errors import (
    AccessDenied,
    IsAFolder,
    MirrorError,
    NotFound,
    OriginFailed,
    Stalled,
    VersionChanged,
)
from mirror.remotes.base import Asked
from mirror.remotes.file import FileRemote, _readers
from mirror.remotes.file.small import SMALL
from tests.remotes.contract import begun, read
from tests.support.data import noise
from tests.support.filesystems import held_up, unprivileged
from tests.support.waiting import eventually


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "a.bin").write_bytes(noise("a", 1000))
    (folder / "sub" / "deep" / "b.bin").write_bytes(noise("b", 200_000))
    (folder / "empty").write_bytes(b"")
    return folder


@pytest.fixture(autouse=True)
def _nothing_left(tree: Path) -> Iterator[None]:
    yield
    eventually(lambda: not threads(), "all threads end")
    # A file that was read piece by piece is closed on a thread, for which nobody waits.
    eventually(lambda: not any(name.startswith(str(tree)) for name in open_files()), "all files are closed")


def threads() -> int:
    """How many that read there are."""
    found = 0
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            found += (task / "comm").read_text() == "mirror-reader\n"
    return found


def open_files() -> list[str]:
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(str(fd.readlink()))
    return found


class Source:
    """A remote whose root was looked at, and what is asked of it."""

    def __init__(self, tree: Path, *, threads: int = 16, deadline: float = 20.0) -> None:
        self.remote = FileRemote(f"file://{tree}/", str(tree), threads=threads, deadline=deadline)
        self.told: list[Asked] = []
        self.asked: dict[Asked, str] = {}

    async def __aenter__(self) -> Source:
        await self.remote.list("")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.remote.aclose()

    async def begin(self, name: str, validator: str | None = None) -> Asked:
        asked = await self.remote.begin(name, validator, self.told.append)
        assert asked is not None
        self.asked[asked] = name
        return asked

    async def came(self, *which: Asked) -> None:
        """Return once those were told of."""
        with trio.fail_after(20.0):
            while not set(which) <= set(self.told):
                await trio.lowlevel.checkpoint()
        assert len(set(self.told)) == len(self.told)


def body(asked: Asked) -> bytes | None:
    """What came, if it is plain; it is taken."""
    answer = asked.plain()
    if answer is None:
        return None
    data = bytes(answer[1])
    asked.close()
    return data


async def gone_on(asked: Asked) -> bytes:
    async with asked.open() as part:
        return await read(part)


# -- what is plain -------------------------------------------------------------------------------


async def test_what_comes_is_the_file_as_if_it_had_been_waited_for(tree: Path) -> None:
    """In folders, and empty, and of exactly as many bytes as are read so."""
    (tree / "full").write_bytes(noise("full", SMALL))
    async with Source(tree) as source:
        for name in ("a.bin", "sub/deep/b.bin", "empty", "full"):
            entry = await source.remote.stat(name)
            for validator in (entry.validator, None):
                asked = await source.begin(name, validator)
                await source.came(asked)
                answer = asked.plain()
                assert answer is not None
                part, data = answer
                assert data == (tree / name).read_bytes()
                assert (part.start, part.stop, part.size, part.entry) == (0, entry.size, entry.size, entry)
                assert (part.ranges, part.digest) == (True, None)
                asked.close()
                assert data == (tree / name).read_bytes()


async def test_what_is_here_and_is_not_taken_is_not_read_again(tree: Path) -> None:
    async with Source(tree) as source:
        names = ("a.bin", "empty")
        asked = [await source.begin(name, (await source.remote.stat(name)).validator) for name in names]
        await source.came(*asked)
        for name in names:
            (tree / name).write_bytes(b"another")
        before = source.remote.requests
        assert [await gone_on(each) for each in asked] == [noise("a", 1000), b""]
        assert source.remote.requests == before


async def test_many_at_once(tree: Path) -> None:
    """Each is told of once, with its own bytes."""
    for number in range(300):
        (tree / "sub" / str(number)).write_bytes(noise(("many", number), number * 500))
    async with Source(tree, threads=4) as source:
        for number in range(300):
            await source.begin(f"sub/{number}")
        await source.came(*source.asked)
        for asked, name in source.asked.items():
            assert body(asked) == (tree / name).read_bytes()


async def test_where_other_versions_are_told_by_times_alone_a_copy_is_the_same_one(tree: Path) -> None:
    remote = FileRemote(f"file://{tree}/", str(tree), exact=False)
    before = await remote.stat("a.bin")
    (tree / "copy").write_bytes((tree / "a.bin").read_bytes())
    os.utime(tree / "copy", ns=(before.mtime_ns or 0, before.mtime_ns or 0))
    (tree / "copy").rename(tree / "a.bin")
    asked = await begun(remote, "a.bin", before.validator)
    assert asked is not None
    assert body(asked) == noise("a", 1000)
    await remote.aclose()


# -- what is not, and how that goes on -----------------------------------------------------------


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link_out(path: Path) -> None:
    secret = path.parents[1] / "secret"
    secret.write_bytes(b"s" * 1000)
    path.unlink()
    path.symlink_to(secret)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _other_version(path: Path) -> None:
    times = path.stat().st_mtime_ns
    path.with_name("new").write_bytes(b"x" * 1000)
    os.utime(path.with_name("new"), ns=(times, times))
    path.with_name("new").rename(path)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (Path.unlink, NotFound),
        (_folder, IsAFolder),
        (_link_out, NotFound),
        (_pipe, NotFound),
        (_other_version, VersionChanged),
        (lambda path: os.truncate(path, 999), VersionChanged),
        (lambda path: path.parent.rename(path.parents[1] / "elsewhere"), OriginFailed),
    ],
)
async def test_what_became_of_a_file_is_told_by_whoever_goes_on(
    tree: Path, change: Callable[[Path], object], error: type[MirrorError]
) -> None:
    """Removed, replaced by a folder, a link out of the source, a pipe or another file; the source is away."""
    async with Source(tree) as source:
        validator = (await source.remote.stat("a.bin")).validator
        change(tree / "a.bin")
        asked = await source.begin("a.bin", validator)
        await source.came(asked)
        assert asked.plain() is None
        with pytest.raises(error):
            await gone_on(asked)


async def test_what_may_not_be_read_is_refused_not_absent(tree: Path) -> None:
    (tree / "a.bin").chmod(0)
    (tree / "sub").chmod(0)
    async with Source(tree) as source:
        with unprivileged():
            for name in ("a.bin", "sub/deep/b.bin"):
                asked = await source.begin(name)
                await source.came(asked)
                assert asked.plain() is None
                with pytest.raises(AccessDenied):
                    await gone_on(asked)
    (tree / "sub").chmod(0o700)


async def test_what_takes_a_decision_is_not_plain_and_comes_all_the_same(tree: Path) -> None:
    """A link, a way over one, and a file of more than is read in one go; the first bytes of none come."""
    (tree / "link").symlink_to("a.bin")
    (tree / "way").symlink_to("sub/deep")
    (tree / "large").write_bytes(noise("large", SMALL + 1))
    async with Source(tree) as source:
        for name in ("link", "way/b.bin", "large"):
            asked = await source.begin(name)
            await source.came(asked)
            assert asked.plain() is None
            assert await gone_on(asked) == (tree / name).read_bytes()


async def test_a_link_put_in_the_place_of_a_folder_leads_nowhere(tree: Path) -> None:
    """Also while files are asked for: what comes is the source's, or nothing does."""
    outside = tree.with_name("outside")
    outside.mkdir()
    (outside / "f").write_bytes(b"secret")
    (tree / "inside").mkdir()
    (tree / "inside" / "f").write_bytes(b"public")
    (tree / "folder").symlink_to(outside)
    async with Source(tree) as source:
        for number in range(200):
            (tree / "next").symlink_to(outside if number % 2 else tree / "inside")
            await source.begin("folder/f")
            (tree / "next").rename(tree / "folder")
        await source.came(*source.asked)
        assert all(asked.plain() is None for asked in source.asked)


async def test_another_folder_in_the_place_of_the_source_is_judged_before_it_is_read(tree: Path) -> None:
    async with Source(tree) as source:
        tree.rename(tree.with_name("old"))
        tree.mkdir()
        (tree / "a.bin").write_bytes(b"other")
        asked = await source.begin("a.bin")
        await source.came(asked)
        assert asked.plain() is None
        assert await gone_on(asked) == b"other"
        again = await source.begin("a.bin")
        await source.came(again)
        assert body(again) == b"other"


async def test_nothing_is_begun_before_the_source_was_looked_at(tree: Path) -> None:
    remote = FileRemote(f"file://{tree}/", str(tree))
    assert await remote.begin("a.bin", None, lambda _: None) is None


async def test_nothing_is_begun_where_the_kernel_does_not_let_us(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_readers, "usable", lambda: False)
    async with Source(tree) as source:
        assert await source.remote.begin("a.bin", None, source.told.append) is None


def test_a_file_that_is_changed_while_it_is_read_is_not_taken(tree: Path) -> None:
    """What is taken is of one version: sizes tell here, as none comes twice but while it is written."""
    readers: _readers.Readers[int] = _readers.Readers(2)
    status, path = tree.stat(), tree / "a.bin"
    path.write_bytes(b"")
    script = """
import pathlib, sys
for number in range(50, 250):
    pathlib.Path(sys.argv[1]).write_bytes(bytes([number]) * (number * 4096 + 1))
"""
    errors, taken = set(), 0
    while not (errors and taken):
        with subprocess.Popen([sys.executable, "-c", script, str(path)]) as writer:
            while writer.poll() is None:
                readers.begin(str(tree), status.st_dev, status.st_ino, "a.bin", SMALL, 0)
                while not (done := readers.done()):
                    pass
                for whole, _ in done:
                    data, size = bytes(memoryview(whole)), whole.status[1]
                    if whole.error:
                        assert not data
                        errors.add(whole.error)
                    elif size % 4096 == 1:
                        assert data == bytes([size // 4096]) * size
                        taken += 1
    assert errors <= {errno.ESTALE}


# -- what does not come --------------------------------------------------------------------------


async def test_a_file_that_is_held_up_holds_up_no_other_and_is_told_of_when_it_is_given_up(
    tree: Path,
) -> None:
    """The thread is left alone; what it brings when it comes back goes nowhere."""
    async with Source(tree, threads=3) as source:
        with held_up(tree / "a.bin"):
            stuck = [await source.begin("a.bin") for _ in range(2)]
            for _ in range(20):
                asked = await source.begin("sub/deep/b.bin")
                await source.came(asked)
                assert body(asked) == (tree / "sub/deep/b.bin").read_bytes()
            assert not set(stuck) & set(source.told)
            for each in stuck:
                source.asked.pop(each)
                each.cancel()
                each.cancel()
                await source.came(each)
                assert each.plain() is None
                with pytest.raises(Stalled, match=r"a\.bin: not a byte within 20 s"):
                    await gone_on(each)
        asked = await source.begin("a.bin")
        await source.came(asked)
        assert body(asked) == (tree / "a.bin").read_bytes()


async def test_where_all_threads_are_held_up_files_wait_and_can_be_given_up(tree: Path) -> None:
    (tree / "other").write_bytes(b"other")
    async with Source(tree, threads=2) as source:
        with held_up(tree / "a.bin"):
            stuck = [await source.begin("a.bin") for _ in range(2)]
            await trio.to_thread.run_sync(eventually, lambda: _waiting(tree) == 2, "both threads wait")
            waits, given_up = await source.begin("other"), await source.begin("empty")
            given_up.cancel()
            await source.came(given_up)
            assert source.told == [given_up]
            stuck[0].cancel()
            await source.came(stuck[0])
            assert waits not in source.told
        await source.came(stuck[1], waits)
        assert body(waits) == b"other"
        assert body(stuck[1]) == (tree / "a.bin").read_bytes()


def _waiting(tree: Path) -> int:
    """How many have come to a file, and wait to open it."""
    return sum(name.endswith("a.bin") for name in open_files() if name.startswith(str(tree))) - 1


async def test_what_is_given_up_when_it_is_here_is_here(tree: Path) -> None:
    async with Source(tree) as source:
        asked = await source.begin("a.bin")
        await source.came(asked)
        asked.cancel()
        assert body(asked) == (tree / "a.bin").read_bytes()


async def test_the_end_of_a_remote_tells_of_all_at_once(tree: Path) -> None:
    """Nothing is waited for; what is asked for after it is not begun."""
    with held_up(tree / "a.bin"):
        async with Source(tree, threads=2) as source:
            asked = [await source.begin("a.bin") for _ in range(5)]
        assert set(source.told) == set(asked)
        assert all(each.plain() is None for each in asked)
        assert await source.remote.begin("empty", None, source.told.append) is None


def test_the_end_of_a_run_waits_for_nothing(tree: Path) -> None:
    """Also where nobody closes the remote."""
    told: list[Asked] = []

    async def ask() -> None:
        remote = FileRemote(f"file://{tree}/", str(tree))
        await remote.list("")
        for _ in range(3):
            assert await remote.begin("a.bin", None, told.append) is not None

    with held_up(tree / "a.bin"):
        trio.run(ask)
        assert len(told) == 3


def test_the_end_of_a_process_waits_for_nothing(tree: Path) -> None:
    script = """
import sys, trio
from mirror.remotes.file import FileRemote
async def ask():
    remote = FileRemote(f"file://{sys.argv[1]}/", sys.argv[1])
    await remote.list("")
    for _ in range(3):
        assert await remote.begin("a.bin", None, print) is not None
trio.run(ask)
"""
    with held_up(tree / "a.bin"):
        subprocess.run(
            [sys.executable, "-c", script, str(tree)], check=True, timeout=40, stdout=subprocess.DEVNULL
        )


def test_threads_are_as_many_as_wait_and_no_more_than_there_may_be(tree: Path) -> None:
    readers: _readers.Readers[int] = _readers.Readers(4)
    status = tree.stat()
    assert not threads()
    with ExitStack() as stack:
        stack.enter_context(held_up(tree / "a.bin"))
        for number in range(10):
            readers.begin(str(tree), status.st_dev, status.st_ino, "a.bin", SMALL, number)
        eventually(lambda: _waiting(tree) == 4, "as many as may be wait")
        assert threads() == 4
        assert not readers.done()
    found: list[int] = []
    eventually(lambda: found.extend(token for _, token in readers.done()) or len(found) == 10, "all come")
    assert sorted(found) == list(range(10))
    assert threads() == 4
    readers.close()
    readers.close()
    eventually(lambda: not threads(), "those that have nothing to do end at once")
    late = readers.begin(str(tree), status.st_dev, status.st_ino, "a.bin", SMALL, 0)
    assert [(whole is late, whole.error) for whole, _ in readers.done()] == [(True, errno.EAGAIN)]


def test_what_is_not_finished_says_nothing(tree: Path) -> None:
    readers: _readers.Readers[None] = _readers.Readers(1)
    status = tree.stat()
    with held_up(tree / "a.bin"):
        whole = readers.begin(str(tree), status.st_dev, status.st_ino, "a.bin", SMALL, None)
        for ask in (lambda: whole.error, lambda: whole.status):
            with pytest.raises(ValueError, match="not finished"):
                ask()
        with pytest.raises(BufferError, match="not finished"):
            memoryview(whole)
        others: _readers.Readers[None] = _readers.Readers(1)
        with pytest.raises(TypeError, match="begun here"):
            others.cancel(whole)
        readers.cancel(whole)
        assert [each.error for each, _ in readers.done()] == [errno.ECANCELED]
        assert bytes(memoryview(whole)) == b""
    with pytest.raises(ValueError, match="at least one"):
        _readers.Readers(0)
