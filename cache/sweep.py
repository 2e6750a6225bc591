"""A look through all files of a cache for those that the index does not know.

Such a file takes room that nobody counts. While processes die one at a time their claims tell whose
objects to look at (:mod:`cache.claims`); a power cut takes all claims at once, so after another start of
the system every file is looked at. One that says what it is (:mod:`cache.identity`) is taken over, one
that a living process fills is left alone, the others are removed.

Memory: 8 bytes for each row of ``objects``, and one batch of files that have none.
"""

from __future__ import annotations

import logging
import os
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cache import errors, identity, rows
from cache.errors import CacheError
from cache.index import Reader
from cache.lease import Lease
from cache.names import Names, Paths, alone, open_read, share, unlink
from cache.objects import Objects
from cache.tree import Tree
from cache.writer import Writer

log = logging.getLogger(__name__)

BATCH = 256
"""Files without rows that are looked at together: each may hold two descriptors."""
PAGE = 10_000
"""Rows read at a time."""
LOCK = "sweep.lock"
"""File in the folder of the cache, locked by the one who looks."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Another one after each start of the system."""

_NAME = re.compile(r"([0-9a-f]{40})(\.part)?")
_ROWS = """
    SELECT objects.node, nodes.object FROM objects JOIN nodes ON nodes.id = objects.node
    WHERE objects.node > ? ORDER BY objects.node LIMIT ?
"""

Check = Callable[[], None]
"""Called now and then; ends the work by raising."""


@dataclass(slots=True)
class Swept:
    """What became of files that the index did not know."""

    adopted: int = 0
    """Complete objects that said what they are."""
    removed: int = 0
    """Files that nobody could use."""
    freed: int = 0
    """Bytes of disk that those took."""
    busy: int = 0
    """Objects that a living process fills or has open."""


