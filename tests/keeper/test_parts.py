"""The keeper's pure parts: options, the mount table, when to give up, the link."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from pathlib import Path

import pytest

from mirror import runtime
from mirror.config import MountConfig
from mirror.errors import SetupError, UsageError
from mirror.keeper import link, mountpoint, options, privileges
from mirror.keeper.mount import mount
from mirror.keeper.supervise import Deaths
from mirror.keeper.worker_process import Sockets, describe_exit, pages_for

CONFIG = MountConfig(source="https://host/", mountpoint="/mnt", cache="/cache")


def test_the_safe_options_are_always_on() -> None:
    """Read-only, nosuid, nodev and default_permissions need not be asked for."""
    assert options.parse(()).words() == ["ro", "nosuid", "nodev", "noatime", "default_permissions"]


@pytest.mark.parametrize(
    "given",
    ["ro", "defaults", "noauto", "_netdev", "nofail", "x-systemd.automount", "user", "relatime", "comment=a"],
)
def test_options_of_fstab_are_accepted(given: str) -> None:
    """What mount(8) and fstab put into options is without effect, not an error."""
    assert options.parse([given]) == options.KernelOptions()


@pytest.mark.parametrize(
    "given", ["rw", "suid", "dev", "allow_root", "max_read=x", "fd=3", "user_id=0", "ttl"]
)
def test_impossible_options_are_named(given: str) -> None:
    """An option that cannot be is refused by name."""
    with pytest.raises(UsageError, match=given):
        options.parse([given])


def test_options_with_values() -> None:
    """Options for the kernel are sorted by where they go."""
    parsed = options.parse(["allow_other", "noexec", "max_read=65536", "fsname=data", "context=a_u:b_r:c_t"])
    assert parsed.data == ("default_permissions", "allow_other", "context=a_u:b_r:c_t")
    assert parsed.max_read == 65536
    assert parsed.name == "data"
    assert "noexec" in parsed.words()


def test_mountinfo_is_read_with_its_escapes() -> None:
    """Blanks, backslashes and bytes that are not UTF-8 in paths and sources are understood."""
    line = (
        "36 35 0:57 / /mnt/a\\040b\\134\xff rw,noatime shared:1 master:2 - fuse.mirror https://h/a\\040b rw\n"
    )
    (entry,) = runtime.parse_mountinfo(line + "garbage\n")
    assert entry.path == Path("/mnt/a b\\\udcff")
    assert entry.source == "https://h/a b"
    assert entry.fstype == "fuse.mirror"
    assert entry.device == "0:57"


def test_the_runtime_folder_must_be_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that others may write to, or a link, is not trusted."""
    monkeypatch.setenv("MIRROR_RUNTIME", str(tmp_path / "run"))
    assert runtime.folder().stat().st_mode & 0o777 == 0o700
    (tmp_path / "run").chmod(0o777)
    with pytest.raises(SetupError, match="this user alone") as caught:
        runtime.folder()
    assert "remove" not in str(caught.value)  # it may be /tmp
    monkeypatch.setenv("MIRROR_RUNTIME", "run")
    with pytest.raises(SetupError, match="whole path"):
        runtime.folder()
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("MIRROR_RUNTIME", str(tmp_path / "link"))
    with pytest.raises(SetupError, match="this user alone"):
        runtime.folder()


