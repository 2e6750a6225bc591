"""A mount without root: through fusermount3, without passthrough, and otherwise the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.data import MiB, digest, noise, put
from tests.support.mounts import mounted, prepared
from tests.support.servers import Server
from tests.support.unprivileged import Fuse, User, unprivileged_user


@pytest.fixture
def user() -> Iterator[User]:
    """A user of the machine who is nobody special."""
    with unprivileged_user() as someone:
        yield someone


def test_a_mount_without_root_works_and_says_what_it_lacks(folder: Path, origin: Server, user: User) -> None:
    """Everything but passthrough is the same, and `status` says why that is off."""
    path = put(folder, "sub/large.bin", noise("user", 20 * MiB))
    with mounted(origin.url, prefix=user.prefix, table=user.table, owner=user.uid) as mount:
        status = mount.status()
        assert status["passthrough"] is False
        assert "CAP_SYS_ADMIN" in status["passthrough_reason"]
        for pid in (status["keeper_pid"], status["worker_pid"]):
            assert Path(f"/proc/{pid}").stat().st_uid == user.uid
        for _ in ("cold", "warm"):
            seen = user.run("sha256sum", mount.path / "sub" / "large.bin")
            assert seen.stdout.split()[0] == digest(path), seen.stderr
        listed = user.run(
            "stat", "-c", "%n %a %u %s", *(mount.path / name for name in ("sub", "sub/large.bin"))
        )
        assert [line.split()[1:3] for line in listed.stdout.splitlines()] == [
            ["555", str(user.uid)],
            ["444", str(user.uid)],
        ]


def test_only_the_owner_of_a_mount_may_use_it(folder: Path, origin: Server, user: User) -> None:
    """Without `-o allow_other`, other users (root included) get EACCES."""
    put(folder, "file.bin", b"mine")
    with mounted(origin.url, prefix=user.prefix, table=user.table, owner=user.uid) as mount:
        assert user.run("cat", mount.path / "file.bin").stdout == "mine"
        as_root = user.as_root("cat", mount.path / "file.bin")
        assert as_root.returncode != 0
        assert "Permission denied" in as_root.stderr


def test_with_allow_other_everyone_may_read(folder: Path, origin: Server, user: User, tmp_path: Path) -> None:
    """A mount of root's with `-o allow_other` is readable by all, and by nobody else without it."""
    put(folder, "file.bin", b"for all")
    for options, wanted in ((["-o", "allow_other"], "for all"), ([], "")):
        root = {"prefix": user.root_prefix, "table": user.table, "args": options}
        with mounted(origin.url, **root) as mount:
            mount.home.chmod(0o755)
            assert user.run("cat", mount.path / "file.bin").stdout == wanted
            assert user.as_root("cat", mount.path / "file.bin").stdout == "for all"


def test_a_worker_that_dies_is_replaced_without_root_too(folder: Path, origin: Server, user: User) -> None:
    """Taking over a connection needs no privilege."""
    path = put(folder, "large.bin", noise("takeover", 20 * MiB))
    with mounted(origin.url, prefix=user.prefix, table=user.table, owner=user.uid) as mount:
        dead = mount.worker_pid
        os.kill(dead, signal.SIGKILL)
        seen = user.run("sha256sum", mount.path / "large.bin")
        assert seen.stdout.split()[:1] == [digest(path)], seen.stderr
        assert mount.worker_pid != dead


def test_a_user_without_fusermount3_is_told_what_to_install(folder: Path, origin: Server, user: User) -> None:
    """The line names the program and its package, and nothing is left behind; root does not need it."""
    put(folder, "file.bin", b"x")
    nothing = {"PATH": "/nonexistent"}
    with prepared(origin.url, prefix=user.prefix, table=user.table, owner=user.uid, env=nothing) as mount:
        refused = mount.mount()
        assert refused.code == 1, str(refused)
        assert len(refused.lines) == 1, refused.err
        assert "fusermount3" in refused.err
        assert "package fuse3" in refused.err
        mount.assert_gone()
    with mounted(origin.url, prefix=user.root_prefix, table=user.table, env=nothing) as mount:
        assert user.as_root("cat", mount.path / "file.bin").stdout == "x"


@pytest.mark.parametrize("who", ["user", "root"])
@pytest.mark.parametrize("lack", ["missing", "without a driver"])
def test_a_machine_without_fuse_is_told_so(who: str, lack: Fuse, folder: Path, origin: Server) -> None:
    """No /dev/fuse, or a kernel without FUSE: one line names what is missing, and nothing is left behind."""
    put(folder, "file.bin", b"x")
    with unprivileged_user(fuse=lack) as user:
        prefix, owner = (user.root_prefix, None) if who == "root" else (user.prefix, user.uid)
        with prepared(origin.url, prefix=prefix, table=user.table, owner=owner) as mount:
            refused = mount.mount()
            assert refused.code == 1, str(refused)
            assert len(refused.lines) == 1, refused.err
            named = {
                "missing": ["/dev/fuse", "fuse device"],
                "without a driver": ["no FUSE", "modprobe fuse"],
            }
            assert any(words in refused.err for words in named[lack]), refused.err
            mount.assert_gone()
