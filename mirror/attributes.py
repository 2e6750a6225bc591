"""How nodes look to the kernel, the same in every answer: as pyfuse3 takes it, and packed for the keeper."""

from __future__ import annotations

import stat

import pyfuse3

from cache import Kind, Node
from mirror.keeper.control import packed_name

BLOCK = 512
PREFERRED_READ = 128 * 1024
_FILE = stat.S_IFREG | 0o444
_FOLDER = stat.S_IFDIR | 0o555


class Attributes:
    """The attributes of one mount's nodes."""

    def __init__(self, root: int, *, uid: int, gid: int, name_timeout: float, ttl: float) -> None:
        """Times in seconds.

        Args:
            root: the node that the mountpoint shows.
            uid: owner of everything.
            gid: group of everything.
            name_timeout: how long the kernel may keep names and attributes unless told otherwise.
            ttl: how long it may keep what nothing will tell us the change of.
        """
        self._root = root
        self._uid = uid
        self._gid = gid
        self._name_timeout = name_timeout
        self._ttl = min(ttl, name_timeout)

    def of(self, node: Node) -> pyfuse3.EntryAttributes:
        """What the kernel gets to know of a node."""
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = pyfuse3.ROOT_INODE if node.id == self._root else pyfuse3.InodeT(node.id)
        attributes.st_mode = pyfuse3.ModeT(_FOLDER if node.kind is Kind.FOLDER else _FILE)
        attributes.st_nlink = 1  # of a folder: how many folders are in it is not known
        attributes.st_uid = self._uid
        attributes.st_gid = self._gid
        attributes.st_size = node.size or 0
        attributes.st_blksize = PREFERRED_READ
        attributes.st_blocks = -(-attributes.st_size // BLOCK)
        attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = node.mtime_ns or 0
        attributes.entry_timeout = attributes.attr_timeout = self._timeout(node)
        return attributes

    def absent(self) -> pyfuse3.EntryAttributes:
        """A reply that the kernel may remember, unlike the error ENOENT."""
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = pyfuse3.InodeT(0)
        attributes.entry_timeout = self._ttl
        return attributes

    def named(self, file: Node) -> bytes | None:
        """The same of a file with its name, for the keeper; None where it has to be asked for."""
        if file.size is None or not file.listed_size:
            return None
        return packed_name(
            file.name.encode(),
            node=file.id,
            mode=_FILE,
            uid=self._uid,
            gid=self._gid,
            size=file.size,
            block=PREFERRED_READ,
            time_ns=file.mtime_ns or 0,
            timeout=self._name_timeout,
        )

    def _timeout(self, node: Node) -> float:
        if node.kind is Kind.FOLDER:
            return self._name_timeout
        if node.size is None:
            return 0.0  # may be shown in a listing, not used: the kernel asks again before
        # Where no listing will tell of a change: ask again.
        return self._name_timeout if node.listed_size else self._ttl
