"""What a sealed object says about itself: which version of what it is, in an extended attribute.

The attribute is set only when all bytes are safely on disk, so its presence is the proof of that. It
lets an object be taken over whose row was lost, and the index be made anew from the objects. A file
system without such attributes (tmpfs before Linux 6.6) can still hold a cache; only that is missing.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from dataclasses import dataclass, fields

from cache.model import Entry, Kind, Node, same_version

log = logging.getLogger(__name__)

ATTRIBUTE = "user.mirror.object"

FORMAT = 2
_READABLE = (1, FORMAT)

CANNOT = (errno.ENOTSUP, errno.ENOSPC, errno.EDQUOT, errno.E2BIG, errno.ERANGE, errno.EPERM)
"""No attributes here, or none as large as this one: the row has to be enough."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One version of one file of one source. Times and sizes as in `Node`."""

    source: str
    path: str
    size: int
    mtime_ns: int | None
    mtime_resolution_ns: int
    validator: str | None
    crc: int | None = None
    """CRC-32C of the whole file; None in objects of format 1."""
    digest: str | None = None
    """What the origin promised of it, as in ``objects.digest``."""

    @classmethod
    def of(
        cls,
        node: Node,
        place: tuple[str, str],
        size: int,
        *,
        validator: str | None,
        crc: int | None = None,
        digest: str | None = None,
    ) -> Identity:
        """The identity of a node's object; ``place`` is its source and path."""
        source, path = place
        return cls(source, path, size, node.mtime_ns, node.mtime_resolution_ns, validator, crc, digest)

    def is_of(self, node: Node, place: tuple[str, str]) -> bool:
        """Whether an object that says this holds the version of ``node``.

        Nothing may contradict, and something beyond the size has to agree: the validator or the mtime.
        """
        if place != (self.source, self.path):
            return False
        seen = Entry(node.name, Kind.FILE, self.size, self.mtime_ns, self.mtime_resolution_ns, self.validator)
        vouched = None not in (self.validator, node.validator) or None not in (self.mtime_ns, node.mtime_ns)
        return vouched and same_version(node, seen)


_NAMES = tuple(field.name for field in fields(Identity))
_JSON = json.JSONEncoder(separators=(",", ":"))


def value(identity: Identity) -> bytes:
    """What the attribute is to be."""
    return _JSON.encode({"format": FORMAT} | {name: getattr(identity, name) for name in _NAMES}).encode()


def write(fd: int, identity: Identity) -> bool:
    """Set the attribute; False where the file system cannot hold it. Raises OSError."""
    try:
        os.setxattr(fd, ATTRIBUTE, value(identity))
    except OSError as exc:
        if exc.errno not in CANNOT:
            raise
        log.debug("no identity was set on the object of %s: %s", identity.path, exc.strerror)
        return False
    return True


def read(file: int | str) -> Identity | None:
    """The identity of an object, open or by its path; None when it has none that can be understood."""
    try:
        raw = json.loads(os.getxattr(file, ATTRIBUTE))
        if raw.pop("format") not in _READABLE:
            return None
        return Identity(**raw)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