def test_a_runtime_folder_too_deep_for_a_socket_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path too long for a Unix socket is refused with what to do, and the longest that fits is not."""
    # pytest's own temporary folders can be too deep already.
    with tempfile.TemporaryDirectory() as short:
        folder = Path(short, "d" * (107 - len("/.sock") - 32 - len(os.fsencode(short)) - 1))
        monkeypatch.setenv("MIRROR_RUNTIME", str(folder))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(runtime.socket_path("/mnt")))
        monkeypatch.setenv("MIRROR_RUNTIME", f"{folder}-")
        with pytest.raises(SetupError, match=r"at most 69 bytes.*set MIRROR_RUNTIME"):
            runtime.socket_path("/mnt")


@pytest.mark.parametrize("mode", [None, 0o644, 0o755])
def test_a_helper_that_cannot_be_started_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None
) -> None:
    """A fusermount3 that is missing, or not a program, gives one line with what to install."""
    helper = tmp_path / "fusermount3"
    if mode is not None:
        helper.write_bytes(b"\x7fno program")
        helper.chmod(mode)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(privileges, "has_sys_admin", lambda: False)
    with pytest.raises(SetupError, match=r"takes fusermount3.*install the package fuse3"):
        mount(str(tmp_path), "source", options.KernelOptions(), None)
    with pytest.raises(SetupError, match=r"fusermount3.*install the package fuse3"):
        mountpoint.detach(str(tmp_path))


def test_crashes_within_10_seconds_are_counted() -> None:
    """The 5th death within 10 s gives the mount up; the delay before a start grows until then."""
    deaths = Deaths()
    delays = [deaths.record(float(second), -signal.SIGSEGV, served=True) for second in range(5)]
    assert delays[0] == 0.0
    assert delays[1:4] == sorted(filter(None, delays[1:4]))
    assert delays[4] is None
    assert deaths.restarts == 4


def test_crashes_further_apart_go_on_for_ever() -> None:
    """A worker that dies now and then is started again each time."""
    deaths = Deaths()
    assert all(deaths.record(3.0 * n, 1, served=False) is not None for n in range(50))


def test_kills_of_a_worker_that_served_do_not_count() -> None:
    """Killing a worker that works, however often, does not end its mount; one that never served does."""
    deaths = Deaths()
    assert all(deaths.record(n / 2, -signal.SIGKILL, served=True) == 0.0 for n in range(50))
    assert [deaths.record(30.0, -signal.SIGKILL, served=False) for _ in range(5)][-1] is None


def test_the_link_carries_each_message() -> None:
    """Both ends understand each other, and what a worker says becomes one line."""
    ours, theirs = link.pair()
    keeper, worker = link.KeeperEnd(ours), link.WorkerEnd(theirs)
    assignment = link.Assignment(CONFIG, 3, b"\n\x00 sixteen bytes")
    keeper.configure(assignment)
    assert worker.configuration() == assignment
    assert keeper.ask(link.Request.STATS)
    assert worker.receive() is link.Request.STATS
    assert keeper.opened(link.OPENED.pack(7, 1000) + link.OPENED.pack(1 << 63, 2000))
    assert worker.receive() == link.Opens([(7, 1000.0), (1 << 63, 2000.0)])
    worker.prepared()
    assert keeper.receive() == link.Prepared(None)
    worker.prepared("slow\norigin")
    assert keeper.receive() == link.Prepared("slow origin")
    worker.failed("no\n\tsuch \x00 thing", 2)
    assert keeper.receive() == link.Failed(2, "no such \x00 thing")
    worker.stats('{"a": 1}')
    assert keeper.receive() == link.Stats(b'{"a": 1}')
    theirs.send(b"nonsense")
    assert keeper.receive() is None
    keeper.close()
    assert worker.receive() is link.Request.QUIT
    theirs.close()


def test_messages_fit_the_socket() -> None:
    """READs are as large as the socket can carry, and never larger than the kernel's own limit."""
    assert pages_for(4 << 20) == 256
    assert pages_for(212_992 * 2) == 64
    assert pages_for(212_992) == 32
    assert pages_for(1) == 1
    sockets = Sockets()
    ours, theirs = sockets.pair()
    assert theirs.send(bytes(sockets.max_pages * 4096 + 16)) == sockets.max_pages * 4096 + 16
    for end in (ours, theirs):
        end.close()
    sockets.close()


def test_an_exit_is_described() -> None:
    """Exit codes and signals in words."""
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-9) == "killed by SIGKILL"
    assert describe_exit(-200) == "killed by signal 200"
