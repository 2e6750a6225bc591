"""Sequences that once gave what the reference does not allow, shrunk; each says what was wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model.lockstep import forget_template
from tests.model.machine import MirrorMachine
from tests.model.system import KIB


@pytest.fixture(scope="module", autouse=True)
def _template() -> Iterator[None]:
    yield
    forget_template()


@pytest.fixture
def state() -> Iterator[MirrorMachine]:
    machine = MirrorMachine()
    yield machine
    machine.teardown()


def test_an_origin_without_ranges_that_always_breaks_off_is_given_up(state: MirrorMachine) -> None:
    """It was asked for ever: each try brought bytes, though always the same ones."""
    state.origin_ignores_ranges()
    state.origin_breaks_bodies(every=1500)
    state.open_and_read("d/e")


def test_the_same_origin_is_given_up_by_who_reads_past_the_cache(state: MirrorMachine) -> None:
    """The stream past the cache asked it for ever, too."""
    state.limit(60 * KIB)
    state.origin_puts("b", 70 * KIB)
    state.origin_ignores_ranges()
    state.origin_breaks_bodies(every=1500)
    state.open_and_read("b", 33 * KIB, 10)


def test_an_object_that_is_dropped_while_another_process_seals_it_is_not_sealed(
    state: MirrorMachine,
) -> None:
    """The other's row said that it was there: state and accounting were wrong until its next open."""
    state.another_process(1)
    state.open("plain", slot=1)
    state.drop(which=0, slot=0)
    state.close(slot=1)
    state.open_and_read("plain", slot=0)


def test_nothing_is_evicted_for_a_file_whose_origin_does_not_answer(state: MirrorMachine) -> None:
    """Each try to open what is not cached took room from what was, and brought nothing."""
    state.limit(60 * KIB)
    state.open("a")
    state.sync()
    state.list_folder("d")
    complete = set(state.sealed)
    state.origin_fails(fault="OriginFailed", parts=True)
    for path in ("plain", "d/e"):
        state.open(path)
    assert state.sealed == complete


def test_two_versions_of_one_size_and_time_are_not_mixed_in_one_handle(state: MirrorMachine) -> None:
    """A node of unknown validator was taken for the next version, with readers of the one before."""
    state.origin_puts("d/f", 70 * KIB)
    state.origin_stalls(budget=17 * KIB)
    state.open_and_read("d/f", 0, 10)
    state.origin_puts("d/f", 70 * KIB, sneaky=True)
    state.origin_is_well(wait=False)
    state.open_and_read("d/f", 33 * KIB, 10)
    state.read(0, 33 * KIB, 10)
    state.read(0, 0, 10)
    state.read(1, 0, 10)


def test_the_end_of_a_name_is_stale_to_whoever_reads_past_the_cache(state: MirrorMachine) -> None:
    """It was ENOENT, from a read of an open file."""
    state.limit(60 * KIB)
    state.origin_puts("b", 70 * KIB)
    state.open_and_read("b", 0, 10)
    state.origin_removes("b")
    state.read(0, 0, 10)


def test_a_file_of_unknown_length_needs_no_more_room_than_it_has_bytes(state: MirrorMachine) -> None:
    """It was refused in a cache that could not hold a step of 4 MiB, and evicted others for that step."""
    state.origin_puts("unsized", 40 * KIB)
    state.limit(300 * KIB)
    state.origin_states_no_lengths(lie=0, ranges=False)
    state.look_up("unsized")
    state.open_and_read("unsized", 0, 1 << 20)
    assert state.last.complete


def test_an_object_that_is_taken_over_from_the_dead_is_counted_once(state: MirrorMachine) -> None:
    """It was counted beside the claim of the process that had sealed it, until somebody was short of room."""
    state.origin_puts("b", 40 * KIB)
    state.limit(100 * KIB)
    state.another_process(1)
    state.open_and_read("a", slot=0)
    state.open_and_read("b", slot=1)
    state.kill_at("setxattr", 1, after=True, slot=1)
    state.sync(slot=1)
    state.look_up("b", slot=0)
    state.sync(slot=0)


def test_what_is_being_fetched_stays_when_it_is_dropped(state: MirrorMachine) -> None:
    """No defect of the mirror: it was complete a moment after the drop, and the model did not expect that."""
    state.begin(cap=None, full=True)
    state.origin_stalls(budget=17 * KIB)
    state.read_all()
    for which in range(6):
        state.drop(which)


def test_what_is_completed_while_it_is_dropped_does_not_pass_for_complete(state: MirrorMachine) -> None:
    """Its file was gone, and it was called complete until it was to be sealed, one time in eight."""
    for _ in range(20):
        state.origin_puts("d/e", 20 * KIB)
        state.look_up("d/e")
        node = max(state.reference.nodes)
        state.origin_stalls(budget=1)
        state.open_and_read("d/e", 4095, 1)
        state.origin_stalls(budget=17 * KIB)
        state.look_up("a")
        which = sorted(state.reference.nodes).index(node)
        state.drop(which)
        state.hold(which)
        state.origin_is_well()


def test_what_one_process_seals_the_other_may_not_know_yet(state: MirrorMachine) -> None:
    """No defect of the mirror: who answered later was held against what the other had sealed after that."""
    state.begin(cap=100 * KIB, full=True)
    state.pin("d/f")
    state.open_and_read("d/e", 16 * KIB, 10)
    state.origin_ignores_ranges()
    state.origin_puts("b", 20 * KIB, sneaky=True, after=1)
    state.origin_breaks_bodies(every=3000)
    state.two_at_once("d/f", "plain")
    state.limit(None)
    state.open_and_read("plain", 16 * KIB, 5000)
    state.origin_breaks_bodies(every=1500)
    state.limit(150 * KIB)
    state.two_at_once("b", "d/f")


def test_a_length_that_only_the_whole_file_tells_needs_room_for_it(state: MirrorMachine) -> None:
    """No defect of the mirror: a look-up may find no room, too, and the model did not expect that."""
    state.origin_puts("unsized", 40 * KIB)
    state.limit(60 * KIB)
    state.origin_states_no_lengths()
    state.look_up("unsized")
