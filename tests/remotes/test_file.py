"""Folders of this machine: the contract, and what is special about file systems."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from cache import Kind
from mirror.errors import (
    AccessDenied,
    IsAFolder,
    NotFound,
    OriginFailed,
    SetupError,
    Stalled,
    Transient,
    UsageError,
    VersionChanged,
)
from mirror.remotes import How, canonical, key, open_remote
from mirror.remotes.base import Listing, Remote
from mirror.remotes.file import FileRemote, reading
from mirror.remotes.file.jobs import Job, Threads
from mirror.remotes.file.root import translated
from tests.remotes.contract import RemoteContract, read
from tests.remotes.tree import build
from tests.support.filesystems import mounted_dead, mounted_tmpfs, unprivileged
from tests.support.waiting import eventually


class FileContract(RemoteContract):
    @pytest.fixture
    async def remote(self, root: Path) -> AsyncIterator[Remote]:
        remote = open_remote(f"file://{root}", How(deadline=20.0))
        yield remote
        await remote.aclose()


class TestOnDisk(FileContract):
    """Whatever the temporary folder is on: ext4, mostly."""


class TestOnTmpfs(FileContract):
    @pytest.fixture
    def root(self, in_memory: Path) -> Path:
        return in_memory


@pytest.fixture(scope="module")
def in_memory() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mirror-tree-", dir="/dev/shm"))
    yield build(folder)
    shutil.rmtree(folder)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"a" * 1000)
    (folder / "sub" / "b.bin").write_bytes(b"b" * 2000)
    return folder


def remote_of(tree: Path, **options: object) -> FileRemote:
    return FileRemote(f"file://{tree}/", str(tree), **options)  # type: ignore[arg-type]


async def names(remote: FileRemote, path: str = "") -> dict[str, Kind]:
    listing = await remote.list(path)
    assert isinstance(listing, Listing)
    return {entry.name: entry.kind for entry in listing.entries}


async def content(remote: FileRemote, path: str, *, validator: str | None = None) -> bytes:
    async with remote.open_part(path, validator=validator) as part:
        return await read(part)


# -- spelling ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("file:/data/set", "file:///data/set/"),
        ("file:///data/set/", "file:///data/set/"),
        ("FILE://localhost/data/set", "file:///data/set/"),
        ("file:///data/my set", "file:///data/my%20set/"),
        ("file:///data/100%25/%41", "file:///data/100%25/A/"),
        ("file:///data/é", "file:///data/%C3%A9/"),
        ("file:///data/?version=times", "file:///data/?version=times"),
        ("file:///", "file:///"),
    ],
)
def test_one_spelling(source: str, expected: str) -> None:
    assert canonical(source) == canonical(expected) == expected
    assert key(source) == expected.partition("?")[0]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("file:data", "begin at the root"),
        ("file://server/share", "mounted here"),
        ("file://user:secret@server/share", "no user or password"),
        ("file:///a/../b", "cannot be used"),
        ("file:///a//b", "cannot be used"),
        ("file:///a#b", "%23"),
        ("file:///a?ctime=no", "no option"),
        ("file:///a?version=newest", "exact or times"),
    ],
)
def test_refused_in_one_line(source: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        canonical(source)
    assert "secret" not in str(caught.value)


async def test_a_folder_is_listed_in_the_order_of_its_names(tree: Path) -> None:
    """Which is that of most readers: what comes next is read ahead of them."""
    for number in range(100, 0, -1):
        (tree / "sub" / f"{number:03d}").write_bytes(b"")
    found = list(await names(remote_of(tree), "sub"))
    assert len(found) == 101
    assert found == sorted(found)


# -- versions ------------------------------------------------------------------------------------


async def test_a_file_that_was_put_in_the_place_of_another_is_another_version(tree: Path) -> None:
    """Also with the size and the times of the old one, which is how rsync puts a file in place."""
    remote = remote_of(tree)
    before = await remote.stat("a.bin")
    (tree / "new").write_bytes(b"x" * 1000)
    os.utime(tree / "new", ns=(before.mtime_ns or 0, before.mtime_ns or 0))
    (tree / "new").rename(tree / "a.bin")
    after = await remote.stat("a.bin")
    assert (after.size, after.mtime_ns) == (before.size, before.mtime_ns)
    assert after.validator != before.validator
    with pytest.raises(VersionChanged):
        await content(remote, "a.bin", validator=before.validator)


async def test_a_file_that_was_changed_in_place_and_set_back_is_another_version(tree: Path) -> None:
    remote = remote_of(tree)
    before = await remote.stat("a.bin")
    (tree / "a.bin").write_bytes(b"x" * 1000)
    os.utime(tree / "a.bin", ns=(before.mtime_ns or 0, before.mtime_ns or 0))
    assert (await remote.stat("a.bin")).validator != before.validator


async def test_where_inode_numbers_do_not_last_times_and_size_tell_versions(tree: Path) -> None:
    """`version=times`: a copy with the same time is the same version, and so is a file with another mode."""
    remote = remote_of(tree, exact=False)
    before = await remote.stat("a.bin")
    shutil.copy2(tree / "a.bin", tree / "copy")
    (tree / "copy").rename(tree / "a.bin")
    (tree / "a.bin").chmod(0o600)
    assert (await remote.stat("a.bin")).validator == before.validator


async def test_a_change_while_a_part_is_read_is_seen(tree: Path) -> None:
    """What was read before it is right; nothing of after it is handed out."""
    data = os.urandom(3 * reading.CHUNK)
    (tree / "large.bin").write_bytes(data)
    remote = remote_of(tree)

    def change() -> None:
        with (tree / "large.bin").open("r+b") as file:
            file.seek(2 * reading.CHUNK)
            file.write(b"other")

    with pytest.raises(VersionChanged, match="while it was read"):
        await _read_and(remote, change, came := [])
    assert b"".join(came) == data[: reading.CHUNK]


async def test_a_file_that_shrinks_while_it_is_read_is_no_short_one(tree: Path) -> None:
    (tree / "large.bin").write_bytes(bytes(3 * reading.CHUNK))
    remote = remote_of(tree)
    with pytest.raises(VersionChanged):
        await _read_and(remote, lambda: os.truncate(tree / "large.bin", reading.CHUNK), [])


async def _read_and(remote: FileRemote, change: Callable[[], object], came: list[bytes]) -> None:
    """Read a file, and change something after its first chunk."""
    async with remote.open_part("large.bin") as part:
        async for chunk in part:
            came.append(bytes(chunk))
            change()


# -- what is no part of a source -----------------------------------------------------------------


async def test_links_lead_nowhere_but_into_the_source(tree: Path, tmp_path: Path) -> None:
    """A link to a file of the source is that file; one that leads out of it is left out, whatever the way."""
    (tmp_path / "secret.txt").write_text("secret")
    (tree / "in").symlink_to("sub/b.bin")
    (tree / "sub" / "up").symlink_to("../a.bin")
    (tree / "absolute").symlink_to(tree / "a.bin")
    (tree / "chain").symlink_to("in")
    (tree / "out").symlink_to("../secret.txt")
    (tree / "out2").symlink_to(tmp_path / "secret.txt")
    (tree / "out3").symlink_to("sub/../../secret.txt")
    (tree / "out4").symlink_to("out")
    (tree / "out5").symlink_to(tmp_path)
    (tree / "gone").symlink_to("nothing")
    (tree / "self").symlink_to("self")
    remote = remote_of(tree)
    assert set(await names(remote)) == {"a.bin", "sub", "in", "absolute", "chain"}
    assert set(await names(remote, "sub")) == {"b.bin", "up"}
    for name, data in {
        "in": b"b" * 2000,
        "sub/up": b"a" * 1000,
        "absolute": b"a" * 1000,
        "chain": b"b" * 2000,
    }.items():
        assert await content(remote, name) == data
        assert (await remote.stat(name)).size == len(data)
    for name in ("out", "out2", "out3", "out4", "out5/secret.txt", "gone", "self", "out5"):
        with pytest.raises(NotFound):
            await content(remote, name)
        with pytest.raises(NotFound):
            await remote.stat(name)
        with pytest.raises(NotFound):
            await remote.list(name)


async def test_a_link_to_a_folder_is_followed_once(tree: Path) -> None:
    """So that folders that link to each other are no tree without an end; `current -> v2` works."""
    (tree / "v2").mkdir()
    (tree / "v2" / "data").write_bytes(b"2")
    (tree / "current").symlink_to("v2")
    (tree / "v2" / "back").symlink_to("../sub")
    (tree / "sub" / "forth").symlink_to("../v2")
    (tree / "sub" / "loop").symlink_to("..")
    remote = remote_of(tree)
    assert (await names(remote))["current"] is Kind.FOLDER
    assert set(await names(remote, "current")) == {"data"}
    assert await content(remote, "current/data") == b"2"
    assert set(await names(remote, "v2")) == {"data", "back"}
    assert set(await names(remote, "v2/back")) == {"b.bin"}
    assert set(await names(remote, "sub")) == {"b.bin", "forth"}
    with pytest.raises(NotFound):
        await remote.list("v2/back/forth")
    with pytest.raises(NotFound):
        await remote.list("sub/loop")


async def test_special_files_are_left_out_and_never_waited_for(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        monkeypatch.chdir(tree)
        sock.bind("sock")
        remote = remote_of(tree)
        assert set(await names(remote)) == {"a.bin", "sub"}
        for name in ("pipe", "sock"):
            with pytest.raises(NotFound):
                await content(remote, name)


async def test_names_that_are_no_utf8_are_left_out_and_logged_once(
    tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tree / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
    remote = remote_of(tree)
    for _ in range(2):
        assert set(await names(remote)) == {"a.bin", "sub"}
    assert [record.getMessage() for record in caplog.records] == [
        f"{tree}: left out the name 'caf\\udce9': it is not UTF-8"
    ]
    caplog.clear()


# -- failures ------------------------------------------------------------------------------------


async def test_what_may_not_be_read_is_refused_not_absent(tree: Path) -> None:
    """EACCES becomes AccessDenied, for folders and for files."""
    (tree / "sub").chmod(0)
    (tree / "a.bin").chmod(0)
    remote = remote_of(tree)
    with unprivileged():
        for ask in (remote.stat("sub/b.bin"), remote.list("sub"), content(remote, "a.bin")):
            with pytest.raises(AccessDenied, match="readable for the user"):
                await ask


async def test_a_root_that_is_not_there_is_an_outage(tree: Path) -> None:
    """Never an absence: whatever is missing may be missing because its file system is not mounted."""
    remote = remote_of(tree)
    tree.rename(tree.with_name("elsewhere"))
    for ask in (remote.list(""), remote.list("sub"), remote.stat("a.bin"), content(remote, "a.bin")):
        with pytest.raises(OriginFailed, match="is its file system mounted"):
            await ask
    tree.write_bytes(b"")
    with pytest.raises(OriginFailed, match="is not a folder"):
        await remote.list("")


async def test_an_empty_root_is_an_outage_too(tmp_path: Path) -> None:
    """That is what a mountpoint looks like after its file system was unmounted."""
    empty = tmp_path / "mountpoint"
    empty.mkdir()
    remote = remote_of(empty)
    for ask in (remote.list(""), remote.list("sub"), remote.stat("a.bin"), content(remote, "a.bin")):
        with pytest.raises(OriginFailed, match="empty; is its file system mounted"):
            await ask


async def test_an_unmounted_file_system_takes_no_name_away(tmp_path: Path) -> None:
    """Also where the folder below it has names of its own; mounted again, all goes on."""
    place = tmp_path / "mnt"
    place.mkdir()
    (place / "NOT-MOUNTED").write_bytes(b"")
    remote = remote_of(place)
    with mounted_tmpfs(place):
        (place / "a.bin").write_bytes(b"a")
        assert set(await names(remote)) == {"a.bin"}
    for ask in (remote.list(""), remote.stat("a.bin"), content(remote, "a.bin")):
        with pytest.raises(OriginFailed, match="another file system"):
            await ask
    with mounted_tmpfs(place):
        (place / "a.bin").write_bytes(b"a")
        assert set(await names(remote)) == {"a.bin"}


async def test_a_source_that_is_replaced_by_another_folder_is_followed(tree: Path) -> None:
    remote = remote_of(tree)
    await remote.list("")
    tree.rename(tree.with_name("old"))
    tree.mkdir()
    (tree / "new.bin").write_bytes(b"new")
    assert set(await names(remote)) == {"new.bin"}


@pytest.mark.parametrize("number", [116, 5, 107, 112, 24])
def test_failures_of_the_file_system_are_tried_again(number: int) -> None:
    """ESTALE, EIO, ENOTCONN (a dead FUSE daemon), EHOSTDOWN, EMFILE."""
    assert isinstance(translated(OSError(number, os.strerror(number)), "x"), Transient)


async def test_the_cache_in_its_own_source_is_refused(tree: Path) -> None:
    """It would cache itself, for ever."""
    (tree / "cache").mkdir()
    for cache, source in ((tree / "cache", tree), (tree, tree / "sub"), (tree, tree)):
        with pytest.raises(SetupError, match="is in"):
            await remote_of(source, cache=cache).list("")
    elsewhere = tree.with_name("cache")
    elsewhere.mkdir()
    await remote_of(tree, cache=elsewhere).list("")


# -- threads -------------------------------------------------------------------------------------


async def test_a_file_system_that_does_not_answer_stalls_for_the_deadline_and_no_longer() -> None:
    """The threads are left alone; whoever finds all of them stuck stalls as well."""
    never = threading.Event()
    threads = Threads(2, deadline=0.05)
    with trio.fail_after(10):
        for _ in range(3):
            with pytest.raises(Stalled, match=r"within 0\.05 s"):
                await threads.run(never.wait, "/dead")
    never.set()


async def test_a_dead_file_system_stalls_and_fails_once_it_is_given_up(tmp_path: Path) -> None:
    """Listing, looking and reading alike; the event loop goes on meanwhile."""
    place = tmp_path / "mnt"
    place.mkdir()
    remote = remote_of(place, deadline=0.2, threads=3)
    with mounted_dead(place):
        for ask in (remote.list(""), remote.stat("a"), content(remote, "a"), remote.list("sub")):
            with trio.fail_after(5), pytest.raises(Stalled):
                await ask
    with pytest.raises(OriginFailed):
        await remote.list("")


async def test_a_thread_that_comes_back_closes_what_it_held() -> None:
    """A part that was given up in mid-read leaks no descriptor."""
    entered, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def work() -> Iterator[int]:
        try:
            entered.set()
            go_on.wait()
            yield 1
        finally:
            closed.set()

    with Job(work(), Threads(1, deadline=0.05), "x") as job, pytest.raises(Stalled):
        await job.next()
    assert entered.is_set()
    assert not closed.is_set()
    go_on.set()
    assert await trio.to_thread.run_sync(closed.wait, 10)


async def test_a_part_left_early_is_closed(tree: Path, open_files: Callable[[], set[str]]) -> None:
    (tree / "large.bin").write_bytes(bytes(3 * reading.CHUNK))
    remote = remote_of(tree)
    async with remote.open_part("large.bin") as part:
        async for _ in part:
            break
        assert str(tree / "large.bin") in open_files()
    await trio.to_thread.run_sync(
        eventually, lambda: str(tree / "large.bin") not in open_files(), "a thread closes the file"
    )


async def test_nothing_is_open_between_two_questions(tree: Path, open_files: Callable[[], set[str]]) -> None:
    """So an idle mount never keeps the file system of its source from being unmounted."""
    remote = remote_of(tree)
    await remote.list("")
    await content(remote, "sub/b.bin")
    with pytest.raises(IsAFolder):
        await remote.stat("sub")
    assert not [name for name in open_files() if name.startswith(str(tree))]


@pytest.fixture
def open_files() -> Callable[[], set[str]]:
    def look() -> set[str]:
        found = set()
        for link in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                found.add(str(link.readlink()))
        return found

    return look
