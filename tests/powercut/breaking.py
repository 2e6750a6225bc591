"""Records with a mistake in them: what a program that forgot a barrier would have left.

Each takes a record and returns one in which some barriers are missing or late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from tests.powercut.recorder import BARRIERS, Kind, Op


def _paths(ops: Sequence[Op]) -> Mapping[int, str]:
    """First name of every file and folder."""
    return {op.inode: op.path for op in ops if op.kind in (Kind.CREATE, Kind.MKDIR)}


def _without(ops: Sequence[Op], forgotten: Callable[[int, Op, str], bool]) -> list[Op]:
    paths = _paths(ops)
    return [
        op
        for at, op in enumerate(ops)
        if op.kind not in BARRIERS or not forgotten(at, op, paths.get(op.inode, ""))
    ]


def data_not_synced(ops: Sequence[Op]) -> list[Op]:
    """Objects' bytes are never made safe before rows and attributes speak of them."""
    return _without(ops, lambda _, op, path: op.kind is Kind.SYNCFS or path.endswith(".part"))


def rows_too_early(ops: Sequence[Op]) -> list[Op]:
    """The rows are written before the sync, not after it: every sync of an object comes a little later."""
    paths = _paths(ops)
    late: list[Op] = []
    waiting: list[tuple[int, Op]] = []
    for at, op in enumerate(ops):
        if op.kind is Kind.FDATASYNC and paths.get(op.inode, "").endswith(".part"):
            waiting.append((at + 12, op))
        else:
            late.append(op)
        while waiting and waiting[0][0] <= at:
            late.append(waiting.pop(0)[1])
    return late


def deletes_not_synced(ops: Sequence[Op]) -> list[Op]:
    """No transaction of the index is synced but by its checkpoints, not even deletions."""
    paths = _paths(ops)
    of_index = [at for at, op in enumerate(ops) if paths.get(op.inode, "").startswith("index.sqlite")]
    following = dict(pairwise(of_index))

    def forgotten(at: int, op: Op, path: str) -> bool:
        # A checkpoint syncs the WAL and then writes to the index itself.
        then = ops[following[at]] if at in following else None
        checkpoint = then is not None and paths[then.inode] == "index.sqlite"
        return path == "index.sqlite-wal" and not checkpoint

    return _without(ops, forgotten)


def folders_not_synced(ops: Sequence[Op]) -> list[Op]:
    """The names of sealed objects are never made safe."""
    return _without(
        ops, lambda _, op, path: op.kind is Kind.SYNCFS or (path.startswith("objects/") and "." not in path)
    )


def index_not_synced(ops: Sequence[Op]) -> list[Op]:
    """SQLite runs with ``synchronous = OFF``."""
    return _without(ops, lambda _, __, path: path.startswith("index.sqlite"))


BROKEN: Mapping[str, Callable[[Sequence[Op]], list[Op]]] = {
    broken.__name__.replace("_", "-"): broken
    for broken in (data_not_synced, rows_too_early, deletes_not_synced, folders_not_synced, index_not_synced)
}
