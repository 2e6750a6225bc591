from typing import Generic, TypeVar

from typing_extensions import Buffer

T = TypeVar("T")

class Job(Generic[T], Buffer):
    token: T
    error: int
    """An errno, or 0: bytes came, or with none of them the end did. EPROTO: `Tls.reason` says more."""
    head: int
    """Bytes of the whole head, 0: it is not here."""

class Context:
    """Settings of TLS 1.2 and later for a client: whom to trust, and what to show."""

    def __init__(
        self,
        authorities: str,
        certificate: str | None = ...,
        key: str | None = ...,
        password: str | None = ...,
        flags: int = ...,
    ) -> None:
        """Read the files, all PEM.

        Args:
            authorities: the certificates to trust.
            certificate: our own, and its chain; None: we show none.
            key: the certificate's key; None: it is in the same file.
            password: what the key is encrypted with; it is not kept.
            flags: of the verification, as `ssl.SSLContext.verify_flags`.

        Raises:
            OSError: one of them cannot be used; ``strerror`` says why.
        """

class Tls:
    """The client's end of one TLS connection, over a socket that each of its jobs is given."""

    def __init__(self, context: Context, host: str) -> None:
        """Prepare; `Io.shake` comes first. ``host``: the name or address that the certificate has to have.

        Raises:
            ValueError: no certificate could have it.
        """

    @property
    def quiet(self) -> bool:
        """Whether nothing is left of what was taken from the socket, and it is not over; False in a job."""

    @property
    def untrusted(self) -> bool:
        """Whether it failed for the server's certificate."""

    @property
    def reason(self) -> str:
        """Why it failed with EPROTO: OpenSSL's name of the error, or what the certificate lacks, in words."""

    @property
    def agreed(self) -> tuple[str, str] | None:
        """The version and the cipher; None: there are no keys yet, or a job has it."""

class Io(Generic[T]):
    def submit(
        self,
        fd: int,
        request: bytes | None,
        most: int,
        token: T,
        least: int = ...,
        tls: Tls | None = ...,
        /,
    ) -> Job[T]:
        """Begin a job on a connected socket that nobody else uses until it is finished.

        Args:
            fd: the socket, not blocking.
            request: what is sent first, an answer is then received; None: bytes of a body are.
            most: bytes of body that are worth waiting for; without a request, most bytes.
            token: kept with the job.
            least: without a request, bytes that are worth a little wait.
            tls: what all is sealed by and opened, after its `shake`; None: it is sent as it is.
        """

    def shake(self, fd: int, tls: Tls, token: T, /) -> Job[T]:
        """Begin a job that agrees on keys and checks the certificate.

        Its error is EPROTO where they cannot agree, ECONNABORTED where the other side has closed.
        """

    def cancel(self, job: Job[T], /) -> None:
        """Have a job finished soon, its error ECANCELED."""

    def done(self) -> list[Job[T]]:
        """Return the jobs that finished since the last call."""

    def fileno(self) -> int:
        """A descriptor that is readable while there are any."""

    def close(self) -> None:
        """End the thread. Jobs that are left are cancelled."""

def silent(fd: int, /) -> bool:
    """Whether a connected socket has neither bytes nor an end nor an error to tell of."""
