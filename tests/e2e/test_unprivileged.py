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
from tests.support.unprivileged import UID, User, unprivileged_user


@pytest.fixture
def user() -> Iterator[User]:
    """A user of the machine who is nobody special."""
    with unprivileged_user() as someone:
        yield someone


def test_a_mount_without_root_works_and_says_what_it_lacks(folder: Path, origin: Server, user: User) -> None:
    """Everything but passthrough is the same, and `status` says why that is off."""
    path = put(folder, "sub/large.bin", noise("user", 20 * MiB))
    with mounted(origin.url, prefix=user.prefix, table=user.table, owner=UID) as mount:
        status = mount.status()
        assert status["passthrough"] is False
        assert "CAP_SYS_ADMIN" in status["passthrough_reason"]
        for pid in (status["keeper_pid"], status["worker_pid"]):
            assert Path(f"/proc/{pid}").stat().st_uid == UID
        for _ in ("cold", "warm"):
            seen = user.run("sha256sum", mount.path / "sub" / "large.bin")
            assert seen.stdout.split()[0] == digest(path), seen.stderr
        listed = user.run(
            "stat", "-c", "%n %a %u %s", *(mount.path / name for name in ("sub", "sub/large.bin"))
        )
        assert [line.split()[1:3] for line in listed.stdout.splitlines()] == [
            ["555", str(UID)],
            ["444", str(UID)],
        ]


def test_only_the_owner_of_a_mount_may_use_it(folder: Path, origin: Server, user: User) -> None:
    """Without `-o allow_other`, other users (root included) get EACCES."""
    put(folder, "file.bin", b"mine")
    with mounted(origin.url, prefix=user.prefix, table=user.table, owner=UID) as mount:
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
    with mounted(origin.url, prefix=user.prefix, table=user.table, owner=UID) as mount:
        dead = mount.worker_pid
        os.kill(dead, signal.SIGKILL)
        seen = user.run("sha256sum", mount.path / "large.bin")
        assert seen.stdout.split()[:1] == [digest(path)], seen.stderr
        assert mount.worker_pid != dead


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ({"hide": [Path("/usr/bin/fusermount3")]}, ["fusermount3", "fuse3"]),
        ({"fuse": False}, ["/dev/fuse"]),
    ],
    ids=["no fusermount3", "no /dev/fuse"],
)
@pytest.mark.parametrize("who", ["user", "root"])
def test_a_machine_that_cannot_mount_says_so_in_one_line(
    who: str, machine: dict[str, object], words: list[str], folder: Path, origin: Server
) -> None:
    """No fusermount3, no /dev/fuse: the line names what is missing, and nothing is left behind."""
    put(folder, "file.bin", b"x")
    with unprivileged_user(**machine) as user:  # type: ignore[arg-type]  # a table of its own arguments
        root = who == "root"
        prefix = user.root_prefix if root else user.prefix
        with prepared(origin.url, prefix=prefix, table=user.table, owner=None if root else UID) as mount:
            refused = mount.mount()
            if root and "hide" in machine:
                refused.ok()  # root needs no fusermount3
                return
            assert refused.code == 1, str(refused)
            assert len(refused.lines) == 1, refused.err
            assert any(word in refused.err for word in words), refused.err
            mount.assert_gone()