class Sweep:
    """Looks through the files of one cache. Blocks; for a thread."""

    def __init__(self, names: Names, tree: Tree, reader: Reader, writer: Writer, objects: Objects) -> None:
        self._names = names
        self._tree = tree
        self._reader = reader
        self._writer = writer
        self._objects = objects

    def due(self) -> bool:
        """Whether nobody has looked since the system was started."""
        row = self._reader.one("SELECT boot FROM space")
        return row is None or row[0] != _boot()

    def after_a_start(self, check: Check = lambda: None) -> Swept | None:
        """Look once after each start of the system; None: it was done, or somebody is at it.

        Raises:
            CacheFull, CacheBroken: the disk or the index failed; it is due still.
        """
        return self._look_through(check, once=True, dry_run=False) if self.due() else None

    def run(self, check: Check = lambda: None, *, dry_run: bool = False) -> Swept | None:
        """Look now; None: somebody is at it. Raises as `after_a_start` does."""
        return self._look_through(check, once=False, dry_run=dry_run)

    def missing(self, check: Check = lambda: None, *, dry_run: bool = False) -> int:
        """Forget the rows of objects whose files are gone; returns how many there were."""
        count = 0
        for node, key in self._rows(check):
            paths = self._names.of(key)
            if os.path.lexists(paths.final) or os.path.lexists(paths.part):
                continue
            known = self._tree.node(node)
            if known is None or rows.get(self._reader, node) is None:
                continue  # it went in this moment
            if not dry_run:
                self._objects.removal.settle(known)
            count += 1
        return count

    # -- one look ----------------------------------------------------------------------------

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Whether it is ours to look: one process at a time."""
        path = Path(self._names.folder).parent / LOCK
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            raise errors.of_os(exc, f"look through {self._names.folder}") from exc
        try:
            yield alone(fd)
        finally:
            os.close(fd)

    def _look_through(self, check: Check, *, once: bool, dry_run: bool) -> Swept | None:
        with self._turn() as ours:
            if not ours or (once and not self.due()):
                return None
            swept = self._run(check, dry_run=dry_run)
            if not dry_run:
                boot = _boot()
                self._writer.submit(lambda db: db.execute("UPDATE space SET boot = ?", (boot,))).result()
            return swept

    def _run(self, check: Check, *, dry_run: bool) -> Swept:
        swept = Swept()
        known = array("Q", sorted(_head(key) for _, key in self._rows(check)))
        unknown: dict[bytes, None] = {}
        for key, is_part in self._files(check):
            head = _head(key)
            at = bisect_left(known, head)
            if at == len(known) or known[at] != head:
                unknown[key] = None
            elif is_part:
                self._leftover(self._names.of(key), swept, dry_run=dry_run)
            if len(unknown) >= BATCH:
                self._look(list(unknown), swept, dry_run=dry_run)
                unknown.clear()
        self._look(list(unknown), swept, dry_run=dry_run)
        return swept

    def _rows(self, check: Check) -> Iterator[tuple[int, bytes]]:
        after = 0
        while page := self._reader.all(_ROWS, after, PAGE):
            check()
            yield from ((node, key) for node, key in page)
            after = page[-1][0]

    def _files(self, check: Check) -> Iterator[tuple[bytes, bool]]:
        """Every object's file: its key, and whether it is the ``.part`` name. Others are none of ours."""
        try:
            for shard in sorted(Path(self._names.folder).iterdir()):
                if not shard.is_dir() or shard.is_symlink():
                    continue
                check()
                with os.scandir(shard) as entries:
                    for entry in entries:
                        match = _NAME.fullmatch(entry.name)
                        if match and match[1].startswith(shard.name):
                            yield bytes.fromhex(match[1]), match[2] is not None
        except OSError as exc:
            raise errors.of_os(exc, f"look through {self._names.folder}") from exc

    def _leftover(self, paths: Paths, swept: Swept, *, dry_run: bool) -> None:
        """Remove the empty ``.part`` that a killed removal left beside a complete object."""
        if _blocks(paths.part) is None or not os.path.lexists(paths.final):
            return
        lease = _lease(paths)
        if lease is None:
            return
        if lease.size or not os.path.lexists(paths.final) or dry_run:
            swept.removed += dry_run and not lease.size
            lease.release()
            return
        lease.remove()
        swept.removed += 1

    def _look(self, keys: Sequence[bytes], swept: Swept, *, dry_run: bool) -> None:
        nodes = self._nodes(keys)
        strangers = [key for key in keys if key not in nodes]
        for key, node in nodes.items():
            if rows.get(self._reader, node) is not None:
                continue  # it was noted since
            paths = self._names.of(key)
            before = _taken(paths)
            if dry_run:
                self._foresee(paths, swept)
                continue
            self._objects.settle(node)
            if rows.get(self._reader, node) is not None:
                swept.adopted += 1
            elif _taken(paths) is None:
                swept.removed += 1
                swept.freed += before or 0
            else:
                swept.busy += 1
        self._remove(strangers, swept, dry_run=dry_run)

    def _remove(self, keys: Sequence[bytes], swept: Swept, *, dry_run: bool) -> None:
        """Remove files whose version no row names: of another index, or of a version long forgotten."""
        with ExitStack() as stack:
            leased: dict[bytes, tuple[Paths, Lease]] = {}
            for key in keys:
                paths = self._names.of(key)
                if dry_run:
                    self._foresee(paths, swept)
                    continue
                lease = _lease(paths)
                if lease is None:
                    swept.busy += 1
                    continue
                stack.callback(lease.release)
                leased[key] = paths, lease
            # A version may have become known before the lease was ours, but not have been begun since.
            named = self._nodes(list(leased)) if leased else {}
            for key, (paths, lease) in leased.items():
                fd = open_read(paths.final)
                if fd is not None:
                    stack.callback(os.close, fd)
                if key in named or (fd is not None and not alone(fd)):
                    swept.busy += 1
                    if not lease.size:
                        unlink(paths.part)  # it is ours
                    continue
                freed = _taken(paths)
                unlink(paths.final)
                unlink(paths.part)
                swept.removed += 1
                swept.freed += freed or 0

    def _foresee(self, paths: Paths, swept: Swept) -> None:
        """Count what would become of an object without a change to it."""
        for path in (paths.part, paths.final):
            fd = open_read(path)
            if fd is None:
                continue
            with os.fdopen(fd) as file:
                if not share(file.fileno()):
                    swept.busy += 1
                    return
                if path == paths.final and identity.read(file.fileno()) is not None:
                    swept.adopted += 1
                    return
        swept.removed += 1
        swept.freed += _taken(paths) or 0

    def _nodes(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Which node each key is the object of. Reads all nodes: keys have no index of their own."""
        if not keys:
            return {}
        marks = ", ".join("?" * len(keys))
        found = self._reader.all(f"SELECT object, id FROM nodes WHERE object IN ({marks})", *keys)  # noqa: S608
        return dict(found)


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError as exc:
        raise errors.of_os(exc, f"read {BOOT_ID}") from exc


def _head(key: bytes) -> int:
    return int.from_bytes(key[:8], "big")


def _lease(paths: Paths) -> Lease | None:
    try:
        return Lease.take(paths.part)
    except CacheError as exc:
        log.info("a file is left: %s", exc)
        return None


def _blocks(path: str) -> int | None:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return None


def _taken(paths: Paths) -> int | None:
    """Bytes of disk that an object's files take; None: there are none."""
    sizes = [size for size in (_blocks(paths.part), _blocks(paths.final)) if size is not None]
    return sum(sizes) if sizes else None
