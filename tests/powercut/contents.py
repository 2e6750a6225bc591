"""The bytes of one file after a power cut, from what is durable and what was done since (see `model`)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from random import Random

from tests.powercut.recorder import Kind, Op

FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16


class Fate(Enum):
    """What becomes of the writes to a file that are not durable."""

    ALL = auto()
    NONE = auto()
    LENGTH = auto()
    """The length is what it was, and there are zeros."""
    SOME = auto()
    """Each block has one of the contents that it had, and the file one of its lengths."""


def contents(
    safe: bytes | bytearray,
    pending: Sequence[tuple[int, Op]],
    lost: set[int],
    fate: Fate,
    block: int,
    rng: Random,
) -> bytes:
    """What is in a file after a cut.

    Args:
        safe: what is durable.
        pending: writes, cuts and holes since then, with their numbers, in order.
        lost: numbers of the cuts and holes that did not survive.
        fate: what becomes of the writes.
        block: bytes that survive together.
        rng: decides what is left to chance.
    """
    data = bytearray(safe)
    if not pending:
        return bytes(data)
    lengths = [len(data)]
    length = len(data)
    until: dict[int, int] = {}  # block → the first of its writes that is lost
    numbers = [number for number, _ in pending]
    for number, op in pending:
        if op.kind is not Kind.WRITE:
            if number in lost:
                break
            del data[length:]
            data.extend(bytes(length - len(data)))
            perform(data, op)
            length = len(data)
            lengths = [length]
            continue
        stop = op.offset + len(op.data)
        if stop > length:
            length = stop
            lengths.append(length)
        if fate is Fate.ALL:
            perform(data, op)
        elif fate is Fate.SOME:
            for at in range(op.offset - op.offset % block, stop, block):
                if at not in until:
                    until[at] = rng.choice((0, numbers[-1] + 1, rng.choice(numbers)))
                if number < until[at]:
                    start, end = max(at, op.offset), min(at + block, stop)
                    _put(data, start, op.data[start - op.offset : end - op.offset])
    if fate is Fate.NONE:
        length = lengths[0]
    elif fate is Fate.SOME:
        length = rng.choice((lengths[-1], lengths[-1], rng.choice(lengths)))
    del data[length:]
    data.extend(bytes(length - len(data)))
    return bytes(data)


def perform(data: bytearray, op: Op) -> None:
    """Do one write, cut or hole. Raises ValueError for a kind of ``fallocate`` that is not modelled."""
    stop = op.offset + op.length
    if op.kind is Kind.WRITE:
        _put(data, op.offset, op.data)
    elif op.kind is Kind.TRUNCATE:
        del data[op.length :]
        data.extend(bytes(op.length - len(data)))
    else:
        mode = int(op.path)
        if mode & ~(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
            raise ValueError(f"fallocate mode {mode} is not modelled")
        if mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
            end = min(stop, len(data))
            if end > op.offset:
                data[op.offset : end] = bytes(end - op.offset)
        if not mode & FALLOC_KEEP_SIZE:
            data.extend(bytes(max(0, stop - len(data))))


def _put(data: bytearray, offset: int, new: bytes) -> None:
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(new)] = new
