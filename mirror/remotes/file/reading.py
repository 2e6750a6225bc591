"""What a thread does with a file system: list a folder, look at a file, read one.

Listing and reading are generators that a `mirror.remotes.file.jobs.Job` goes through piece by piece, so that
a long one shows that it goes on. They close what they opened when they end, however that comes.

A version is told by inode number, size, and the times of the last change to the data (mtime) and to the inode
(ctime). The inode number tells a file that was put in another's place with the times of the old one, as rsync
does; ctime, which nobody can set, a file that was changed in place and had its mtime set back. Its price: a
changed mode or a new hard link looks like another version. File systems without lasting inode numbers
(sshfs, SMB without ``serverino``) would make everything another version after each mount; for these there
is `TIMES`. The device number is no part of it: it is another one after each mount.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple, TypeAlias

from cache import Entry, Kind
from mirror.errors import AccessDenied, IsAFolder, NotAFolder, NotFound, VersionChanged
from mirror.remotes.file.root import Root, told
from mirror.remotes.file.walk import LeftOutError, Walk
from mirror.remotes.names import BadNameError, check

CHUNK = 1024 * 1024
"""Bytes read at a time."""
PAGE = 1000
"""Names listed at a time."""
SORTED = 100_000
"""Names up to which a folder is listed in their order; to sort more would hold the interpreter up."""
LISTINGS = 3
"""How often a folder is listed that changes meanwhile, before the last listing is taken as it is."""

EXACT = "exact"
TIMES = "times"

LeftOut = Callable[[str, str], None]
"""Takes a name that is left out, and why."""


class Told(NamedTuple):
    """What tells a version, told by somebody else than `os`."""

    st_ino: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int


Status: TypeAlias = "os.stat_result | Told"


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a file once it is open, and its first bytes."""

    status: Status
    start: int
    stop: int
    first: bytes


def validator(status: Status, *, exact: bool) -> str:
    """Return what tells this version of a file from others."""
    words = [status.st_mtime_ns, status.st_size]
    if exact:
        words += [status.st_ctime_ns, status.st_ino]
    return "file:" + "-".join(f"{word:x}" for word in words)


def entry(name: str, status: os.stat_result, *, exact: bool) -> Entry:
    """The entry of a folder or a regular file."""
    if stat.S_ISDIR(status.st_mode):
        return Entry(name, Kind.FOLDER, None, status.st_mtime_ns, 1)
    return file_entry(name, status, exact=exact)


def file_entry(name: str, status: Status, *, exact: bool) -> Entry:
    """The entry of a regular file."""
    return Entry(
        name, Kind.FILE, status.st_size, status.st_mtime_ns, 1, validator=validator(status, exact=exact)
    )


def look(root: Root, path: str, *, exact: bool) -> Entry:
    """The entry of one file. Raises as `mirror.remotes.base.Remote.stat` does."""
    where = f"{root.path}/{path}"
    with told(where, root), Walk(root.open, root.path) as walk:
        status = walk.go(path)
        _check_file(status, where)
        return entry(path.rpartition("/")[2], status, exact=exact)


