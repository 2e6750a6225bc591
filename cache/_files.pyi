from collections.abc import Sequence
from typing import Generic, TypeVar

from typing_extensions import Buffer

T = TypeVar("T")

class Job(Generic[T]):
    token: T
    error: int
    """An errno, or 0."""
    stage: str | None
    """What failed: ``lease``, ``found``, ``writer``, ``write`` or ``name``."""
    closed: bool
    """The writer's descriptor was closed."""
    changed: bool
    """The file is not what was written to it: it got no name."""
    @property
    def runs(self) -> list[tuple[int, int, int]]:
        """What was written: first byte, one past the last, CRC-32C. Of a job that failed: what was begun."""

    def run(self) -> Job[T]:
        """Do it here; returns the job. Blocks."""

    def run_at_once(self) -> Job[T]:
        """The same without letting others run: for what takes less time than having them stop again."""

    def lease(self) -> tuple[int, int, int, bool, int, int]:
        """Take what was opened; the caller owns the descriptors.

        Returns:
            Of the lease its descriptor, its file's inode and length, and whether that is ours alone; then
            the descriptors of a writer, and of what has the final name; -1: there is none.
        """

    def named(self) -> tuple[int, int]:
        """Take two descriptors of the file that got its name, if they were wanted; the caller owns them."""

class Thread(Generic[T]):
    def submit(self, jobs: list[Job[T]], token: T, /) -> None:
        """Have jobs done by the thread, after those that were submitted before.

        The last one has the token, the others None. Only of one with a token is it told that it is done.
        """

    def done(self) -> list[Job[T]]:
        """Return the jobs that finished since the last call."""

    def fileno(self) -> int:
        """A descriptor that is readable while there are any with a token."""

    def close(self) -> None:
        """Do what is left, then end the thread."""

def take(part: str, final: str | None, writer: bool, /) -> Job[T]:
    """Prepare to take the lease of a ``.part`` name, made when it is not there.

    Args:
        part: the name.
        final: another name, which is opened for reading if there is such a file.
        writer: the file is opened for writing as well, unless the other name is there.
    """

def store(
    fd: int,
    at: int,
    block: int,
    chunks: Sequence[Buffer],
    part: str = ...,
    final: str = ...,
    inode: int = ...,
    size: int = ...,
    wanted: bool = ...,
    /,
) -> Job[T]:
    """Prepare to write, and then to give the file its final name.

    Args:
        fd: where to; with names it is closed once all is written.
        at: where in the file.
        block: bytes after which sums begin anew.
        chunks: what; they must not change meanwhile.
        part: the name that the file has; none: it keeps it.
        final: the name that it gets.
        inode: what the file has to be.
        size: how long it has to be then.
        wanted: whether it is opened for readers; else it is looked at, and closed.
    """

def crc32c(data: Buffer, crc: int = ..., /) -> int:
    """CRC-32C of ``data``, or of what ``crc`` is the sum of with ``data`` behind it."""
