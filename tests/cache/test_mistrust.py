"""Files that are not what they should be: no byte of them is served, and no reader gets an error."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cache import Cache, CacheBroken, CacheFull, Node, _files, _sealing, identity
from cache.identity import Identity
from cache.names import Names
from tests.cache.support import URL, complete, content, file, files, fill, read_all, write

DROPPED = "the cached object of a was damaged"


def final_of(home: Path, node: Node) -> Path:
    return Path(Names(home).of(node.key).final)


def part_of(home: Path, node: Node) -> Path:
    return Path(Names(home).of(node.key).part)


def sql(home: Path, statement: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(home / "index.sqlite", isolation_level=None)
    found = db.execute(statement).fetchall()
    db.close()
    return found


async def sealed(cache: Cache, name: str = "a", size: int = 1000) -> Node:
    (node,) = await files(cache, file(name, size))
    complete(cache, node)
    await cache.objects.sync()
    return node


def grow(path: Path) -> None:
    with path.open("ab") as opened:
        opened.write(b"more")


def link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: os.truncate(path, 999),
        lambda path: os.truncate(path, 0),
        grow,
        link,
        pipe,
        lambda path: path.chmod(0o622),
        lambda path: path.unlink(),
    ],
    ids=["cut", "emptied", "longer", "a link", "a pipe", "writable by others", "removed"],
)
async def test_a_bad_object_is_dropped_and_fetched_again(
    cache: Cache, home: Path, harm: Callable[[Path], None], expected_warnings: list[str]
) -> None:
    expected_warnings.append(DROPPED)
    node = await sealed(cache)
    harm(final_of(home, node))
    assert cache.objects.open_complete(node) is None
    await cache.objects.sync()
    while (filler := cache.objects.fill(node)) is None:
        await cache.objects.sync()  # the lease of the one who dropped it ends
    assert list(filler.present) == []
    write(filler, 0, 1000)
    assert read_all(filler.complete()) == content(node.id, 0, 1000)


async def test_a_fill_finds_out_by_itself_that_a_sealed_object_is_gone(cache: Cache, home: Path) -> None:
    node = await sealed(cache)
    final_of(home, node).unlink()
    complete(cache, node)
    assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, 1000)


async def test_a_final_name_that_was_never_made_safe_is_not_served_nor_written_to(
    cache: Cache, home: Path
) -> None:
    """After a power cut such a file may hold anything; and the kernel may still serve from it."""
    (node,) = await files(cache, file("a"))
    final = final_of(home, node)
    final.parent.mkdir(mode=0o700)
    final.write_bytes(b"\0" * 1000)
    final.chmod(0o600)
    with final.open("rb") as backing:
        assert not cache.objects.state(node).complete
        assert cache.objects.open_complete(node) is None
        assert final.exists(), "only who has the lease removes it"
        complete(cache, node)
        assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, 1000)
        assert backing.read() == b"\0" * 1000


async def test_an_object_whose_row_was_lost_is_known_by_its_identity(cache: Cache, home: Path) -> None:
    node = await sealed(cache)
    sql(home, "DELETE FROM objects")
    assert cache.objects.fill(node) is None
    assert cache.objects.state(node).complete
    await cache.objects.sync()
    assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, 1000)
    while not sql(home, "SELECT 1 FROM objects WHERE sealed_at IS NOT NULL"):
        await cache.tree.confirm_listing(node.parent, 1.0)  # takes its turn behind the row


@pytest.mark.parametrize("expected_warnings", [["the index of"]])
async def test_objects_that_are_moved_to_another_cache_cost_no_fetch(home: Path) -> None:
    async with Cache.open(home) as cache:
        node = await sealed(cache)
    other = home.parent / "moved"
    other.mkdir()
    (home / "objects").rename(other / "objects")
    async with Cache.open(other) as opened:
        (known,) = await files(opened, file("a", 1000))
        assert known.key == node.key
        assert read_all(opened.objects.open_complete(known)) == content(node.id, 0, 1000)


@pytest.mark.parametrize(
    "change",
    [
        {"path": "b"},
        {"source": "http://other.test/"},
        {"size": 999},
        {"mtime_ns": 1},
        {"mtime_ns": None},
        {"validator": "etag:2"},
    ],
    ids=str,
)
async def test_an_identity_that_is_not_the_nodes_proves_nothing(
    cache: Cache, home: Path, change: dict[str, object]
) -> None:
    (listed,) = await files(cache, file("a"))
    node = await cache.tree.put_entry(listed.parent, file("a", validator="etag:1"), 1.0)
    right = Identity(URL, "a", 1000, node.mtime_ns, node.mtime_resolution_ns, None)
    assert right.is_of(node, (URL, "a"))
    final = final_of(home, node)
    final.parent.mkdir(mode=0o700)
    final.write_bytes(b"\0" * 1000)
    final.chmod(0o600)
    wrong: Identity = replace(right, **change)  # type: ignore[arg-type]
    with final.open("r+b") as opened:
        assert identity.write(opened.fileno(), wrong)
    assert cache.objects.open_complete(node) is None


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"format":2}', b"\xff", b'{"format":1,"x":2}'])
async def test_an_identity_that_cannot_be_understood_proves_nothing(
    cache: Cache, home: Path, value: bytes
) -> None:
    node = await sealed(cache)
    sql(home, "DELETE FROM objects")
    os.setxattr(final_of(home, node), identity.ATTRIBUTE, value)
    assert not cache.objects.state(node).complete
    complete(cache, node)


def unmarked(error: int) -> Callable[[str, list[tuple[int, bytes | None]]], list[tuple[int, int, int]]]:
    """A `_sealing.mark` that cannot."""
    return lambda _, marks: [(error, 1, os.fstat(fd).st_blocks * 512) for fd, _ in marks]


async def test_without_extended_attributes_the_row_is_enough(
    cache: Cache, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sealing, "mark", unmarked(errno.ENOTSUP))
    node = await sealed(cache)
    assert "user.mirror.object" not in os.listxattr(final_of(home, node))
    assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, 1000)


async def test_extents_say_nothing_about_another_file(home: Path) -> None:
    """Somebody removed a partial file, and put another one there."""
    async with Cache.open(home) as cache:
        (node,) = await files(cache, file("a"))
        write(filler := fill(cache, node), 0, 600)
        filler.close()
    part = part_of(home, node)
    part.rename(part.with_suffix(".old"))
    part.write_bytes(b"\0" * 600)
    part.chmod(0o600)
    async with Cache.open(home) as cache:
        assert cache.objects.partials.open(node) is None
        assert cache.objects.partials.read(node, 0, 100) is None
        filler = fill(cache, node)
        assert list(filler.present) == []
        assert sql(home, "SELECT * FROM objects") == []
        write(filler, 0, 1000)
        assert read_all(filler.complete()) == content(node.id, 0, 1000)


@pytest.mark.parametrize("size", [0, 300])
async def test_extents_beyond_the_end_of_the_file_are_not_believed(home: Path, size: int) -> None:
    async with Cache.open(home) as cache:
        (node,) = await files(cache, file("a"))
        write(filler := fill(cache, node), 0, 600)
        filler.close()
    os.truncate(part_of(home, node), size)
    async with Cache.open(home) as cache:
        filler = fill(cache, node)
        assert list(filler.present) == []
        filler.close()


async def test_a_partial_file_that_the_index_does_not_know_is_replaced_not_written_over(
    cache: Cache, home: Path
) -> None:
    (node,) = await files(cache, file("a"))
    part = part_of(home, node)
    part.parent.mkdir(mode=0o700)
    part.write_bytes(b"\0" * 1000)
    part.chmod(0o600)
    with part.open("rb") as other:
        complete(cache, node)
        assert other.read() == b"\0" * 1000
    assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, 1000)


async def test_bytes_that_the_disk_lost_are_never_noted(
    cache: Cache, home: Path, monkeypatch: pytest.MonkeyPatch, expected_warnings: list[str]
) -> None:
    expected_warnings.append("bytes of a were lost on their way to the disk")
    (node,) = await files(cache, file("a"))
    filler = fill(cache, node)
    write(filler, 0, 500)

    def fdatasync(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fdatasync)
        await cache.objects.sync()
    assert sql(home, "SELECT * FROM extents") == []
    with pytest.raises(CacheBroken, match="Input/output error"):
        write(filler, 500, 1000)
    filler.discard()
    complete(cache, node)
    assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, 1000)


@pytest.mark.parametrize("function", ["fdatasync", "fsync", "setxattr"])
async def test_a_complete_object_that_the_disk_lost_is_fetched_again(
    cache: Cache,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: list[str],
    function: str,
) -> None:
    expected_warnings.append("bytes of a were lost on their way to the disk")
    (node,) = await files(cache, file("a"))

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        if function == "setxattr":
            patch.setattr(_sealing, "mark", unmarked(errno.EIO))
        else:
            patch.setattr(os, function, fails)
        complete(cache, node)
        await cache.objects.sync()
    assert not cache.objects.state(node).complete
    assert sql(home, "SELECT * FROM objects") == []
    complete(cache, node)
    await cache.objects.sync()
    assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, 1000)


async def test_a_name_that_may_not_be_on_disk_is_not_sealed(
    cache: Cache, home: Path, monkeypatch: pytest.MonkeyPatch, expected_warnings: list[str]
) -> None:
    expected_warnings.append("the names of complete objects may not be on disk")
    (node,) = await files(cache, file("a"))
    fsync = os.fsync

    def fails_for_folders(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        fsync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails_for_folders)
        complete(cache, node)
        await cache.objects.sync()
    assert sql(home, "SELECT * FROM objects") == []


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, CacheFull), (errno.EDQUOT, CacheFull), (errno.EIO, CacheBroken)]
)
async def test_a_failed_write_counts_for_nothing(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    (node,) = await files(cache, file("a"))
    filler = fill(cache, node)

    store = _files.store

    def fails(*args: Any) -> Any:
        """As far as anybody can tell, for nothing that is written to this descriptor arrives."""
        return SimpleNamespace(run=lambda: SimpleNamespace(error=number, stage="write", runs=[]))

    with monkeypatch.context() as patch:
        patch.setattr(_files, "store", fails)
        with pytest.raises(error, match="cannot write 1000 bytes of a"):
            write(filler, 0, 1000)
    assert _files.store is store
    assert list(filler.present) == []
    write(filler, 0, 1000)
    os.close(filler.complete())


async def test_somebody_elses_file_is_not_filled(cache: Cache, home: Path) -> None:
    (node,) = await files(cache, file("a"))
    part = part_of(home, node)
    part.parent.mkdir(mode=0o700)
    part.touch(0o666)
    part.chmod(0o666)
    with pytest.raises(CacheBroken, match="not a file of this user alone"):
        cache.objects.fill(node)


async def test_running_out_of_descriptors_harms_no_object(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await sealed(cache)

    def no_more(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("cache.names.os.open", no_more)
        with pytest.raises(CacheBroken, match="Too many open files"):
            cache.objects.open_complete(node)
    assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, 1000)
