from typing import Generic, TypeVar

from typing_extensions import Buffer

T = TypeVar("T")

class Job(Generic[T], Buffer):
    token: T
    error: int
    """An errno, or 0: bytes came, or with none of them the end did."""
    head: int
    """Bytes of the whole head, 0: it is not here."""

class Io(Generic[T]):
    def submit(
        self,
        fd: int,
        request: bytes | None,
        most: int,
        token: T,
        least: int = ...,
        patient: bool = ...,
        /,
    ) -> Job[T]:
        """Begin a job on a connected socket that nobody else uses until it is finished.

        Args:
            fd: the socket, not blocking.
            request: what is sent first, an answer is then received; None: bytes of a body are.
            most: bytes of body that are worth waiting for; without a request or with ``least``: most bytes.
            token: kept with the job.
            least: bytes that are worth a little wait, whatever they are; 0: the head of an answer tells.
            patient: they are worth a longer wait.
        """

    def cancel(self, job: Job[T], /) -> None:
        """Have a job finished soon, its error ECANCELED."""

    def done(self) -> list[Job[T]]:
        """Return the jobs that finished since the last call."""

    def fileno(self) -> int:
        """A descriptor that is readable while there are any."""

    def close(self) -> None:
        """End the thread. Jobs that are left are cancelled."""
