"""Wrong usage and unfit machines: one line that names cause and next step, an exit code, nothing left."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command import PROGRAM, Outcome
from tests.support.data import noise, put, tree
from tests.support.mounts import RUNTIME, Mount, mounted, prepared
from tests.support.servers import Server, nginx
from tests.support.waiting import eventually

WRONG, FAILED = 2, 1


def one_line(outcome: Outcome, code: int, *words: str) -> None:
    """Assert the exit code and that the only line on standard error holds all the words."""
    assert outcome.code == code, str(outcome)
    assert len(outcome.lines) == 1, f"not one line:\n{outcome.err}"
    missing = [word for word in words if word.lower() not in outcome.err.lower()]
    assert not missing, f"{missing} not in: {outcome.err}"


def _snapshot(mount: Mount) -> object:
    path = mount.path
    if path.is_dir():
        return path.stat().st_ino, sorted(found.name for found in path.iterdir())
    return path.read_bytes() if path.exists() else None


# -- mountpoints -----------------------------------------------------------------------------


def _missing(mount: Mount) -> None:
    mount.path.rmdir()


def _a_file(mount: Mount) -> None:
    mount.path.rmdir()
    mount.path.write_bytes(b"a file")


def _not_empty(mount: Mount) -> None:
    (mount.path / "already here").write_bytes(b"x")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(_missing, ["does not exist", "mkdir"]), (_a_file, ["not a folder"]), (_not_empty, ["not empty"])],
    ids=["missing", "a file", "not empty"],
)
def test_a_mountpoint_that_cannot_be_one(
    spoil: Callable[[Mount], None], words: list[str], folder: Path, origin: Server
) -> None:
    """A mountpoint that is missing, not a folder, or not empty stays as it was."""
    put(folder, "file", b"x")
    with prepared(origin.url) as mount:
        spoil(mount)
        before = _snapshot(mount)
        one_line(mount.mount(), FAILED, str(mount.path), *words)
        mount.assert_gone()
        assert _snapshot(mount) == before


def test_a_mountpoint_that_is_mounted_already(folder: Path, origin: Server) -> None:
    """The second mount is refused, the first goes on."""
    put(folder, "file", b"still served")
    with mounted(origin.url) as mount:
        keeper = mount.keeper_pid
        one_line(mount.mount(), FAILED, str(mount.path), "already mounted", "mirror unmount")
        assert mount.status()["keeper_pid"] == keeper
        assert (mount.path / "file").read_bytes() == b"still served"


def test_of_mounts_made_at_once_on_one_folder_one_succeeds(folder: Path, origin: Server) -> None:
    """The others are told that it is mounted already: mounts are never stacked."""
    put(folder, "file", b"once")
    with prepared(origin.url) as mount:
        with ThreadPoolExecutor() as pool:
            outcomes = list(pool.map(lambda _: mount.mirror(*mount.argv()), range(4)))
        assert sorted(outcome.code for outcome in outcomes) == [0, 1, 1, 1], list(map(str, outcomes))
        for outcome in outcomes:
            if outcome.code:
                one_line(outcome, FAILED, "mounted", "already")
        mount.unmount()


# -- sources ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", []),
        ("no-url-at-all", []),
        ("http://", ["host"]),
        ("http://[::1", []),
        ("http://127.0.0.1:notaport/", []),
        ("gopher://example.org/", ["gopher", "http"]),
        ("http://user:secret@127.0.0.1/", ["netrc"]),
    ],
)
def test_a_source_that_means_nothing(source: str, words: list[str]) -> None:
    """A malformed URL or one of an unknown kind is wrong usage; a password in it is never repeated."""
    with prepared(source) as mount:
        refused = mount.mount()
        one_line(refused, WRONG, *words)
        assert "secret" not in refused.err
        mount.assert_gone()


STATUSES = {401: ["401"], 403: ["403"], 404: ["404"]}


@pytest.mark.parametrize("status", STATUSES)
def test_a_source_that_the_origin_refuses(status: int, folder: Path) -> None:
    """401, 403 and 404 end the command with what the origin said."""
    put(folder, "tree/file", b"x")
    conf = f"location /tree/ {{ return {status}; }}"
    with nginx(folder, extra_conf=conf) as origin, prepared(f"{origin.url}tree/") as mount:
        one_line(mount.mount(), FAILED, *STATUSES[status])
        mount.assert_gone()


def test_a_source_that_is_no_listing(folder: Path) -> None:
    """A page that is not a listing is not an empty folder."""
    conf = 'location / { default_type text/html; return 200 "<html><h1>Welcome</h1>Nothing to see.</html>"; }'
    with nginx(folder, extra_conf=conf) as origin, prepared(origin.url) as mount:
        one_line(mount.mount(), FAILED, "listing")
        mount.assert_gone()


def test_an_origin_that_cannot_be_reached(folder: Path, origin: Server) -> None:
    """With nothing cached: an error. With a cached listing: a mount and a warning."""
    put(folder, "file", noise("offline", 1000))
    with prepared(origin.url, args=["--deadline", "2"]) as mount:
        origin.stop()
        one_line(mount.mount(), FAILED, origin.url.rstrip("/"))
        mount.assert_gone()
        origin.start()
        mount.mount().ok()
        assert (mount.path / "file").read_bytes() == noise("offline", 1000)
        assert set(tree(mount.path)) == {"file"}
        mount.unmount()
        origin.stop()
        said = mount.mount().ok()
        assert "warning" in said.err
        assert (mount.path / "file").read_bytes() == noise("offline", 1000)


@pytest.mark.parametrize("how", ["background", "foreground"])
def test_a_start_that_waits_for_a_silent_origin_can_be_interrupted(how: str) -> None:
    """Ctrl-C while the origin is asked: nothing is left."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        prepared(f"http://127.0.0.1:{silent.getsockname()[1]}/", args=["--deadline", "1h"]) as mount,
    ):
        process = subprocess.Popen(
            [PROGRAM, "mount", *mount.args, mount.source, mount.path, "--cache", mount.cache]
            + ["--foreground"] * (how == "foreground"),
            env={**os.environ, RUNTIME: str(mount.runtime)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        silent.settimeout(30)
        with silent.accept()[0]:
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=30)
            assert "Traceback" not in said
            eventually(lambda: not mount.processes(), "the keeper has undone what it did")
            mount.assert_gone()


def test_a_mount_in_the_foreground_fails_in_one_line_too(folder: Path, origin: Server) -> None:
    """The log goes to the same terminal: it does not say the same again."""
    put(folder, "file", b"x")
    with prepared(origin.url, args=["--foreground"]) as mount:
        mount.path.rmdir()
        argv = ["mount", "--foreground", origin.url, mount.path, "--cache", mount.cache]
        one_line(mount.mirror(*argv), FAILED, str(mount.path), "does not exist")


# -- caches ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unfit:
    """A cache folder that must be refused."""

    words: tuple[str, ...]
    made: Callable[[Mount, Path], AbstractContextManager[Path]]
    code: int = FAILED
    named: bool = True
    """Whether the line names the folder itself; else it names what is above it."""


def _inside_the_mountpoint(mount: Mount, _: Path) -> AbstractContextManager[Path]:
    return nullcontext(mount.path / "cache")


def _below_a_file(_: Mount, folder: Path) -> AbstractContextManager[Path]:
    (folder / "file").write_bytes(b"x")
    return nullcontext(folder / "file" / "cache")


@contextmanager
def _read_only(_: Mount, folder: Path) -> Iterator[Path]:
    with _tmpfs(folder, "ro") as path:
        yield path


@contextmanager
def _full(_: Mount, folder: Path) -> Iterator[Path]:
    with _tmpfs(folder, "size=1m") as path:
        try:
            with (path / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))
        except OSError:
            yield path


