"""The pyfuse3 adapter: types in, types out, errors to errno. Nothing is decided here.

pyfuse3 ends the whole mount on any exception but `FUSEError`, so every handler runs inside
`_answering`, which turns the leaves of :mod:`mirror.errors` into their errno, and whatever nobody
expected into EIO and a log line with its traceback.

The kernel's root is node 1; every other FUSE node id, inode number and file handle is the id of a
row of the index, which is what lets a successor of this process go on where it died.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import pyfuse3

from cache import CacheError
from mirror.attributes import Attributes
from mirror.errors import MirrorError, NotFound
from mirror.filesystem import FileSystem

log = logging.getLogger(__name__)

LISTING_CHUNK = 256
"""Entries read from the index at a time; a reply holds fewer."""


@contextmanager
def _answering(what: str, subject: object) -> Iterator[None]:
    try:
        yield
    except NotFound:
        # Names that are not there are looked up all the time: not worth a line.
        raise pyfuse3.FUSEError(errno.ENOENT) from None
    except MirrorError as exc:
        log.warning("%s %s: %s (%s)", what, subject, exc, errno.errorcode.get(exc.errno, exc.errno))
        raise pyfuse3.FUSEError(exc.errno) from exc
    except CacheError as exc:
        log.warning("%s %s: the cache failed: %s", what, subject, exc)
        raise pyfuse3.FUSEError(errno.EIO) from exc
    except pyfuse3.FUSEError:
        raise
    except Exception as exc:  # anything else would end the mount
        log.exception("%s %s: unexpected", what, subject)
        raise pyfuse3.FUSEError(errno.EIO) from exc


class Adapter(pyfuse3.Operations):
    """One `FileSystem` as pyfuse3 operations."""

    def __init__(self, filesystem: FileSystem, attributes: Attributes, *, begun: Callable[[], None]) -> None:
        """Serve ``filesystem``; ``begun`` is called when the kernel's INIT has come."""
        super().__init__()
        self._fs = filesystem
        self._attributes = attributes
        self._begun = begun

    # -- handlers ----------------------------------------------------------------------------

    def init(self) -> None:
        """The session begins."""
        self._begun()

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Find one name; an absence is an answer too, which the kernel may remember."""
        with _answering("lookup", name):
            if len(name) > 255:
                raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
            if name == b".":
                return self._attributes.of(self._fs.namespace.node(self._node(parent_inode)))
            try:
                text = name.decode()
                node = await self._fs.lookup(self._node(parent_inode), text)
            except (NotFound, UnicodeDecodeError):
                return self._attributes.absent()
            return self._attributes.of(node)
        raise AssertionError  # _answering never swallows

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Tell what is known of one node."""
        with _answering("getattr", inode):
            return self._attributes.of(await self._fs.attributes(self._node(inode)))
        raise AssertionError

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Prepare a file; the handle is its node id."""
        with _answering("open", inode):
            if flags & (os.O_ACCMODE | os.O_TRUNC | os.O_APPEND):
                raise pyfuse3.FUSEError(errno.EROFS)
            await self._fs.open(self._node(inode))
            # A node is one version: what the kernel cached of it stays right.
            return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), keep_cache=True)
        raise AssertionError

    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Serve a read that the kernel could not do by itself."""
        with _answering("read", fh):
            # pyfuse3 takes any buffer, whatever its annotation says: one copy less.
            return cast("bytes", await self._fs.read(self._node(fh), off, size))
        raise AssertionError

    async def release(self, fh: int) -> None:
        """Nothing is kept for a handle."""

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        """The handle of a folder is its node id."""
        with _answering("opendir", inode):
            # An id of an index that was lost since is stale: only here does the kernel look again.
            self._fs.namespace.node(self._node(inode))
        return inode

    async def releasedir(self, fh: int) -> None:
        """Nothing is kept for a handle."""

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """List a folder from a cookie on, with attributes."""
        with _answering("readdir", fh):
            after = start_id
            while nodes := await self._fs.list_folder(self._node(fh), after, LISTING_CHUNK):
                for node in nodes:
                    attributes = self._attributes.of(node)
                    if not pyfuse3.readdir_reply(token, node.name.encode(), attributes, node.entry):
                        return
                after = nodes[-1].entry
            return

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """The size of a source is not known."""
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_namemax = 255
        return data

    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        """Only reached without `default_permissions`."""
        return not mode & os.W_OK

    # -- conversions -------------------------------------------------------------------------

    def _node(self, inode: int) -> int:
        return self._fs.root.id if inode == pyfuse3.ROOT_INODE else inode
