"""Cuts of a record, one after the other: each state is put into a folder, opened as a cache, and checked.

``python -m tests.powercut.replay FOLDER --cuts N --seed S``: FOLDER holds a `Record`. `Record.run_idle` runs
it so that nothing waits for a disk; by hand it runs without. Prints one JSON object: how many cuts and
states were checked, and what was wrong. ``--only CUT:STATE`` makes one of these states again, and leaves it
in FOLDER/state.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import sqlite3
import sys
import traceback
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import trio

from cache import Cache, Node
from cache.index import NAME
from tests.cache.support import read_all
from tests.powercut import world
from tests.powercut.breaking import BROKEN
from tests.powercut.model import Disk, Survival
from tests.powercut.recorder import BARRIERS, Kind, Op, Record
from tests.powercut.remains import Told, materialise

STATES = (*[Survival.SOME] * 3, Survival.NOTHING, Survival.METADATA, Survival.ALL)
"""What is looked at, as often as it stands here."""
STOP = 3
"""So many wrong states are enough to look at."""


# -- checking it ---------------------------------------------------------------------------------


async def check(folder: Path, told: Told) -> None:
    """Open a cache after a power cut, and look at all that it would serve. Raises what is wrong."""
    async with Cache.open(folder) as cache:
        with closing(sqlite3.connect(folder / NAME)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], "the index is damaged"
            assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        for node in world.nodes_of(cache):
            _check_served(cache, node)
        nodes = await world.list_again(cache, told.listing)
        for node in nodes:
            if (node.name, world.version_of(node)) in told.safe:
                assert cache.objects.state(node).complete, f"{node.name} was safe and is gone"
        for node in nodes:
            _check_served(cache, node)
            _complete(cache, node)
        await cache.objects.sync()
        for node in nodes:
            assert cache.objects.state(node).complete, f"{node.name} was fetched and is gone"
            _check_served(cache, node)


def _check_served(cache: Cache, node: Node) -> None:
    """Every byte that the cache would serve of a version is right."""
    size = world.size_of(node.name)
    state = cache.objects.state(node)
    if state.complete:
        fd = cache.objects.open_complete(node)
        assert fd is not None, f"{node.name} is said to be complete and is not"
        served = read_all(fd)
        assert served == world.right(node, 0, size), f"wrong bytes in {node.name}, complete"
        return
    for start, stop in state.extents:
        part = cache.objects.partials.read(node, start, stop - start)
        assert part == world.right(node, start, stop), f"wrong bytes in {node.name}, {start} to {stop}"


def _complete(cache: Cache, node: Node) -> None:
    if cache.objects.state(node).complete:
        return
    filler = cache.objects.fill(node)
    assert filler is not None, f"{node.name} can be fetched by nobody"
    size = world.size_of(node.name)
    for start, stop in filler.present:
        assert filler.read(start, stop - start) == world.right(node, start, stop), (
            f"wrong bytes in {node.name}"
        )
    if node.size is None:
        filler.set_size(size)
    for start, stop in filler.present.gaps(0, size):
        filler.write(start, world.right(node, start, stop))
    served = read_all(filler.complete())
    assert served == world.right(node, 0, size), f"wrong bytes in {node.name}, fetched again"


class _Warnings(logging.Handler):
    """What the cache warned of: it found something that no power cut should leave."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


# -- all cuts ------------------------------------------------------------------------------------


def cuts_of(ops: Sequence[Op], begun: int, count: int, rng: random.Random) -> list[int]:
    """Where to cut: right before and after barriers and changes of names, and anywhere; sorted."""
    everywhere = range(begun + 1, len(ops) + 1)
    if count >= len(everywhere):
        return list(everywhere)
    near = {
        at + after
        for at, op in enumerate(ops)
        if op.kind in BARRIERS or op.kind in (Kind.RENAME, Kind.UNLINK, Kind.SETXATTR)
        for after in (0, 1)
        if at + after in everywhere
    }
    chosen = set(rng.sample(sorted(near), min(len(near), count * 2 // 3)))
    chosen.update(rng.sample([at for at in everywhere if at not in chosen], count - len(chosen)))
    return sorted(chosen)


@dataclass(slots=True)
class Result:
    """What a replay found."""

    cuts: int = 0
    states: int = 0
    reused: int = 0
    """States in which a file has the number of an earlier one."""
    safe: int = 0
    """Promises of `Objects.sync` that were looked at."""
    wrong: list[dict[str, object]] = field(default_factory=list)


def replay(
    record: Record,
    ops: Sequence[Op],
    cuts: Sequence[int],
    seed: int,
    *,
    numbers: Sequence[int] = (0, 1),
    until: str | None = None,
) -> Result:
    """Check states with these numbers at every cut; ends early when `STOP` are wrong, or one with ``until``.

    A state follows from record, seed, cut and number alone, so one alone can be had again. The folder of the
    last one that was wrong stays.
    """
    result = Result()
    disk, told = Disk(), Told()
    # Without attributes on this file system, what is safe is known by rows alone, which may be lost.
    promised = any(op.kind is Kind.SETXATTR for op in ops)
    folder = record.folder / "state"
    warnings = _Warnings()
    logging.getLogger("cache").addHandler(warnings)
    at = 0
    for cut in cuts:
        for op in ops[at:cut]:
            disk.apply(op)
            if op.kind is Kind.MARK:
                told.hear(op)
        at = cut
        result.cuts += 1
        for number in numbers:
            rng = random.Random(f"{seed} {cut} {number}")
            state = disk.state(rng.choice(STATES), rng)
            result.states += 1
            result.reused += bool(state.reused)
            result.safe += len(told.safe) if promised else 0
            warnings.seen.clear()
            shutil.rmtree(folder, ignore_errors=True)
            try:
                materialise(state, record.keep, folder)
                trio.run(check, folder, told if promised else Told(told.listing))
                failure = f"the cache warned: {warnings.seen}" if warnings.seen else None
            except Exception:  # noqa: BLE001 - whatever the cache raised is what was looked for
                failure = traceback.format_exc()
            if failure is not None:
                last = [f"{op.kind.name} {op.path} {op.other}".strip() for op in ops[max(0, cut - 5) : cut]]
                result.wrong.append(
                    {"cut": cut, "state": number, "how": state.how, "after": last, "failure": failure}
                )
                if until in failure if until is not None else len(result.wrong) == STOP:
                    return result
    if not result.wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Replay the power cuts of a record.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cuts", type=int, default=500)
    parser.add_argument("--first", type=int, help="cut at each of so many operations instead")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--until", help="end only when a failure has this in it")
    parser.add_argument("--only", help="CUT:STATE of a failure: this one alone, and its folder stays")
    parser.add_argument("--break", dest="broken", choices=BROKEN, help="leave barriers out of the record")
    options = parser.parse_args()
    record = Record(options.folder.resolve())
    ops = record.read()
    if options.broken is not None:
        ops = BROKEN[options.broken](ops)
    if options.only is not None:
        cut, number = map(int, options.only.split(":"))
        result = replay(record, ops, [cut], options.seed, numbers=[number])
    else:
        cuts = cuts_of(ops, record.begun, options.cuts, random.Random(options.seed))
        if options.first is not None:
            cuts = list(range(1, options.first + 1))
        result = replay(record, ops, cuts, options.seed, until=options.until)
    json.dump({"ops": len(ops), **asdict(result)}, sys.stdout)


if __name__ == "__main__":
    main()
