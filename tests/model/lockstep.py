"""One cache, the processes that use it, and what must hold of both after every step."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import trio
from hypothesis.stateful import RuleBasedStateMachine

from cache import Cache
from cache.limits import Amount, Limits
from tests.model.driver import Child
from tests.model.origin import UNSIZED, Later, State
from tests.model.reference import Reference
from tests.model.system import KIB, Answer, Ask

TTL = 60.0
PATHS = ("a", "b", "plain", UNSIZED, "d/e", "d/f")
PLAIN = "plain"
"""The path whose versions have no validator."""
SIZES = (0, 1, 3 * KIB, 4 * KIB + 1, 20 * KIB, 40 * KIB, 70 * KIB)
CAPS = (60 * KIB, 100 * KIB, 150 * KIB, 300 * KIB)
FAULTS = ("OriginFailed", "Transient", "Stalled", "AccessDenied", "ProtocolError")
SHM = Path("/dev/shm")

done: Counter[str] = Counter()
"""What was done in all sequences of this process, to see that nothing is left out."""

_template: list[Path] = []


def template() -> Path:
    """An empty cache that leaves nothing free to others: copied, for making one takes longer."""
    if not _template:
        folder = Path(tempfile.mkdtemp(prefix="mirror-model-", dir=SHM if SHM.is_dir() else None))

        async def make() -> None:
            async with Cache.open(folder / "cache") as cache:
                await cache.space.set_limits(Limits(min_free=Amount(bytes=0)))

        trio.run(make)
        _template.append(folder)
    return _template[0] / "cache"


def forget_template() -> None:
    """Remove the template's folder."""
    while _template:
        shutil.rmtree(_template.pop())


class Lockstep(RuleBasedStateMachine):
    """Tells processes what to do, one step at a time, and looks at what they say and at the disk."""

    def __init__(self) -> None:
        super().__init__()
        done["sequences"] += 1
        self.steps: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="mirror-model-", dir=SHM if SHM.is_dir() else None))
        self.home = self.folder / "cache"
        shutil.copytree(template(), self.home)
        self.reference = Reference(TTL)
        self.origin = State()
        self.before = self.origin  # as it was when the last operation began
        self.later: Later | None = None
        self.changes_later: Callable[[], None] = lambda: None
        self.cap: int | None = None
        self.limited = False
        """There is a limit, or perhaps there is one: it was to be changed by a process that was killed."""
        self.ceiling: int | None = None
        self.pins: set[str] = set()
        self.handles: dict[int, tuple[int, int, int]] = {}  # handle: slot, node, size
        self.damaged: set[int] = set()  # handles
        self.unlinked: set[int] = set()  # handles
        self.children: list[Child | None] = [None, None]
        self.last = Answer()
        self.sealed: set[int] = set()
        self.unsealed: list[set[int]] = [set(), set()]  # complete in one process, and not sealed yet
        self.next_handle = 0
        self.concurrent = False
        for path in ("a", "plain", "d/e"):
            self.reference.put(path, 20 * KIB, validator=path != PLAIN)
        self._sync_files()
        self._start(0)

    def teardown(self) -> None:
        for child in self.children:
            if child is not None:
                child.kill()
        shutil.rmtree(self.folder)

    # -- processes ---------------------------------------------------------------------------

    def _start(self, slot: int) -> None:
        child = self.children[slot] = Child(self.home, TTL)
        answer = child.hear()
        assert answer is not None, "it was killed by nobody"
        assert not answer.bug, answer.bug
        lost = self.sealed - answer.sealed
        assert not lost, f"{lost} were sealed, and are not here any more"
        self._look(slot, answer)

    def _child(self, slot: int) -> tuple[int, Child]:
        child = self.children[slot]
        if child is None:
            slot, child = next((n, c) for n, c in enumerate(self.children) if c is not None)
        return slot, child

    def _died(self, slot: int) -> None:
        done["deaths"] += 1
        self.reference.heard_by_the_dead()
        self._gone(slot)
        self._check_disk()
        if not any(self.children):
            self._start(slot)

    def _gone(self, slot: int) -> None:
        self.children[slot] = None
        self.unsealed[slot] = set()
        self.handles = {n: handle for n, handle in self.handles.items() if handle[0] != slot}

    def _complete(self, slot: int) -> set[int]:
        return self.sealed | self.unsealed[slot]

    def _ask(
        self, slot: int, name: str, *args: object, evicts: bool = False, loses: frozenset[int] = frozenset()
    ) -> Answer | None:
        """Do one operation; None: the process was killed in it."""
        slot, child = self._child(slot)
        child.tell(self._begin(name, args))
        return self._end(slot, child, name, evicts=evicts, loses=loses)

    def _begin(self, name: str, args: tuple[object, ...]) -> Ask:
        done[name] += 1
        reference = self.reference
        reference.step += 1
        self.before = self.origin
        if self.origin.faulty:
            reference.failed()
        return Ask(name, args, reference.now, self.origin, self.later)

    def _end(
        self,
        slot: int,
        child: Child,
        name: str,
        *,
        evicts: bool = False,
        loses: frozenset[int] = frozenset(),
        had: set[int] | None = None,
    ) -> Answer | None:
        """``had``: what was complete when it began, where another process was asked at the same time."""
        had = self._complete(slot) if had is None else had
        self._apply_later()
        answer = child.hear()
        if answer is None:
            assert child.armed, "it was killed by nobody"
            # What it did before is not known.
            self.sealed = set()
            self._died(slot)
            return None
        assert not answer.bug, answer.bug
        for kind, path in answer.told:
            done["told " + kind] += 1
            for known in (*PATHS, "d"):
                if known == path if kind == "stat" else known.rpartition("/")[0] == path:
                    self.reference.told(known)
        lost = had - answer.complete - loses
        if not self.limited and not evicts:
            assert not lost, f"{lost} are not complete any more, and nothing is evicted without a limit"
        kept = lost & self._pinned() & self.last.current & answer.current
        assert not kept, f"{kept} are pinned and were evicted"
        done["evicted"] += len(lost)
        for handle, linked in answer.linked.items():
            if not linked and handle not in self.unlinked:
                raise AssertionError(f"the object of handle {handle} was removed while it is open")
        self._look(slot, answer)
        return None if answer.blocked else answer

    def _pinned(self) -> set[int]:
        return {id_ for id_, node in self.reference.nodes.items() if node.path in self.pins}

    def _look(self, slot: int, answer: Answer) -> None:
        self.last = answer
        self.sealed = answer.sealed
        self.unsealed[slot] = answer.complete - answer.sealed
        assert not answer.wrong, answer.wrong
        total = answer.occupied + answer.claimed
        if self.ceiling is not None and self.cap is not None:
            assert total <= self.ceiling, f"{total} bytes are taken, and {self.ceiling} may be"
            if not self.concurrent:  # what the other one says may be of a moment before
                self.ceiling = max(self.cap, total)
        on_disk = self._check_disk()
        if not self.concurrent:
            assert on_disk <= total, f"{on_disk} bytes are on the disk, and {total} are counted"

    def _check_disk(self) -> int:
        on_disk = 0
        for path in self.home.glob("objects/*/*"):
            with suppress(FileNotFoundError):  # the other process removes it
                on_disk += path.stat().st_blocks * 512
        if self.ceiling is not None:
            assert on_disk <= self.ceiling, f"{on_disk} bytes are on the disk, and {self.ceiling} may be"
        return on_disk
