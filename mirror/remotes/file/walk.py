"""The way from a source's root to a name: step by step, with open folders, and never out of the source.

A path is never handed to the kernel as a whole. Each step opens one name, relative to the folder before,
without following it; a symbolic link is read and gone along in the same way. So a link leads nowhere but
below the root, whoever changes the tree meanwhile: ``..`` goes back to the folder that was come from,
and there is none before the root. ``openat2`` would do the same where nothing forbids it (containers do), but
that it follows no link only once; where there are none on the way, it does for small files (``whole.h``).

Links to files are followed. A link to a folder is followed once in a path: two folders that link to each
other would else be a tree without an end. It may not lead to a folder that it is in, for the same reason.
Absolute links are followed where they name something below the source's own path.

What is opened is ``O_PATH``: that needs no permission to read, has no effect on devices and pipes, and
does not wait for either.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mirror.runtime import mounts

STEPS = 40
"""Most names that the links of one step may go through: as many links as the kernel would follow."""

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class LeftOutError(ValueError):
    """A name that is there, and no part of the source; ``str()`` says why."""


class Walk:
    """Where one walk has come to. A context manager; blocking, for use in a thread."""

    def __init__(self, open_root: Callable[[], int], path: str) -> None:
        """Begin at the root.

        Args:
            open_root: opens it (``O_PATH``); its errors are the caller's.
            path: of the root, for links that name it.
        """
        root = open_root()
        self._path = path.rstrip("/")
        self._opened = [root]
        self._stack = [root]
        self._linked = False
        self._device = os.fstat(root).st_dev
        self._devices = {self._device}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_from(0)

    @property
    def here(self) -> int:
        """The place that was come to, open."""
        return self._stack[-1]

    def go(self, path: str) -> os.stat_result:
        """Go down a path below the root (``""``: stay there); returns what is at its end.

        Raises:
            LeftOutError: a name on the way is no part of the source.
            OSError: as ``open`` does.
        """
        status = os.fstat(self.here)
        for name in path.split("/") if path else ():
            status, self._stack, linked = self._step(name)
            self._linked = self._linked or linked
        return status

    def look(self, name: str) -> os.stat_result:
        """What a name of the folder here stands for; the walk stays where it is. Raises as `go` does."""
        mark = len(self._opened)
        try:
            return self._step(name)[0]
        finally:
            self._close_from(mark)

    def _step(self, name: str) -> tuple[os.stat_result, list[int], bool]:
        """What a name is, the way down to it, and whether that is by a link to a folder."""
        fd = self._open(name, self.here)
        status = os.fstat(fd)
        if not stat.S_ISLNK(status.st_mode):
            self._refuse_ours(status)
            return status, [*self._stack, fd], False
        stack = list(self._stack)
        self._follow(os.readlink("", dir_fd=fd), stack, [STEPS])
        status = os.fstat(stack[-1])
        self._refuse_ours(status)
        if not stat.S_ISDIR(status.st_mode):
            return status, stack, False
        if self._linked:
            raise LeftOutError("it is a link to a folder below another link to a folder")
        above = [os.fstat(folder) for folder in self._stack]
        if any((found.st_dev, found.st_ino) == (status.st_dev, status.st_ino) for found in above):
            raise LeftOutError("it is a link to a folder that it is in")
        return status, stack, True

    def _follow(self, target: str, stack: list[int], left: list[int]) -> None:
        """Go along what a link says; ``left[0]`` names more at most."""
        if target.startswith("/"):
            if target != self._path and not target.startswith(f"{self._path}/"):
                raise LeftOutError("it is a link out of the source")
            target = target[len(self._path) + 1 :]
            del stack[1:]
        for name in target.split("/"):
            if name in ("", "."):
                continue
            left[0] -= 1
            if left[0] < 0:
                raise LeftOutError("it is a link that leads nowhere")
            if name == "..":
                if len(stack) == 1:
                    raise LeftOutError("it is a link out of the source")
                stack.pop()
                continue
            fd = self._open(name, stack[-1])
            if stat.S_ISLNK(os.fstat(fd).st_mode):
                self._follow(os.readlink("", dir_fd=fd), stack, left)
            else:
                stack.append(fd)

    def _open(self, name: str, folder: int) -> int:
        fd = os.open(name, _STEP, dir_fd=folder)
        self._opened.append(fd)
        return fd

    def _refuse_ours(self, status: os.stat_result) -> None:
        """A mount of ours that lies in the source would show the source in itself, and ask us for it."""
        if status.st_dev not in self._devices:
            if is_ours(status.st_dev):
                raise LeftOutError("it is in a mount of mirror")
            self._devices.add(status.st_dev)

    def _close_from(self, mark: int) -> None:
        for fd in self._opened[mark:]:
            os.close(fd)
        del self._opened[mark:]


def is_ours(device: int) -> bool:
    """Whether a file system is a mount of mirror."""
    return f"{os.major(device)}:{os.minor(device)}" in {mount.device for mount in mounts()}
