"""A user without privileges, on any machine that runs the tests as root.

Such a user must reach the interpreter, its virtual environment, the checkout and `/dev/fuse`, which
may lie under folders that only root may enter, or be root's alone. Nothing of the machine is changed
for that: a mount namespace of the user's own covers the closed folders with open ones that hold the
same things, and `/dev` entries with what the test wants there. Every command of the user starts
through ``nsenter`` and ``setpriv``; the namespace ends with the process that holds it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mirror
from tests.support.namespace import apart

Fuse = Literal["for all", "missing", "without a driver"]

_MINOR_OF_NOBODY = 255
"""Stands for "any" when a driver registers, so no device has it."""

NOBODY = pwd.getpwnam("nobody")
"""The user: one whom the machine knows, because fusermount3 asks for the name."""


@dataclass(frozen=True, slots=True)
class User:
    """A uid inside a mount namespace of its own."""

    uid: int
    gid: int
    holder: int
    """The process whose namespace it is."""

    @property
    def root_prefix(self) -> tuple[str, ...]:
        """What starts a program in the namespace, as root."""
        return (_program("nsenter"), f"--mount=/proc/{self.holder}/ns/mnt", "--")

    @property
    def prefix(self) -> tuple[str, ...]:
        """What starts a program in the namespace, as the user."""
        user = (_program("setpriv"), f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--")
        return (*self.root_prefix, *user)

    @property
    def table(self) -> Path:
        """The namespace's mount table."""
        return Path(f"/proc/{self.holder}/mountinfo")

    def run(self, *argv: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program as the user, to its end."""
        return _run(self.prefix, argv)

    def as_root(self, *argv: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program as root in the user's namespace, to its end."""
        return _run(self.root_prefix, argv)


def _run(prefix: Sequence[str], argv: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*prefix, *map(str, argv)], capture_output=True, text=True, check=False, timeout=60)


@contextmanager
def unprivileged_user(*, fuse: Fuse = "for all") -> Iterator[User]:
    """Make a user who can run `mirror`.

    Args:
        fuse: what `/dev/fuse` is; without a driver it is a device that the kernel knows nothing of, as
            where FUSE was not built.
    """
    holder = subprocess.Popen(
        apart("sh", "-c", "echo; exec cat"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    scratch = Path(tempfile.mkdtemp(prefix="mirror-user-"))
    try:
        holder.stdout.readline()  # the namespace is there
        user = User(NOBODY.pw_uid, NOBODY.pw_gid, holder.pid)
        script = "\n".join(["set -e", f"cd {scratch}", *_open_paths(scratch), *_device(scratch, fuse=fuse)])
        subprocess.run([*user.root_prefix, "sh", "-c", script], check=True)
        yield user
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait()
        shutil.rmtree(scratch)  # its mounts were in the namespace, and ended with it


def _open_paths(scratch: Path) -> list[str]:
    """Shell lines that make the interpreter and the code reachable."""
    needed = {Path(sys.base_prefix), Path(sys.prefix), Path(mirror.__file__).parents[1]}
    closed: dict[Path, list[Path]] = {}
    for path in sorted(needed):
        for parent in reversed(path.resolve().parents):
            if not parent.stat().st_mode & stat.S_IXOTH:
                closed.setdefault(parent, []).append(path.resolve())
                break
    lines = []
    for parent, inside in closed.items():
        keep = [scratch / f"{path.name}-{number}" for number, path in enumerate(inside)]
        for path, kept in zip(inside, keep, strict=True):
            lines += [f'mkdir "{kept}"', f'mount --bind "{path}" "{kept}"']
        lines.append(f'mount -t tmpfs -o mode=0755 tmpfs "{parent}"')
        for path, kept in zip(inside, keep, strict=True):
            lines += [f'mkdir -p "{path}"', f'mount --move "{kept}" "{path}"']
    return lines


def _device(scratch: Path, *, fuse: Fuse) -> list[str]:
    """Shell lines that put a `/dev/fuse` of the wanted kind in place."""
    dev = scratch / "dev"
    lines = [f'mkdir "{dev}"', f'mount -t tmpfs -o mode=0755 tmpfs "{dev}"']
    if fuse != "missing":
        number = Path("/dev/fuse").stat().st_rdev
        minor = os.minor(number) if fuse == "for all" else _MINOR_OF_NOBODY
        lines.append(f'mknod -m 0666 "{dev}/fuse" c {os.major(number)} {minor}')
        return [*lines, f'mount --bind "{dev}/fuse" /dev/fuse']
    # A /dev that holds nothing but what every program needs.
    for name in ("null", "zero", "full", "random", "urandom"):
        lines += [f'touch "{dev}/{name}"', f'mount --bind /dev/{name} "{dev}/{name}"']
    return [*lines, f'mount --rbind "{dev}" /dev']


def _program(name: str) -> str:
    """The full path of a program, for commands that run without a PATH."""
    path = shutil.which(name)
    assert path is not None, f"{name} is not installed"
    return path
