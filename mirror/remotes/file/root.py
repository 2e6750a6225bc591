"""The root of a source: whether it is there, and whether it may be one.

What is below it can only be missing while the root itself is there. A network file system that is not mounted
shows as a root that does not exist, as an empty folder, or as another folder at the same path: all three are
failures of the origin, or else a lost mount would look as if all files had been deleted.

The root is opened anew for each question: an open folder would keep its file system from being unmounted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirror.errors import AccessDenied, MirrorError, NotFound, OriginFailed, SetupError, Transient
from mirror.remotes.file.walk import LeftOutError, is_ours

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
_REFUSED = (errno.EACCES, errno.EPERM)
_BROKEN = (
    # A handle that the server does not know any more, a disk or a network that fails, a dead FUSE daemon.
    *(errno.ESTALE, errno.EIO, errno.EREMOTEIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESHUTDOWN),
    *(errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED),
    *(errno.EAGAIN, errno.EBUSY, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.EINTR),
)


@contextmanager
def told(where: object, root: Root | None = None) -> Iterator[None]:
    """Turn what the kernel says of a name into our words; it is absent only where the ``root`` is there."""
    try:
        yield
    except LeftOutError as exc:
        raise NotFound(f"{where}: left out: {exc}") from exc
    except OSError as exc:
        error = translated(exc, where)
        if root is not None and isinstance(error, NotFound):
            root.vouch()
        raise error from exc


def translated(exc: OSError, where: object) -> MirrorError:
    """Return what an error of the kernel is in our words; only "no such name" is an absence."""
    said = f"{where}: {exc.strerror or exc}"
    if exc.errno in _ABSENT:
        return NotFound(said)
    if exc.errno in _REFUSED:
        return AccessDenied(f"{said}; it has to be readable for the user of this mount")
    if exc.errno in _BROKEN:
        return Transient(said)
    return OriginFailed(said)


class Root:
    """The root of one source. Its methods block, and may be called from several threads at once."""

    def __init__(self, url: str, path: str, cache: Path | None) -> None:
        """``cache``: the folder of the cache for this source, which must not be a part of it."""
        self.url = url
        self.path = path
        self._cache = cache
        self._seen: tuple[int, int] | None = None

    @property
    def seen(self) -> tuple[int, int] | None:
        """Device and inode of the folder that was found to be it, and may be a source; None: not yet."""
        return self._seen

    def open(self) -> int:
        """Open it (``O_PATH``).

        Raises:
            OriginFailed: it is not there, or another file system is in its place.
            SetupError: it cannot be a source of this cache.
            MirrorError: the kernel says something else.
        """
        try:
            fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            if exc.errno == errno.ENOTDIR and os.path.lexists(self.path):
                raise OriginFailed(f"{self.url} is not a folder: name the folder that it is in") from exc
            if exc.errno in _ABSENT:
                raise OriginFailed(
                    f"{self.url}: there is no such folder; is its file system mounted?"
                ) from exc
            raise translated(exc, self.url) from exc
        try:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) != self._seen:
                self._judge(status)
        except OSError as exc:
            os.close(fd)
            raise translated(exc, self.url) from exc
        except BaseException:
            os.close(fd)
            raise
        return fd

    def empty(self) -> OriginFailed:
        """What a root without a single name in it is."""
        return OriginFailed(f"{self.url}: the folder is empty; is its file system mounted?")

    def vouch(self) -> None:
        """Make sure that the root is there, and has names in it.

        Raises:
            MirrorError: it is not: what is missing below it is not known to be absent.
        """
        fd = self.open()
        try:
            with os.scandir(f"/proc/self/fd/{fd}") as names:
                if next(names, None) is None:
                    raise self.empty()
        except OSError as exc:
            raise translated(exc, self.url) from exc
        finally:
            os.close(fd)

    def _judge(self, status: os.stat_result) -> None:
        """Look at a root that is not the one of before."""
        device, inode = status.st_dev, status.st_ino
        # A folder may be replaced, and a file system mounted again gets another device number.
        if self._seen is not None and device != self._seen[0] and inode != self._seen[1]:
            raise OriginFailed(
                f"{self.url}: another file system is there than before; is the right one mounted?"
            )
        if is_ours(device):
            raise SetupError(f"{self.url} is in a mount of mirror: name the source of that mount instead")
        if self._cache is not None:
            self._keep_apart(self._cache, (device, inode))
        self._seen = (device, inode)

    def _keep_apart(self, cache: Path, root: tuple[int, int]) -> None:
        if root in _above(cache):
            raise SetupError(
                f"the cache {cache} is in {self.url}, and would cache itself: choose another --cache"
            )
        kept = cache.stat()
        if (kept.st_dev, kept.st_ino) in _above(Path(self.path)):
            raise SetupError(
                f"{self.url} is in the cache {cache}, whose files come and go: name another folder"
            )


def _above(path: Path) -> list[tuple[int, int]]:
    """A folder and all that it is in."""
    real = path.resolve()
    found = [folder.stat() for folder in (real, *real.parents)]
    return [(status.st_dev, status.st_ino) for status in found]
