"""What can go wrong between an origin and a reader, and the errno each cause becomes.

Every failure that crosses a boundary (httpx, sqlite3, OSError, a malformed listing) is translated
where it enters into one leaf class of this module, ``from exc``. Code above decides by class, never
by message. Only :class:`NotFound` means "not there"; everything else is an error and is never
turned into an absence, an empty file or a short read.

    MirrorError
    ├── UsageError           the user asked for something that cannot be        (exit code 2)
    ├── SetupError           this machine or folder cannot do what was asked    (exit code 1)
    ├── DoesNotFit           the cache may not hold what was asked for          (exit code 1)
    ├── NotFound             404, 410, or a name a fresh listing does not have  ENOENT
    ├── NotAFolder           a path component is a file                         ENOTDIR
    ├── IsAFolder            a folder where a file was needed                   EISDIR
    ├── AccessDenied         401, 403, 407                                      EACCES
    ├── VersionChanged       the origin holds another version now               ESTALE
    ├── Stalled              no answer within the deadline                      ETIMEDOUT
    ├── OriginFailed         refused, reset, DNS, TLS, 5xx after all retries    EIO
    │   └── Transient        the same, before the retries are used up
    ├── ProtocolError        an answer that cannot be trusted (wrong range, …)  EIO
    │   ├── TooDeep          folders within each other without an end            ENAMETOOLONG
    │   └── BrokenPromise    bytes that have not the digest the origin states   EIO
    └── NoSpace              the cache is full and the bytes cannot bypass it   EIO
"""

from __future__ import annotations

import errno
from typing import ClassVar


class MirrorError(Exception):
    """Base of every expected failure; ``str()`` is one line a user can act on."""

    errno: ClassVar[int] = errno.EIO
    """What a reader of the mount gets."""


class UsageError(MirrorError):
    """The command line or the source cannot mean anything: exit code 2."""

    errno = errno.EINVAL


class SetupError(MirrorError):
    """This machine, mountpoint or cache folder cannot do what was asked: exit code 1."""


class DoesNotFit(MirrorError):
    """More was asked for than the cache may hold, by its limits or its disk: exit code 1."""


class NotFound(MirrorError):
    """The origin says that the name does not exist (404, 410): the only absence there is."""

    errno = errno.ENOENT


class NotAFolder(MirrorError):
    """A file stands where a folder was named."""

    errno = errno.ENOTDIR


class IsAFolder(MirrorError):
    """A folder stands where a file was named."""

    errno = errno.EISDIR


class AccessDenied(MirrorError):
    """The origin refuses these credentials, or asks for some (401, 403, 407)."""

    errno = errno.EACCES


class VersionChanged(MirrorError):
    """The origin no longer has the version that was asked for.

    ESTALE makes the kernel look the name up once more when it is met in ``open``, so an opener
    gets the new version without noticing; a reader of the old one sees ESTALE itself.
    """

    errno = errno.ESTALE


class Stalled(MirrorError):
    """No byte arrived within the deadline."""

    errno = errno.ETIMEDOUT


class OriginFailed(MirrorError):
    """The origin could not be reached or kept failing; says nothing about what it holds."""


class Transient(OriginFailed):
    """A failure worth another try (refused, reset, 408, 429, 5xx).

    ``retry_after`` is what the origin asked for, in seconds, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProtocolError(MirrorError):
    """The answer contradicts the request or itself; nothing of it was kept."""


class TooDeep(ProtocolError):
    """A path is longer than any path may be: a folder of the origin contains itself."""

    errno = errno.ENAMETOOLONG


class BrokenPromise(ProtocolError):
    """All the bytes came, and are not what the origin itself says they are; nothing of them is kept."""


class NoSpace(MirrorError):
    """The cache cannot hold the bytes.

    Not ENOSPC: to a reader of a read-only folder that would make no sense.
    """
