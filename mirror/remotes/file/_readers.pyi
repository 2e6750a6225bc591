from typing import Generic, TypeVar

from typing_extensions import Buffer

T = TypeVar("T")

class Whole(Buffer):
    """A file that is read. Its buffer holds the bytes, once `Readers.done` has returned it."""

    @property
    def error(self) -> int:
        """An errno: why not all of it is here, of one version; ECANCELED: it was cancelled. 0: it is.

        ESTALE: the root is another one, or the file was changed while it was read. EFBIG: it has more bytes
        than are wanted. EINVAL: it is no regular file. ELOOP, EXDEV: there are links or mounts on the way.
        EAGAIN: no thread could be had.
        """

    @property
    def status(self) -> tuple[int, int, int, int]:
        """Of a file that was read: inode, bytes, mtime and ctime in nanoseconds since the epoch."""

class Readers(Generic[T]):
    """Threads; the first begins with the first file, and none is waited for."""

    def __init__(self, limit: int, /) -> None:
        """``limit``: how many there are at most, those that never come back among them."""

    def begin(self, root: str, device: int, inode: int, path: str, most: int, token: T, /) -> Whole:
        """Have a file read, after those that were begun before.

        Args:
            root: the folder that it is below.
            device: of that folder, as it was when somebody judged it; as is the next.
            inode: its number.
            path: from there.
            most: bytes that it may have.
            token: returned with it.
        """

    def cancel(self, whole: Whole, /) -> None:
        """Have one finished at once, its error ECANCELED unless it is finished already."""

    def done(self) -> list[tuple[Whole, T]]:
        """Return the files that were finished since the last call."""

    def fileno(self) -> int:
        """A descriptor that is readable while there are any."""

    def close(self) -> None:
        """Cancel all, and have the threads end when they come back. Nothing is waited for."""

def usable() -> bool:
    """Whether the kernel lets this process open files as it is done here (``openat2``)."""
