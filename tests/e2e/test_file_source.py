"""A folder of this machine as the source of a real mount."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.support.data import MiB, noise, put
from tests.support.failures import errno_of_reading
from tests.support.filesystems import mounted_tmpfs
from tests.support.mounts import mounted, prepared
from tests.support.waiting import eventually


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_folder_is_mirrored_and_read_by_the_kernel_alone(folder: Path) -> None:
    """Right bytes; once a file is complete, no read of it asks the daemon, or the folder."""
    data = noise("large", 40 * MiB + 7)
    put(folder, "sub/large.bin", data)
    put(folder, "small.bin", b"small")
    with mounted(f"file://{folder}") as mount:
        assert (mount.path / "small.bin").read_bytes() == b"small"
        assert (mount.path / "sub" / "large.bin").read_bytes() == data
        fd = mount.open_passthrough("sub/large.bin")
        try:
            before = mount.counters()["read_requests"]
            assert os.pread(fd, 1 << 20, 5 * MiB) == data[5 * MiB : 6 * MiB]
            assert mount.counters()["read_requests"] == before
        finally:
            os.close(fd)
        status = (mount.path / "small.bin").stat()
        assert (status.st_size, status.st_mtime_ns) == (5, (folder / "small.bin").stat().st_mtime_ns)


def test_a_change_is_seen_within_the_ttl(folder: Path) -> None:
    put(folder, "a.bin", b"one")
    with mounted(f"file://{folder}", args=["--ttl", "0.1"]) as mount:
        assert (mount.path / "a.bin").read_bytes() == b"one"
        put(folder, "new", b"two")
        (folder / "new").rename(folder / "a.bin")
        eventually(lambda: (mount.path / "a.bin").read_bytes() == b"two", "the new version is served")


def test_without_its_file_system_what_is_cached_is_served_and_no_name_goes(folder: Path) -> None:
    """What is not cached fails; once it is back, that works as well."""
    put(folder, "a.bin", b"cached")
    put(folder, "b.bin", b"not cached")
    with mounted(f"file://{folder}", args=["--ttl", "0.1", "--deadline", "1"]) as mount:
        assert (mount.path / "a.bin").read_bytes() == b"cached"
        # The empty root of another file system, as where one was unmounted.
        with mounted_tmpfs(folder):
            for _ in range(3):
                assert sorted(names(mount.path)) == ["a.bin", "b.bin"]
                assert (mount.path / "a.bin").read_bytes() == b"cached"
                assert errno_of_reading(mount.path / "b.bin") == "EIO"
        eventually(lambda: errno_of_reading(mount.path / "b.bin") == "", "the file is there again")


def test_what_cannot_be_a_source_is_said_in_a_line(folder: Path, tmp_path: Path) -> None:
    """No such folder, an empty one, the cache in it, a mount of ours: nothing is left mounted."""
    put(folder, "a.bin", b"a")
    (tmp_path / "empty").mkdir()
    for source, says in (
        (tmp_path / "absent", "there is no such folder; is its file system mounted?"),
        (tmp_path / "empty", "the folder is empty; is its file system mounted?"),
        (folder / "a.bin", "is not a folder"),
    ):
        with prepared(f"file://{source}") as mount:
            said = mount.mount()
            assert said.code == 1
            assert says in said.lines[-1]
    with prepared(f"file://{folder}", cache=folder / "cache") as mount:
        said = mount.mount()
        assert said.code == 1
        assert "would cache itself" in said.lines[-1]


def test_a_mount_of_ours_is_no_source_and_no_part_of_one(folder: Path) -> None:
    put(folder, "a.bin", b"a")
    with mounted(f"file://{folder}") as inner:
        with prepared(f"file://{inner.path}") as outer:
            said = outer.mount()
            assert said.code == 1
            assert "name the source of that mount" in said.lines[-1]
        with mounted(f"file://{inner.home}", cache=folder.with_name("cache")) as outer:
            assert "mnt" not in names(outer.path)
            assert "run" in names(outer.path)


def test_the_commands_take_a_folder(folder: Path) -> None:
    """warm, ls, pin and du, as for any source."""
    put(folder, "sub/a.bin", noise("a", 100_000))
    source = f"file:{folder}"
    with prepared(source) as mount:
        mount.mirror("warm", source).ok()
        again = json.loads(mount.mirror("warm", f"file://{folder}/", "--json").ok().out)
        assert (again["files_done"], again["files_fetched"]) == (1, 0)
        rows = json.loads(mount.mirror("ls", "-R", "--json", source).ok().out)
        assert [row["path"] for row in rows if row["complete"]] == ["sub/a.bin"]
        assert f"file://{folder}/" in mount.mirror("du").ok().out
