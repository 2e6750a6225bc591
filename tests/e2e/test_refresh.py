"""`mirror refresh`, and what one process tells the mounts of others."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from cache import Cache, Entry, Kind
from tests.support.command import mirror
from tests.support.data import noise, put
from tests.support.failures import errno_of
from tests.support.mounts import Mount, mounted
from tests.support.servers import Server, lighttpd
from tests.support.waiting import eventually

FOREVER = ["--ttl", "inf"]


@pytest.fixture
def tree(folder: Path) -> Path:
    """An origin with a few files in two folders."""
    for name in ("a/1.bin", "a/2.bin", "b/3.bin", "top.bin"):
        put(folder, name, noise(name, 10_000))
    return folder


@pytest.fixture
def seen(tree: Path, origin: Server) -> Iterator[Mount]:
    """A mount that never asks again, whose kernel has seen everything, and an absence."""
    with mounted(origin.url, args=FOREVER) as mount:
        look(mount)
        assert not (mount.path / "a" / "new.bin").exists()
        yield mount


def look(mount: Mount) -> dict[str, int]:
    """Every file through the kernel, with its size."""
    return {
        str(path.relative_to(mount.path)): path.stat().st_size
        for path in sorted(mount.path.rglob("*"))
        if path.is_file()
    }


def change(tree: Path) -> None:
    """One file is new, one is gone, one is another."""
    put(tree, "a/new.bin", noise("new", 500))
    (tree / "a/1.bin").unlink()
    put(tree, "a/2.bin", noise("other", 20_000))


def refresh(mount: Mount, *args: str | Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(mount.mirror("refresh", "--json", *args).ok().out)
    return summary


def test_a_change_reaches_an_open_mount_at_once(tree: Path, seen: Mount) -> None:
    """What is new, gone or another shows when the command returns; who has a file open keeps its version."""
    fd = seen.open_passthrough("a/2.bin")
    gone = seen.open_passthrough("a/1.bin")
    try:
        change(tree)
        assert look(seen)["a/2.bin"] == 10_000  # nobody has told yet
        said = refresh(seen, seen.path)
        assert said == said | {
            "ok": True,
            "folders": 3,
            "added": 1,
            "changed": 1,
            "removed": 1,
            "failed": 0,
            "mounts": [str(seen.path)],
            "silent": [],
        }
        assert look(seen) == {"a/2.bin": 20_000, "a/new.bin": 500, "b/3.bin": 10_000, "top.bin": 10_000}
        assert errno_of((seen.path / "a/1.bin").stat) == "ENOENT"
        assert (seen.path / "a/2.bin").read_bytes() == noise("other", 20_000)
        assert os.pread(fd, 20_000, 0) == noise("a/2.bin", 10_000)
        assert os.pread(gone, 20_000, 0) == noise("a/1.bin", 10_000)
    finally:
        os.close(fd)
        os.close(gone)


def test_only_what_is_named_is_compared(tree: Path, seen: Mount, origin: Server) -> None:
    """A folder with all below it, by its path in the mount or below the source; or one file."""
    change(tree)
    put(tree, "b/4.bin", b"four")
    assert refresh(seen, seen.path / "b")["added"] == 1
    assert look(seen) == look(seen) | {"a/2.bin": 10_000, "b/4.bin": 4}
    origin.forget()
    said = refresh(seen, origin.url, "a/2.bin", "a/1.bin")
    assert (said["changed"], said["removed"], said["files"], said["folders"]) == (1, 1, 2, 0)
    assert [request.method for request in origin.requests()] == ["HEAD", "HEAD"]
    assert look(seen)["a/2.bin"] == 20_000
    assert "a/new.bin" not in look(seen)
    assert refresh(seen, seen.path, "a")["added"] == 1
    assert look(seen)["a/new.bin"] == 500


def test_refresh_says_what_it_found(tree: Path, seen: Mount, origin: Server) -> None:
    """In one line; what cannot be is one line as well."""
    assert (
        seen.mirror("refresh", seen.path).ok().out
        == "3 folders compared: nothing has changed; told 1 mount\n"
    )
    change(tree)
    said = seen.mirror("refresh", origin.url).ok().out
    assert said == "3 folders compared: 1 new, 1 changed, 1 gone; told 1 mount\n"
    for args, words in (
        ([origin.url, "nothing"], "there is no nothing in"),
        ([origin.url, "a/../b"], "without '..'"),
        ([seen.home], "is not mounted by mirror"),
        ([seen.path, "--cache", seen.cache], "a mount has its own"),
    ):
        outcome = seen.mirror("refresh", *args)
        assert outcome.code in (1, 2)
        assert words in outcome.lines[0]
    origin.stop()
    outcome = seen.mirror("refresh", origin.url, "--deadline", "1")
    assert outcome.code == 1
    assert "refused" in outcome.err
    assert look(seen)["a/2.bin"] == 20_000


def test_refresh_works_without_a_mount(tree: Path, origin: Server, tmp_path: Path) -> None:
    """Only folders that were listed are asked for."""
    cache = tmp_path / "cache"
    mirror("ls", origin.url, "a", "--cache", cache).ok()
    change(tree)
    said = json.loads(mirror("refresh", origin.url, "--json", "--cache", cache).ok().out)
    assert (said["folders"], said["added"], said["removed"], said["mounts"]) == (2, 1, 1, [])
    listed = mirror("ls", "-1", "--offline", origin.url, "a", "--cache", cache).ok().out
    assert listed.split() == ["2.bin", "new.bin"]


def test_a_file_that_its_listing_does_not_vouch_for_is_asked_about(tree: Path, tmp_path: Path) -> None:
    """Some listings state sizes roughly, or not at all."""
    with lighttpd(tree) as server, mounted(server.url, args=FOREVER) as mount:
        look(mount)
        put(tree, "a/2.bin", noise("other", 10_001), mtime=int((tree / "a/2.bin").stat().st_mtime))
        assert refresh(mount, mount.path)["changed"] == 1
        assert look(mount)["a/2.bin"] == 10_001


@pytest.mark.parametrize("command", [["index"], ["warm"], ["ls", "-R", "--ttl", "0"]])
def test_what_any_process_learns_reaches_every_mount(
    command: list[str], tree: Path, seen: Mount, origin: Server
) -> None:
    """A mount does not ask again for what others have just asked for: it hears of it."""
    change(tree)
    seen.mirror(command[0], origin.url, *command[1:]).ok()
    eventually(lambda: look(seen).get("a/2.bin") == 20_000, "the mount shows the change")
    eventually((seen.path / "a/new.bin").exists, "an absence is not remembered")
    eventually(lambda: not (seen.path / "a/1.bin").exists(), "a name that is gone is forgotten")


def test_a_mount_hears_of_many_changes_at_once(folder: Path, origin: Server) -> None:
    """Then it is only told which folder they are in."""
    names = [f"{number:04d}" for number in range(1500)]
    for name in names:
        put(folder, f"a/{name}", b"old")
    with mounted(origin.url, args=FOREVER) as mount:
        assert len(look(mount)) == 1500
        for name in names[:700]:
            (folder / "a" / name).unlink()
        for name in names[700:1400]:
            put(folder, f"a/{name}", b"newer")
        said = refresh(mount, mount.path)
        assert (said["changed"], said["removed"]) == (700, 700)
        for name in names:
            path = mount.path / "a" / name
            if name < "0700":
                assert not path.exists()
            else:
                assert path.stat().st_size == (5 if name < "1400" else 3)


def test_a_worker_that_was_away_hears_what_was_told_meanwhile(tree: Path, seen: Mount) -> None:
    """What its predecessor had told the kernel, it takes back."""
    change(tree)
    dead = seen.kill_worker()
    seen.mirror("refresh", seen.source).ok()
    seen.wait_worker(dead)
    eventually(lambda: look(seen).get("a/2.bin") == 20_000, "the mount shows the change")
    eventually(lambda: not (seen.path / "a/1.bin").exists(), "a name that is gone is forgotten")


def test_what_was_told_before_a_worker_could_hear_it_is_not_lost(tree: Path, seen: Mount) -> None:
    """The successor has it ready before the kernel has greeted it."""
    dead = seen.worker_pid
    os.kill(seen.keeper_pid, signal.SIGSTOP)
    try:
        os.kill(dead, signal.SIGKILL)
        change(tree)
        seen.mirror("ls", "-R", "--ttl", "0", seen.source).ok()
    finally:
        os.kill(seen.keeper_pid, signal.SIGCONT)
    seen.wait_worker(dead)
    # No folder is read: the kernel would find the changes by itself.
    eventually(lambda: not (seen.path / "a/1.bin").exists(), "a name that is gone is forgotten")
    eventually(lambda: (seen.path / "a/2.bin").stat().st_size == 20_000, "the mount shows the change")


async def test_many_changes_wait_for_a_folder_that_is_in_use(
    folder: Path, origin: Server, nursery: trio.Nursery
) -> None:
    """However long the kernel makes it wait, and however much it is: all that is to be told is told."""
    names = [f"{number:04}" for number in range(5000)]
    for name in names:
        put(folder, f"a/{name}", b"")
    put(folder, "b/c", b"")
    with mounted(origin.url, args=FOREVER) as mount:
        assert sorted(path.name for path in (mount.path / "a").iterdir()) == names
        before = mount.counters()
        origin.pause()
        try:
            nursery.start_soon(trio.to_thread.run_sync, (mount.path / "b" / "new").exists)
            await in_thread(lambda: mount.counters()["lookups"] > before["lookups"] + 1, "b is looked into")
            await learn_that_all_is_gone(mount, "b", "a")
        finally:
            origin.resume()
        await in_thread(
            lambda: not any((mount.path / "a" / name).exists() for name in names), "all is forgotten"
        )


async def learn_that_all_is_gone(mount: Mount, *folders: str) -> None:
    """As a process that has listed folders of the source."""
    entry = Entry("x", Kind.FILE, 1, None, 1, None)
    async with Cache.open(mount.cache) as cache:
        root = await cache.tree.root(mount.source)
        for name in folders:
            folder = cache.tree.child(root.id, name)
            assert folder is not None
            if folder.listed_at is None:  # of such a folder it is not told what is in it
                await cache.tree.put_listing(folder.id, [entry], validator=None, at=time.time())
            await cache.tree.put_listing(folder.id, [], validator=None, at=time.time())


async def in_thread(look: Callable[[], object], what: str) -> None:
    """Look again and again, beside what else the test does."""
    await trio.to_thread.run_sync(eventually, look, what)