def _check_file(status: os.stat_result, where: object) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsAFolder(f"{where} is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise NotFound(f"{where}: left out: it is neither a file nor a folder")


def entries(root: Root, path: str, left_out: LeftOut, *, exact: bool) -> Iterator[list[Entry]]:
    """List a folder: several lists with nothing in them while it goes on, the last one with everything.

    Raises as `mirror.remotes.base.Remote.list` does.
    """
    where = f"{root.path}/{path}" if path else root.path
    with told(where, root), Walk(root.open, root.path) as walk:
        if not stat.S_ISDIR(walk.go(path).st_mode):
            raise NotAFolder(f"{where} is not a folder")
        # The way through /proc opens what was come to, and nothing that has its name by now.
        folder = os.open(f"/proc/self/fd/{walk.here}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        found = _Found()
        try:
            for _ in range(LISTINGS):
                before, found = os.fstat(folder), _Found()
                yield from _look_through(walk, folder, found, exact=exact)
                after = os.fstat(folder)
                if (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns):
                    break
        finally:
            os.close(folder)
        if not found.names and not path:
            raise root.empty()
    for name, why in found.left_out:
        left_out(name, why)
    if len(found.entries) <= SORTED:
        # A file system's own order is mostly that of hashes. Who reads a folder goes by name, or in the order
        # in which we show it; reading ahead follows the latter, so both should be the same.
        found.entries.sort(key=attrgetter("name"))
    yield found.entries


@dataclass(slots=True)
class _Found:
    """What a look through a folder found."""

    names: int = 0
    entries: list[Entry] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def _look_through(walk: Walk, folder: int, found: _Found, *, exact: bool) -> Iterator[list[Entry]]:
    with os.scandir(folder) as listing:
        for item in listing:
            found.names += 1
            _add(walk, folder, item.name, found, exact=exact)
            if found.names % PAGE == 0:
                yield []


def _add(walk: Walk, folder: int, name: str, found: _Found, *, exact: bool) -> None:
    """Look at one name of a folder."""
    try:
        check(name)
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode) or status.st_dev != os.fstat(folder).st_dev:
            status = walk.look(name)
    except (BadNameError, LeftOutError) as exc:
        found.left_out.append((name, str(exc)))
        return
    except (FileNotFoundError, NotADirectoryError):
        return  # removed meanwhile, or a link to nothing
    if stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
        found.entries.append(entry(name, status, exact=exact))


def read(
    root: Root, path: str, start: int, stop: int | None, wanted: str | None, *, exact: bool
) -> Iterator[Head | bytes]:
    """Read bytes ``start`` to ``stop`` (None: the end): a `Head`, then what follows its first bytes.

    Args:
        root: of the source.
        path: of the file.
        start: first byte.
        stop: one past the last; more than there are is as many as there are.
        wanted: the version to read, or None.
        exact: how versions are told apart.

    Raises:
        VersionChanged: the file is another version, or becomes one while it is read.
        MirrorError: as `mirror.remotes.base.Remote.open_part`.
    """
    where = f"{root.path}/{path}"

    def open_file() -> int:
        with Walk(root.open, root.path) as walk:
            _check_file(walk.go(path), where)
            return os.open(f"/proc/self/fd/{walk.here}", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)

    yield from pieces(open_file, where, start, stop, wanted, exact=exact, root=root)


def pieces(
    open_file: Callable[[], int],
    where: object,
    start: int,
    stop: int | None,
    wanted: str | None,
    *,
    exact: bool,
    root: Root | None = None,
) -> Iterator[Head | bytes]:
    """Read what ``open_file`` opens, as `read` does; ``where`` is for messages."""
    with told(where, root):
        fd = open_file()
        try:
            status = os.fstat(fd)
            if wanted is not None and validator(status, exact=exact) != wanted:
                raise VersionChanged(f"{where} is another version now")
            end = status.st_size if stop is None else min(stop, status.st_size)
            if start > 0 and start >= end:
                raise VersionChanged(f"{where} has no byte {start}")
            first = _next(fd, status, start, end, where, exact=exact) if start < end else b""
            at = start + len(first)
            if at < end:
                yield Head(status, start, end, first)
                while at < end:
                    chunk = _next(fd, status, at, end, where, exact=exact)
                    at += len(chunk)
                    yield chunk
                return
        finally:
            os.close(fd)
    # All of it in one go, and the file is closed already.
    yield Head(status, start, end, first)


def _next(fd: int, before: os.stat_result, at: int, end: int, where: object, *, exact: bool) -> bytes:
    """Read on; what came is of the version that was opened, or it is not handed out."""
    chunk = os.pread(fd, min(CHUNK, end - at), at)
    after = os.fstat(fd)
    if not chunk or validator(after, exact=exact) != validator(before, exact=exact):
        raise VersionChanged(f"{where} was changed while it was read")
    return chunk


def open_path(path: str) -> int:
    """Open a regular file by its whole path, links followed.

    Raises:
        IsAFolder, AccessDenied: it is a folder, or something else.
        OSError: it cannot be opened.
    """
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        status = os.fstat(place)
        if stat.S_ISDIR(status.st_mode):
            raise IsAFolder(f"{path} is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise AccessDenied(f"{path} is neither a file nor a folder")
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(place)


def look_at(path: str, name: str) -> Entry:
    """The entry of a file by its whole path, links followed. Raises as `look` does."""
    with told(path):
        status = os.stat(path)  # noqa: PTH116 - no Path for each look
        _check_file(status, path)
        return entry(name, status, exact=True)
