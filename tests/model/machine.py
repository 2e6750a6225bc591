"""The sequences: operations on one cache by one or two processes, each answer held against the reference.

Run by hypothesis as a state machine, or by hand: a failure prints the calls that lead to it, and
`test_regressions.py` has those that once failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.cache.crash import CALLS
from tests.model.driver import Child
from tests.model.lockstep import CAPS, FAULTS, PATHS, PLAIN, SIZES, Lockstep, done
from tests.model.origin import UNSIZED, Later, State
from tests.model.system import KIB, Answer, Shown

paths = st.sampled_from(PATHS)
sizes = st.sampled_from(SIZES)
offsets = st.sampled_from((0, 1, 4095, 9000, 16 * KIB - 3, 16 * KIB, 33 * KIB, 69 * KIB, 200 * KIB))
lengths = st.sampled_from((1, 10, 5000, 17 * KIB, 1 << 20))
small = st.integers(0, 7)
slots = st.integers(0, 1)


def step(
    kind: Callable[..., Any] = rule, **arguments: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Any]:
    """A rule that is noted when it runs: what cannot be repeated has to be told the first time."""

    def decorate(function: Callable[..., None]) -> Any:
        @wraps(function)
        def noted(machine: MirrorMachine, *args: object, **given: object) -> None:
            said = [repr(value) for value in args] + [f"{name}={value!r}" for name, value in given.items()]
            machine.steps.append(f"state.{function.__name__}({', '.join(said)})")
            try:
                function(machine, *args, **given)
            except Exception as exc:
                exc.add_note("\n".join(["what was done:", *machine.steps]))
                raise

        return kind(**arguments)(noted)

    return decorate


class MirrorMachine(Lockstep):
    """One sequence.

    No rule has a precondition: what is there depends on the moment at which a process was killed, and
    hypothesis has to draw the same rules each time. Where there is nothing to do a rule does nothing.
    """

    @step(initialize, cap=st.sampled_from((None, *CAPS[:2])), full=st.booleans())
    def begin(self, cap: int | None, full: bool) -> None:
        """Most caches are too small for what is read, and most sources have all files."""
        if full:
            for number, path in enumerate(PATHS):
                self.origin_puts(path, (20 * KIB, 40 * KIB)[number % 2])
        if cap is not None:
            self.limit(cap)

    # -- the origin --------------------------------------------------------------------------

    def _sync_files(self) -> None:
        files = {path: version for path in PATHS if (version := self.reference.current(path)) is not None}
        self.origin = replace(self.origin, files=files)

    def _apply_later(self) -> None:
        if self.later is not None:
            self.origin, self.later = self.later.state, None
            self.changes_later()
            if self.origin.faulty:
                self.reference.failed()

    def _change(self, change: Callable[[], None], state: dict[str, object], after: int | None) -> None:
        """Change the origin now, or in the middle of the next operation; one change at a time."""
        if self.later is not None:
            return
        if after is None:
            self.reference.step += 1
            change()
            self.origin = replace(self.origin, **state)  # type: ignore[arg-type]
            self._sync_files()
            return
        # What will be, worked out on a copy of what is.
        history = {path: list(states) for path, states in self.reference._history.items()}
        self.reference.step += 1  # that of the operation
        change()
        was = self.origin
        self.origin = replace(self.origin, **state)  # type: ignore[arg-type]
        self._sync_files()
        self.later, self.origin = Later(after, self.origin), was
        will_be = self.reference._history
        self.reference._history = history
        self.reference.step -= 1

        def apply() -> None:
            self.reference._history = {
                path: [(min(step, self.reference.step), version) for step, version in states]
                for path, states in will_be.items()
            }

        self.changes_later = apply

    after = st.one_of(st.none(), st.none(), st.sampled_from((0, 1, 5000, 18 * KIB)))

    @step(path=paths, size=sizes, sneaky=st.booleans(), after=after)
    def origin_puts(self, path: str, size: int, sneaky: bool = False, after: int | None = None) -> None:
        def change() -> None:
            self.reference.put(path, size, sneaky=sneaky, validator=path != PLAIN)

        self._change(change, {}, after)

    @step(path=paths, after=after)
    def origin_removes(self, path: str, after: int | None = None) -> None:
        self._change(lambda: self.reference.place(path, None), {}, after)

    @step(path=paths, which=small, after=after)
    def origin_restores(self, path: str, which: int, after: int | None = None) -> None:
        past = self.reference.past(path)
        if past:
            self._change(lambda: self.reference.place(path, past[which % len(past)]), {}, after)

    @step(fault=st.sampled_from(FAULTS), parts=st.booleans(), after=after)
    def origin_fails(self, fault: str, parts: bool = False, after: int | None = None) -> None:
        done["outages"] += 1
        self._change(lambda: None, {"part_fault" if parts else "fault": fault}, after)

    @step(every=st.sampled_from((1500, 3000, 10_000)))
    def origin_breaks_bodies(self, every: int) -> None:
        self._change(lambda: None, {"breaks_every": every}, None)

    @step(lie=st.sampled_from((-1, 0, 1, 3000)), ranges=st.booleans())
    def origin_states_no_lengths(self, lie: int = 0, ranges: bool = False) -> None:
        self._change(lambda: None, {"lengths": False, "ranges": False, "lie": lie}, None)

    @step()
    def origin_ignores_ranges(self) -> None:
        self._change(lambda: None, {"ranges": False}, None)

    @step(path=paths, which=small)
    def origin_serves_another(self, path: str, which: int) -> None:
        past = self.reference.past(path)
        if past:
            self._change(lambda: None, {"others": {path: past[which % len(past)]}}, None)

    @step(budget=st.sampled_from((0, 1, 3000, 17 * KIB)))
    def origin_stalls(self, budget: int) -> None:
        self._change(lambda: None, {"budget": budget}, None)

    @step(wait=st.booleans())
    def origin_is_well(self, wait: bool = True) -> None:
        self.later = None
        self.origin = State(files=self.origin.files)
        if wait:
            self.reference.now += 61.0
        # What stalled goes on.
        for slot, child in enumerate(self.children):
            if child is not None:
                self._ask(slot, "nothing")

    @step(seconds=st.sampled_from((1.0, 30.0, 61.0, 3600.0)))
    def time_passes(self, seconds: float) -> None:
        self.reference.now += seconds

    # -- names -------------------------------------------------------------------------------

    def _excused(self, error: str) -> bool:
        """Whether an error is one that the origin made, as it was before the operation or became in it."""
        return any(_makes(origin, error) for origin in (self.before, self.origin))

    def _shown(self, path: str, shown: Shown) -> None:
        wrong = self.reference.names(path, shown.id, shown.size, shown.mtime_ns, shown.validator)
        assert wrong is None, wrong

    def _failed(self, path: str, answer: Answer) -> None:
        assert answer.error is not None
        if answer.error == "NotFound":
            wrong = self.reference.is_absent(path)
            assert wrong is None, wrong
            return
        done["errors"] += 1
        assert self._excused(answer.error), f"{answer.error} of {path}: {answer.message}"

    @step(slot=slots, path=paths)
    def look_up(self, path: str, slot: int = 0) -> None:
        answer = self._ask(slot, "lookup", path)
        if answer is None:
            return
        if answer.error == "NoSpace":
            # Where nobody states a length, only the whole file tells it.
            assert path == UNSIZED, answer.message
            assert self.limited, answer.message
        elif answer.error is not None:
            self._failed(path, answer)
        else:
            self._shown(path, answer.value)

    @step(slot=slots, path=st.sampled_from(("", "d")))
    def list_folder(self, path: str, slot: int = 0) -> None:
        answer = self._ask(slot, "list", path)
        if answer is None:
            return
        if answer.error is not None:
            if answer.error == "NotFound":
                assert path
                for below in PATHS:
                    if below.startswith("d/"):
                        assert self.reference.is_absent(below) is None
            else:
                assert self._excused(answer.error), answer.message
            return
        there = dict(answer.value)
        for known in PATHS:
            if known.rpartition("/")[0] != path:
                continue
            if known in there:
                self._shown(known, there[known])
            else:
                wrong = self.reference.is_absent(known)
                assert wrong is None, wrong

    # -- bytes -------------------------------------------------------------------------------

    def _open(self, slot: int, name: str, path: str) -> Shown | None:
        answer = self._ask(slot, name, path)
        return None if answer is None else self._opened(path, answer)

    def _opened(self, path: str, answer: Answer) -> Shown | None:
        if answer.error is None:
            self._shown(path, answer.value)
            shown: Shown = answer.value
            return shown
        changed = len(self.reference.states(path, self.reference.step)) > 1
        if answer.error == "VersionChanged" and changed:
            return None
        if answer.error == "NoSpace":
            assert self.limited, answer.message
            return None
        self._failed(path, answer)
        return None

    @step(slot=slots, path=paths)
    def open(self, path: str, slot: int = 0) -> None:
        self._open(slot, "open", path)

    @step(slot=slots, path=paths)
    def warm(self, path: str, slot: int = 0) -> None:
        shown = self._open(slot, "warm", path)
        if shown is not None:
            complete = self._complete(0) | self._complete(1)
            assert shown.id in complete or self.limited, "what was warmed is complete"

    @step(slot=slots, path=paths, offset=offsets, size=lengths)
    def open_and_read(self, path: str, offset: int = 0, size: int = 1 << 20, slot: int = 0) -> None:
        shown = self._open(slot, "open", path)
        if shown is not None:
            self._read(slot, shown.id, offset, size)

    @step(slot=slots, which=small, offset=offsets, size=lengths)
    def read(self, which: int, offset: int = 0, size: int = 1 << 20, slot: int = 0) -> None:
        """Through a file that was looked up some time ago: its node may be of the past."""
        if not self.reference.nodes:
            return
        ids = sorted(id_ for id_, seen in self.reference.nodes.items() if seen.size is not None)
        if ids:
            self._read(slot, ids[which % len(ids)], offset, size)

    def _read(self, slot: int, node: int, offset: int, size: int) -> None:
        answer = self._ask(slot, "read", node, offset, size)
        if answer is not None:
            self._has_read(node, offset, size, answer)

    def _has_read(self, node: int, offset: int, size: int, answer: Answer) -> None:
        seen = self.reference.nodes[node]
        assert answer.error is None, answer.message
        complete, data = answer.value
        if isinstance(data, bytes):
            wrong = self.reference.reads(node, offset, size, data)
            assert wrong is None, wrong
            done["bytes read"] += len(data)
            return
        error = type(data).__name__
        done["errors"] += 1
        if seen.poisoned:
            return
        if complete:
            raise AssertionError(f"{seen.path} was complete, and gave {error}: {data}")
        if error == "VersionChanged" and self.reference.may_have_changed(node):
            return
        if error == "VersionChanged" and seen.path == PLAIN:
            return  # nothing tells whether a second answer continues the first
        if error == "NoSpace" and self.limited and not self.origin.ranges:
            return
        assert self._excused(error), f"{error} of {seen.path}: {data}"

    @step(slot=slots, offset=offsets)
    def read_all(self, offset: int = 0, slot: int = 0) -> None:
        """Some of every file: more than most caches hold."""
        for path in PATHS:
            self.open_and_read(path, offset, 5000, slot)

    @step(first=paths, second=paths)
    def two_at_once(self, first: str, second: str) -> None:
        """Two processes open at the same time, often the same file, and read it."""
        for slot in (0, 1):
            if self.children[slot] is None:
                self._start(slot)
        wanted = (first, second)
        done["two at once"] += 1
        self.concurrent = True
        shown: list[Shown | None] = [None, None]
        for name in ("open", "read"):
            asked: dict[int, tuple[Child, tuple[Any, ...]]] = {}
            for slot, child in enumerate(self.children):
                node = shown[slot]
                if child is not None and (name == "open" or node is not None):
                    args = (wanted[slot],) if node is None else (node.id, 0, 1 << 20)
                    asked[slot] = child, args
                    child.tell(self._begin(name, args))
            # For both it is one step, which began with the first of them; what one was told, both know.
            self.reference.step -= max(0, len(asked) - 1)
            # What one has sealed meanwhile the other, who answered before, need not know.
            had = {slot: self._complete(slot) for slot in asked}
            answers = {
                slot: self._end(slot, child, name, had=had[slot]) for slot, (child, _) in asked.items()
            }
            for slot, answer in answers.items():
                if answer is not None and name == "open":
                    shown[slot] = self._opened(wanted[slot], answer)
                elif answer is not None:
                    self._has_read(asked[slot][1][0], 0, 1 << 20, answer)
        self.concurrent = False
        self._ask(0, "nothing")

    # -- handles -----------------------------------------------------------------------------

    @step(slot=slots, which=small)
    def hold(self, which: int, slot: int = 0) -> None:
        """Keep a complete object open, as the kernel does with a backing file."""
        if not self.reference.nodes:
            return
        ids = sorted(self.reference.nodes)
        node = ids[which % len(ids)]
        slot, _ = self._child(slot)
        handle = self.next_handle
        self.next_handle += 1
        complete = node in self._complete(slot)
        answer = self._ask(slot, "hold", handle, node)
        if answer is None:
            return
        assert answer.error is None, answer.message
        if answer.value is None:
            assert not complete, "what is complete can be opened"
        else:
            done["held"] += 1
            if not complete:
                # Another process seals it: it cannot be said that it is in use before a moment after that.
                self.unlinked.add(handle)
            self.handles[handle] = slot, node, answer.value

    @step(which=small, offset=offsets, size=lengths)
    def read_held(self, which: int, offset: int = 0, size: int = 1 << 20) -> None:
        if not self.handles:
            return
        handle = sorted(self.handles)[which % len(self.handles)]
        slot, node, _ = self.handles[handle]
        answer = self._ask(slot, "read_held", handle, offset, size)
        if answer is not None and handle not in self.damaged:
            assert answer.error is None, answer.message
            wrong = self.reference.reads(node, offset, size, answer.value)
            assert wrong is None, wrong

    @step(which=small)
    def release(self, which: int) -> None:
        if not self.handles:
            return
        handle = sorted(self.handles)[which % len(self.handles)]
        slot, _, _ = self.handles.pop(handle)
        self._ask(slot, "release", handle)

    # -- the cache ---------------------------------------------------------------------------

    @step(slot=slots)
    def sync(self, slot: int = 0) -> None:
        slot, _ = self._child(slot)
        complete = self._complete(slot)
        answer = self._ask(slot, "sync")
        if answer is not None:
            assert answer.error is None, answer.message
            if self.children[1 - slot] is None:
                assert complete <= answer.sealed, "after a sync what was complete is sealed"

    @step(size=st.sampled_from((1, 30 * KIB, 1 << 30)), slot=slots)
    def evict(self, size: int, slot: int = 0) -> None:
        answer = self._ask(slot, "free", size, evicts=True)
        assert answer is None or answer.error is None, answer.message

    def _lose_handles(self, node: int) -> None:
        self.unlinked |= {handle for handle, (_, of, _) in self.handles.items() if of == node}

    @step(which=small, slot=slots)
    def drop(self, which: int, slot: int = 0) -> None:
        if not self.reference.nodes:
            return
        ids = sorted(self.reference.nodes)
        node = ids[which % len(ids)]
        self._lose_handles(node)
        for unsealed in self.unsealed:
            unsealed.discard(node)  # also where the other process has not sealed it yet
        answer = self._ask(slot, "drop", node, loses=frozenset((node,)), evicts=False)
        if answer is not None:
            assert answer.error is None, answer.message
            other = self.children[1 - self._child(slot)[0]]
            if other is not None:
                # It learns of that when it seals, within a quarter of a second: here, when it is told to.
                self.sync(slot=1 - self._child(slot)[0])
            if answer.value and not any(self.children[1:]):
                assert node not in answer.complete, "what was dropped is gone"

    @step(path=paths)
    def pin(self, path: str) -> None:
        answer = self._ask(0, "pin", path)
        if answer is not None:
            self.pins.add(path)

    @step(path=paths)
    def unpin(self, path: str) -> None:
        self.pins.discard(path)
        self._ask(0, "unpin", path)

    @step(cap=st.sampled_from((None, *CAPS)))
    def limit(self, cap: int | None) -> None:
        # A cache that is over its limit now may stay so, and not grow.
        now = self.last.occupied + self.last.claimed
        changed = self._ask(0, "limit", cap) is not None
        self.limited = cap is not None if changed else self.limited or cap is not None
        self.cap = cap = cap if changed else None  # where it was not, nothing can be said of it
        self.ceiling = None if cap is None else max(cap, now)

    @step(which=small, flip=st.one_of(st.none(), st.integers(0, 200_000)), slot=slots)
    def verify(self, which: int, flip: int | None = None, slot: int = 0) -> None:
        """Look at an object; with ``flip``, after a bit of it was changed."""
        if not self.reference.nodes:
            return
        ids = sorted(self.reference.nodes)
        node = ids[which % len(ids)]
        seen = self.reference.nodes[node]
        if seen.poisoned or any(self.children[1:]):
            return  # another process may have it open for its readers
        _, child = self._child(slot)
        if flip is not None and child.armed:
            return  # killed in between, a wrong bit would stay
        if flip is not None:
            of = {handle for handle, (_, held, _) in self.handles.items() if held == node}
            of -= self.unlinked  # those are of an object that was dropped before
            self.unlinked |= of
        answer = self._ask(slot, "verify", node, flip, loses=frozenset(() if flip is None else (node,)))
        if answer is None:
            return
        assert answer.error is None, answer.message
        found, complete, flipped, stands, _ = answer.value
        done["verified " + found] += 1
        if flipped:
            assert found == "BAD", f"a wrong bit was changed, and the object is {found}"
            self.damaged |= of
            if stands != node:
                seen.poisoned = True
            assert node not in answer.complete
        else:
            if flip is not None:
                self.unlinked -= of
            assert found != "BAD", "nothing was changed"
            if complete:
                assert found in ("GOOD", "UNKNOWN"), found

    # -- ends --------------------------------------------------------------------------------

    @step(slot=slots)
    def another_process(self, slot: int = 1) -> None:
        if self.children[slot] is None:
            self._start(slot)

    @step(slot=slots)
    def close(self, slot: int = 0) -> None:
        """End a process in order, and begin another when it was the last."""
        slot, child = self._child(slot)
        complete = self._complete(slot)
        answer = child.close(self._begin("close", ()))
        self._apply_later()
        if answer is None:
            assert child.armed, "it was killed by nobody"
            self.sealed = set()
            self._died(slot)
            return
        assert not answer.bug, answer.bug
        self._gone(slot)
        # With a limit, whoever is left may evict at once: he has waited for what this one was filling.
        # As ever he leaves what is pinned.
        evictable = self.limited and any(self.children)
        self.sealed = complete & self._pinned() & self.last.current if evictable else complete
        if not any(self.children):
            self._start(slot)

    @step(slot=slots)
    def kill(self, slot: int = 0) -> None:
        slot, child = self._child(slot)
        child.kill()
        self._died(slot)

    @step(
        slot=slots,
        function=st.sampled_from(sorted(CALLS)),
        at=st.integers(1, 12),
        after=st.booleans(),
    )
    def kill_at(self, function: str, at: int, after: bool = False, slot: int = 0) -> None:
        """Kill it around a call that is to come."""
        slot, child = self._child(slot)
        if not child.armed:
            child.armed = True
            self._ask(slot, "arm", function, at, after)


def _makes(origin: State, error: str) -> bool:
    """Whether an origin in this state makes an error."""
    faults = {fault for fault in (origin.fault, origin.part_fault) if fault is not None}
    if error in faults or (error == "OriginFailed" and ("Transient" in faults or origin.breaks_every)):
        return True
    return error == "VersionChanged" and bool(origin.lie or origin.others or not origin.lengths)
