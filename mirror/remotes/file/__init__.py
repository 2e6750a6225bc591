"""Folders of this machine as sources: a cache in front of NFS, or of a slow disk.

url      what a source string means
walk     the way from the source's root to a name, never out of the source
root     whether the source is there, and may be one
reading  what a thread does: list a folder, read a file, watching that neither changes meanwhile
jobs     threads that may be left alone with a dead file system
small    many small files at once; the calls are made by _readers (in C), whole.h is one file's
part     what an open file brings
remote   the protocol of `mirror.remotes.base`
"""

from __future__ import annotations

from collections.abc import Sequence

from mirror.remotes.base import Remote
from mirror.remotes.file.reading import EXACT, TIMES
from mirror.remotes.file.remote import FileRemote
from mirror.remotes.file.url import canonical, to_path
from mirror.remotes.how import How
from mirror.remotes.options import Option, Options

__all__ = ["OPTIONS", "FileRemote", "canonical", "key", "open_remote"]

OPTIONS: Sequence[Option] = (
    Option(
        "version",
        "what tells two versions of a file apart: exact: inode number, size, and the times of the last "
        "changes to data and attributes; times: size and modification time alone",
        choices=(EXACT, TIMES),
    ),
)


def key(url: str, options: Options) -> str:
    """Return the source under which everything is cached: none of the options names another tree."""
    del options
    return url


def open_remote(url: str, how: How) -> Remote:
    """Make the remote of a canonical source. See `mirror.remotes.open_remote`."""
    return FileRemote(
        url,
        to_path(url),
        deadline=how.deadline,
        threads=how.connections,
        cache=how.cache,
        exact=how.options.get("version") != TIMES,
    )
