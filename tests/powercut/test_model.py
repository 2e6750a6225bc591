"""What the model says may be left by a power cut, one rule at a time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.powercut.model import Disk, State, Survival, states
from tests.powercut.recorder import Kind, Op

ROOT, FOLDER, FILE, OTHER = 1, 2, 3, 4
MAKE_ROOT = Op(Kind.MKDIR, ROOT, length=0o700)
SYNC_ROOT = Op(Kind.FSYNC, ROOT)


def create(path: str, inode: int = FILE) -> Op:
    return Op(Kind.CREATE, inode, path, length=0o600)


def write(data: bytes, offset: int = 0, inode: int = FILE) -> Op:
    return Op(Kind.WRITE, inode, data=data, offset=offset, length=len(data))


def found(*ops: Op, survival: Survival = Survival.SOME) -> list[State]:
    """States after all of ``ops``, as many as it takes to see whatever may be."""
    disk = Disk()
    for op in (MAKE_ROOT, *ops):
        disk.apply(op)
    return [disk.state(survival, Random(seed)) for seed in range(300)]


def data_of(state: State, name: str = "f") -> bytes | None:
    inode = state.names.get(name)
    return None if inode is None else state.files[inode].data


def seen(states: list[State], what: Callable[[State], object] = data_of) -> set[object]:
    return {what(state) for state in states}


NAMED = (create("f"), SYNC_ROOT)
"""A file whose name is durable."""


@pytest.mark.parametrize("barrier", [Op(Kind.FSYNC, FILE), Op(Kind.FDATASYNC, FILE), Op(Kind.SYNCFS, ROOT)])
def test_synced_bytes_are_there_with_their_length(barrier: Op) -> None:
    assert seen(found(*NAMED, write(b"right"), barrier)) == {b"right"}


def test_bytes_that_were_not_synced_may_be_lost_with_or_without_their_length() -> None:
    assert seen(found(*NAMED, write(b"right"))) == {b"right", b"", bytes(5)}


@pytest.mark.parametrize("no_barrier", [Op(Kind.RANGE, FILE), Op(Kind.FSYNC, ROOT), Op(Kind.CLOSE, FILE)])
def test_other_calls_do_not_make_bytes_durable(no_barrier: Op) -> None:
    assert b"" in seen(found(*NAMED, write(b"right"), no_barrier))


def test_blocks_survive_independently_of_their_order() -> None:
    first, second = b"1" * 4096, b"2" * 4096
    left = seen(found(*NAMED, write(first), write(second, 4096)))
    assert {first + second, first, first + bytes(4096), bytes(4096) + second, bytes(8192)} <= left


def test_of_a_block_that_was_written_twice_any_content_may_be_left() -> None:
    left = seen(found(*NAMED, write(b"old"), Op(Kind.FDATASYNC, FILE), write(b"one"), write(b"two")))
    assert left == {b"old", b"one", b"two"}


def test_a_cut_that_was_lost_takes_what_was_written_after_it() -> None:
    cut = Op(Kind.TRUNCATE, FILE)
    left = seen(found(*NAMED, write(b"before"), Op(Kind.FDATASYNC, FILE), cut, write(b"new")))
    assert left == {b"before", b"", b"new", bytes(3)}


def test_a_hole_reads_as_zeros_or_is_not_there() -> None:
    punch = Op(Kind.ALLOCATE, FILE, "3", offset=2, length=2)
    left = seen(found(*NAMED, write(b"abcdef"), Op(Kind.FDATASYNC, FILE), punch))
    assert left == {b"abcdef", b"ab\0\0ef"}


def test_a_name_is_durable_by_its_folder_alone() -> None:
    """Syncing the file itself is not enough in POSIX, though it is on ext4."""
    assert None in seen(found(create("f"), write(b"x"), Op(Kind.FSYNC, FILE)))
    assert seen(found(create("f"), SYNC_ROOT), lambda state: set(state.names) == {"f"}) == {True}


def test_a_file_in_a_folder_whose_name_was_lost_is_not_there() -> None:
    made = (Op(Kind.MKDIR, FOLDER, "d", length=0o700), create("d/f"), Op(Kind.FSYNC, FOLDER))
    left = seen(found(*made), lambda state: (tuple(state.folders), tuple(state.names)))
    assert left == {((), ()), (("d",), ("d/f",))}


def test_a_rename_is_there_or_the_old_name_is() -> None:
    rename = Op(Kind.RENAME, FILE, "f", "g")
    assert seen(found(*NAMED, rename), lambda state: tuple(state.names)) == {("f",), ("g",)}
    assert seen(found(*NAMED, rename, SYNC_ROOT), lambda state: tuple(state.names)) == {("g",)}


def test_an_unlinked_file_may_be_back_whole() -> None:
    removed = Op(Kind.UNLINK, FILE, "f")
    left = seen(found(*NAMED, write(b"x"), Op(Kind.FSYNC, FILE), removed))
    assert left == {b"x", None}


def test_an_attribute_is_durable_by_fsync_not_by_fdatasync() -> None:
    def attribute(state: State) -> bytes | None:
        return state.files[FILE].attributes.get("user.a")

    setting = Op(Kind.SETXATTR, FILE, other="user.a", data=b"v")
    assert seen(found(*NAMED, setting, Op(Kind.FDATASYNC, FILE)), attribute) == {None, b"v"}
    assert seen(found(*NAMED, setting, Op(Kind.FSYNC, FILE)), attribute) == {b"v"}
    removing = Op(Kind.REMOVEXATTR, FILE, other="user.a")
    assert seen(found(*NAMED, setting, Op(Kind.FSYNC, FILE), removing), attribute) == {None, b"v"}


def test_names_of_a_folder_are_lost_in_order_or_each_by_itself() -> None:
    """A journal keeps the order; without one the second may be there and the first not."""
    both = (create("f"), create("g", OTHER))
    orders = {
        (state.how.split()[1].rstrip(","), tuple(sorted(state.names)))
        for state in found(*both)
        if state.names
    }
    assert ("NAMES", ("g",)) in orders
    assert ("JOURNAL", ("g",)) not in orders
    assert ("FOLDERS", ("g",)) not in orders


def test_a_journal_brings_what_was_before_a_durable_change() -> None:
    durable_later = (create("f"), Op(Kind.MKDIR, FOLDER, "d", length=0o700), create("d/g", OTHER))
    for state in found(*durable_later, Op(Kind.FSYNC, FOLDER)):
        if "JOURNAL" in state.how:
            assert set(state.names) == {"f", "d/g"}


def test_the_extremes_are_nothing_and_all_and_names_without_bytes() -> None:
    ops = [MAKE_ROOT, create("f"), write(b"x")]
    nothing, everything, metadata = states(ops, len(ops), 3, Random(1))
    assert data_of(nothing) is None
    assert data_of(everything) == b"x"
    assert data_of(metadata) == b"\0"
    assert data_of(next(states(ops, 1, 1, Random(1)))) is None


def test_a_number_is_given_again_only_after_its_file_is_gone() -> None:
    """No name and no descriptor, before the new file was made; and the old one is not back."""
    folder = Op(Kind.MKDIR, FOLDER, "d", length=0o700)
    opened = (folder, create("d/f"), Op(Kind.OPEN, FILE), Op(Kind.UNLINK, FILE, "d/f"))
    again = create("d/f", OTHER)
    held = found(*opened, again)
    closed = found(*opened, Op(Kind.CLOSE, FILE), again)
    assert not any(state.reused for state in held)
    assert {OTHER: FILE} in [state.reused for state in closed]
    assert all(FILE not in state.names.values() for state in closed if state.reused)