@contextmanager
def _tmpfs(folder: Path, options: str) -> Iterator[Path]:
    path = folder / "tmpfs"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@contextmanager
def _on_fuse(mount: Mount, folder: Path) -> Iterator[Path]:
    with mounted(mount.source) as other:
        yield other.path


def _of_a_newer_version(_: Mount, folder: Path) -> AbstractContextManager[Path]:
    with sqlite3.connect(folder / "index.sqlite") as index:
        index.execute("PRAGMA user_version = 9999")
    index.close()
    folder.chmod(0o700)
    return nullcontext(folder)


def _of_somebody_else(_: Mount, folder: Path) -> AbstractContextManager[Path]:
    path = folder / "theirs"
    path.mkdir(mode=0o700)
    subprocess.run(["chown", "61234", path], check=True)
    return nullcontext(path)


CACHES = {
    "inside the mountpoint": Unfit(("inside the mountpoint",), _inside_the_mountpoint, code=WRONG),
    "below a file": Unfit(("not a folder",), _below_a_file, named=False),
    "not writable": Unfit(("not writable",), _read_only),
    "on a full file system": Unfit(("no space",), _full),
    "on FUSE": Unfit(("FUSE",), _on_fuse),
    "of a newer version": Unfit(("newer",), _of_a_newer_version),
    "of another user": Unfit(("belongs to", "61234"), _of_somebody_else),
}


@pytest.mark.parametrize("case", CACHES)
def test_a_cache_that_cannot_be_one(case: str, folder: Path, origin: Server, tmp_path: Path) -> None:
    """The line names the folder and what is wrong with it."""
    put(folder, "file", b"x")
    unfit, scratch = CACHES[case], tmp_path / "scratch"
    scratch.mkdir()
    with prepared(origin.url) as mount, unfit.made(mount, scratch) as cache:
        mount.cache = cache
        before = _snapshot(mount)
        one_line(mount.mount(), unfit.code, str(cache if unfit.named else cache.parent), *unfit.words)
        mount.assert_gone()
        assert _snapshot(mount) == before


# -- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--open", "sometimes"], ["--open"]),
        (["--ttl", "soon"], ["--ttl"]),
        (["--deadline", "0"], ["--deadline"]),
        (["--no-such-option"], ["--no-such-option"]),
        (["-o", "no_such_option"], ["no_such_option"]),
        (["-o", "nosuch=1"], ["nosuch"]),
    ],
)
def test_an_option_that_means_nothing(args: list[str], words: list[str], origin: Server) -> None:
    """Wrong usage is exit code 2 and one line that names the option."""
    with prepared(origin.url, args=args) as mount:
        one_line(mount.mount(), WRONG, *words)
        mount.assert_gone()


def test_commands_about_what_is_not_mounted() -> None:
    """`unmount` and `status` of a folder that is no mount of ours fail in one line."""
    with prepared("http://127.0.0.1/") as mount:
        one_line(mount.mirror("unmount", mount.path), FAILED, str(mount.path))
        one_line(mount.mirror("status", mount.path, "--json"), FAILED, str(mount.path))
