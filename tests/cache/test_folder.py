"""Folders that cannot be a cache: each is refused in one line that names the cause and the next step."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cache import Cache, CacheUnusable, check_folder, statfs


async def refused(path: Path, match: str) -> None:
    """Both ways in refuse it with the same words."""
    with pytest.raises(CacheUnusable, match=match) as checked:
        check_folder(path)
    with pytest.raises(CacheUnusable) as opened:
        async with Cache.open(path):
            pass
    assert str(opened.value) == str(checked.value)
    assert "\n" not in str(checked.value)


async def test_a_folder_is_made_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    check_folder(path)
    assert not (tmp_path / "a").exists(), "a check makes nothing"
    async with Cache.open(path) as cache:
        assert cache.path == path
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / "objects").stat().st_mode & 0o777 == 0o700
    assert (path / "index.sqlite").stat().st_mode & 0o777 == 0o600
    check_folder(path)


@pytest.mark.parametrize(
    ("magic", "name"), [(0x6969, "NFS"), (0x65735546, "FUSE"), (0xFF534D42, "SMB"), (0x01021997, "9p")]
)
async def test_a_network_or_fuse_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, magic: int, name: str
) -> None:
    monkeypatch.setattr(statfs, "magic", lambda _: magic)
    await refused(tmp_path / "cache", f"is on {name}.*: choose a folder on a local disk")
    assert not (tmp_path / "cache").exists()


def test_the_kernel_names_the_file_system() -> None:
    assert statfs.unfit(statfs.magic(Path("/proc"))) == "procfs"
    assert statfs.unfit(statfs.magic(Path("/sys"))) == "sysfs"
    with pytest.raises(FileNotFoundError):
        statfs.magic(Path("/nowhere/at/all"))


async def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    await refused(tmp_path / "file", "file is not a folder: choose another")
    await refused(tmp_path / "file" / "cache", r"Not a directory|not a folder")


@pytest.mark.parametrize("part", ["", "objects", "index.sqlite"])
async def test_a_cache_that_belongs_to_another_user_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    async with Cache.open(home):
        pass
    real = Path.stat

    def stat(self: Path, *, follow_symlinks: bool = True) -> object:
        status = real(self, follow_symlinks=follow_symlinks)
        if self == home / part:
            return SimpleNamespace(st_uid=os.geteuid() + 1, st_mode=status.st_mode)
        return status

    monkeypatch.setattr(Path, "stat", stat)
    await refused(home, "belongs to .*, and this runs as .*: choose a cache folder of your own")


@pytest.mark.parametrize("part", ["", "objects", "index.sqlite"])
async def test_a_cache_that_others_may_write_to_is_refused(home: Path, part: str) -> None:
    async with Cache.open(home):
        pass
    (home / part).chmod(0o777)
    await refused(home, "others may write to .*: run chmod go-w")


async def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    await refused(tmp_path, "is not writable: change its mode or choose another folder")


@pytest.mark.parametrize(("blocks", "files"), [(0, 5), (5, 0)])
async def test_a_full_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, files: int
) -> None:
    space = SimpleNamespace(f_bavail=blocks, f_files=10, f_ffree=files)
    monkeypatch.setattr(os, "statvfs", lambda _: space)
    await refused(tmp_path, "no space is left for the cache folder .*: make room or choose another folder")


async def test_a_cache_of_a_newer_version_is_refused_and_left_alone(home: Path) -> None:
    async with Cache.open(home):
        pass
    db = sqlite3.connect(home / "index.sqlite", isolation_level=None)
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = (home / "index.sqlite").read_bytes()
    await refused(home, "written by a newer version .*schema 99, this one knows 3.*: upgrade, or choose")
    assert (home / "index.sqlite").read_bytes() == before


AS_NOBODY = """
import os, sys
from pathlib import Path
import cache
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
try:
    cache.check_folder(Path(sys.argv[1]))
except cache.CacheUnusable as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("path", "says"), [("/usr", "belongs to root"), ("/usr/below/it", "is not writable")]
)
def test_a_user_is_refused_what_is_roots(path: str, says: str) -> None:
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, path], capture_output=True, text=True, check=True)
    assert says in done.stdout
