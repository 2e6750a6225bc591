"""Claims: room that a process has taken ahead, and the notes by which others settle it when it dies.

A claim is a row of ``claims`` (so many bytes) and a file ``claims/NAME``. Its process holds an ``flock`` on
the file for as long as it lives, and notes there, before it writes to an object, whose object that is:
so what a dead process wrote and nobody counted yet is found without a look at any other object.

The notes are ids of nodes, 8 bytes each, and survive the process, not the power: after a power cut there
is no process left whose claim could be trusted, and all objects are looked through once instead
(:mod:`cache.sweep`).
"""

from __future__ import annotations

import os
import secrets
import struct
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path

from cache import errors
from cache.folder import CLAIMS
from cache.names import alone, share

_NOTE = struct.Struct("<q")
_RECENT = 64
"""The last notes, which are not made once more."""
_MANY = 4096
"""Notes are rewritten when there are so many more than are needed."""


class Claim:
    """The claim of this process. Made with its file; `close` removes it. Calls must take turns."""

    def __init__(self, cache: Path) -> None:
        """Raises `CacheFull` or `CacheBroken` when the file cannot be made."""
        folder = cache / CLAIMS
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            while True:
                self.name = secrets.token_hex(8)
                self._path = folder / self.name
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                self._fd = os.open(self._path, flags, 0o600)
                # Between these two lines somebody may have taken it for that of a dead process.
                if alone(self._fd) and os.fstat(self._fd).st_nlink:
                    break
                os.close(self._fd)
        except OSError as exc:
            raise errors.of_os(exc, f"claim room in {folder}") from exc
        self._notes = 0
        self._recent: deque[int] = deque(maxlen=_RECENT)

    def note(self, nodes: Collection[int]) -> None:
        """Note that this process is about to write to, or to remove, the objects of nodes."""
        # Whoever waits for the lease of another process tries again and again.
        new = [node for node in nodes if node not in self._recent]
        if not new:
            return
        notes = b"".join(_NOTE.pack(node) for node in new)
        try:
            written = os.write(self._fd, notes)
            if written < len(notes):
                written += os.write(self._fd, notes[written:])
        except OSError as exc:
            raise errors.of_os(exc, "note whose object is written") from exc
        self._notes += len(new)
        self._recent.extend(new)

    def keep(self, nodes: Collection[int]) -> None:
        """Forget the notes of all but ``nodes``, when that is worth it."""
        if not self._notes or (nodes and self._notes - len(nodes) < _MANY):
            return
        self._recent.clear()
        kept = b"".join(_NOTE.pack(node) for node in nodes)
        # At every moment in between the file has all that are kept: a kill leaves too many, never too few.
        fd = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_CLOEXEC)  # without O_APPEND
        try:
            os.pwrite(fd, kept, 0)
            os.ftruncate(fd, len(kept))
        finally:
            os.close(fd)
        self._notes = len(nodes)

    def leave(self) -> None:
        """Leave it as a process that dies does: the row could not be deleted, and others settle it."""
        os.close(self._fd)

    def close(self) -> None:
        """Remove the file; the row has to be gone by then."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


class DeadClaim:
    """What a process that died has left. Nobody else settles it until `close` or `settled`."""

    def __init__(self, path: Path, fd: int) -> None:
        self.name = path.name
        self._path = path
        self._fd = fd

    @property
    def nodes(self) -> list[int]:
        """Whose objects it may have written to, each once."""
        return _notes(self._fd)

    def settled(self) -> None:
        """Everything is counted and the row is gone: remove the file."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)

    def close(self) -> None:
        """Leave it for the next."""
        os.close(self._fd)


def left_for(cache: Path, node: int) -> list[str]:
    """Names of the claims of dead processes that may have written to the object of a node, or removed it.

    Those that another process settles at this moment are not among them.
    """
    names = []
    folder = cache / CLAIMS
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            # The lock comes last, for no longer than it takes: who wants to settle would leave a claim out.
            if node in _notes(fd) and share(fd):
                names.append(path.name)
        finally:
            os.close(fd)
    return names


def _notes(fd: int) -> list[int]:
    notes = os.pread(fd, os.fstat(fd).st_size, 0)
    whole = len(notes) // _NOTE.size * _NOTE.size
    return list({node: None for (node,) in _NOTE.iter_unpack(notes[:whole])})


def dead(cache: Path) -> Iterator[DeadClaim]:
    """The claims of processes that died, each locked for the caller."""
    folder = cache / CLAIMS
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # settled by somebody else in this moment, or none of ours
        if alone(fd) and os.fstat(fd).st_nlink:
            yield DeadClaim(path, fd)
        else:
            os.close(fd)
