"""`docs/semantics.md`, "Names and attributes": the tree that a mount shows."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from tests.support.data import GiB, MiB, noise, put, put_sparse, same_bytes, tree
from tests.support.failures import errno_of
from tests.support.mounts import mounted
from tests.support.servers import Server, nginx

NASTY = [
    "plain.txt",
    "two words.txt",
    "  blanks at both ends  ",
    "100%.txt",
    "%41 is not A",
    "%2e%2e",
    "a+b&c=d;e",
    "what?.txt",
    "#hash",
    "'single' \"double\"",
    "<b>bold<",
    "back\\slash",
    "colon:and|pipe*",
    "tab\there",
    "naïve-façade-ü",  # composed
    "nai\u0308ve",  # decomposed: another name
    "日本語.bin",
    "emoji-🦀",
    "..dots",
    "~tilde",
    "x" * 255,
    "ü" * 127,
]


@pytest.mark.parametrize("autoindex", ["html", "json"])
def test_the_tree_is_the_origins_tree(autoindex: Literal["html", "json"], folder: Path) -> None:
    """Folders and files have the names that the origin lists, decoded once."""
    # nginx lists no name that begins with a dot, in no format.
    names = [name for name in NASTY if not name.startswith(".")]
    for name in names:
        put(folder, f"files/{name}", noise(name, 100))
        put(folder, f"folders/{name}/{name}", noise((name, name), 10))
    (folder / "empty").mkdir()
    with nginx(folder, autoindex=autoindex) as origin, mounted(origin.url) as mount:
        seen = tree(mount.path)
        assert seen == tree(folder)
        for name in names:
            assert (mount.path / "files" / name).read_bytes() == noise(name, 100)
            assert (mount.path / "folders" / name / name).read_bytes() == noise((name, name), 10)


def test_sizes_and_times_are_the_origins(folder: Path, origin: Server) -> None:
    """Sizes are exact, times as exact as the origin states them; files are 0444, folders 0555, ours."""
    for number, size in enumerate((0, 1, 4095, 4096, 4097)):
        put(folder, f"{size}.bin", noise(size, size), mtime=1_700_000_000 + number)
    (folder / "sub").mkdir()
    with mounted(origin.url) as mount:
        for original in folder.iterdir():
            name, theirs = original.name, original.stat()
            ours = (mount.path / name).stat()
            assert (ours.st_uid, ours.st_gid) == (os.geteuid(), os.getegid())
            if name == "sub":
                assert stat.S_IMODE(ours.st_mode) == 0o555
            else:
                assert stat.S_IMODE(ours.st_mode) == 0o444
                assert ours.st_size == theirs.st_size
                assert int(ours.st_mtime) == int(theirs.st_mtime)


@pytest.mark.parametrize("size", [0, 1, 16 * MiB - 1, 16 * MiB, 16 * MiB + 1])
def test_files_of_sizes_at_the_edges(size: int, folder: Path, origin: Server) -> None:
    """Nothing is special about an empty file, a byte, or the size that open waits for."""
    data = noise("edge", size)
    put(folder, "file.bin", data)
    with mounted(origin.url) as mount:
        path = mount.path / "file.bin"
        assert path.stat().st_size == size
        assert path.read_bytes() == data
        fd = os.open(path, os.O_RDONLY)
        try:
            assert os.pread(fd, 10, size) == b""
            assert os.pread(fd, 10, max(size - 1, 0)) == data[-1:]
        finally:
            os.close(fd)


def test_a_file_of_5_gib(folder: Path, origin: Server) -> None:
    """Beyond 4 GiB no offset is cut: the ends and places between hold what the origin holds."""
    size = 5 * GiB + 123
    marks = {at: noise(at, 64) for at in (0, 2**31 - 32, 2**32 - 32, 2**32 + 4096, size - 64)}
    path = put_sparse(folder, "huge.bin", size, marks)
    with mounted(origin.url) as mount:
        with (mount.path / "huge.bin").open("rb", buffering=0) as file:
            assert os.fstat(file.fileno()).st_size == size
            for at, mark in reversed(marks.items()):
                assert os.pread(file.fileno(), 64, at) == mark
            assert os.pread(file.fileno(), 64, size - 10) == marks[size - 64][-10:]
        assert same_bytes(mount.path / "huge.bin", path)
        os.close(mount.open_passthrough("huge.bin"))


def test_a_name_that_is_not_there_and_a_name_that_is_too_long(folder: Path, origin: Server) -> None:
    """ENOENT and ENAMETOOLONG, as on any file system; a file is not a folder."""
    put(folder, "file", b"x")
    with mounted(origin.url) as mount:
        wanted = {"missing": "ENOENT", "y" * 256: "ENAMETOOLONG", "file/x": "ENOTDIR"}
        assert {name: errno_of((mount.path / name).stat) for name in wanted} == wanted


CHANGES: dict[str, Callable[[Path], object]] = {
    "write": lambda root: os.open(root / "file", os.O_WRONLY),
    "read-write": lambda root: os.open(root / "file", os.O_RDWR),
    "create": lambda root: os.open(root / "new", os.O_WRONLY | os.O_CREAT),
    "truncate": lambda root: os.truncate(root / "file", 0),
    "unlink": lambda root: (root / "file").unlink(),
    "mkdir": lambda root: (root / "new").mkdir(),
    "rmdir": lambda root: (root / "folder").rmdir(),
    "rename": lambda root: (root / "file").rename(root / "new"),
    "link": lambda root: os.link(root / "file", root / "new"),
    "symlink": lambda root: (root / "new").symlink_to("file"),
    "mknod": lambda root: os.mknod(root / "new", stat.S_IFIFO | 0o600),
    "chmod": lambda root: (root / "file").chmod(0o600),
    "chown": lambda root: os.chown(root / "file", 1, 1),
    "utime": lambda root: os.utime(root / "file", (0, 0)),
    "setxattr": lambda root: os.setxattr(root / "file", "user.test", b"1"),
    "removexattr": lambda root: os.removexattr(root / "file", "user.test"),
}


def test_every_change_is_refused_with_erofs(folder: Path, origin: Server) -> None:
    """Writing, creating, deleting, renaming, linking, truncating, changing any attribute."""
    put(folder, "file", b"constant")
    (folder / "folder").mkdir()
    with mounted(origin.url) as mount:
        got = {name: errno_of(functools.partial(change, mount.path)) for name, change in CHANGES.items()}
        assert got == dict.fromkeys(CHANGES, "EROFS")
        assert tree(mount.path) == tree(folder)
