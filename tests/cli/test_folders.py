"""Which folders are used when nothing is said, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.cli.folders import apart, default_cache, log_of, make, resolved
from mirror.errors import SetupError, UsageError


def test_the_environment_names_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_CACHE", "/somewhere")
    assert default_cache() == Path("/somewhere")


def test_root_has_the_cache_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIRROR_CACHE", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_cache() == Path("/var/cache/mirror")


@pytest.mark.parametrize(
    ("xdg", "expected"),
    [("/xdg", "/xdg/mirror"), ("", "/home/me/.cache/mirror"), ("rel", "/home/me/.cache/mirror")],
)
def test_others_have_their_xdg_cache_folder(monkeypatch: pytest.MonkeyPatch, xdg: str, expected: str) -> None:
    monkeypatch.delenv("MIRROR_CACHE", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert default_cache() == Path(expected)


def test_a_current_folder_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SetupError, match="no longer exists"):
        resolved(Path("mnt"))
    assert resolved(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("cache", "mountpoint"), [("/mnt", "/mnt"), ("/mnt/cache", "/mnt"), ("/cache", "/cache/objects")]
)
def test_a_mount_may_not_hide_its_cache(cache: str, mountpoint: str) -> None:
    with pytest.raises(UsageError, match="lies inside"):
        apart(Path(cache), Path(mountpoint))


def test_a_common_beginning_is_no_nesting() -> None:
    apart(Path("/mnt"), Path("/mnt-cache"))
    apart(Path("/mnt-cache"), Path("/mnt"))


def test_links_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    assert resolved(tmp_path / "link" / "x") == tmp_path / "folder" / "x"


def test_two_mountpoints_never_share_a_log() -> None:
    one, two = log_of(Path("/c"), Path("/a/b")), log_of(Path("/c"), Path("/a-b"))
    assert one != two
    assert one.name.startswith("a-b.")
    assert one.parent == Path("/c/log")


def test_a_log_has_a_name_that_a_folder_can_hold() -> None:
    assert len(log_of(Path("/c"), Path("/" + "x/" * 500)).name) < 255


def test_a_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    make(tmp_path / "a" / "cache")
    make(tmp_path / "a" / "cache")
    assert (tmp_path / "a" / "cache").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot make the folder"):
        make(tmp_path / "file" / "log")
