"""Checksums are those of the bytes as they came, whatever the order in which they came."""

from __future__ import annotations

import random
import tempfile
from itertools import pairwise

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import Buffer

from cache import sums
from cache._files import Job, crc32c, store
from cache.sums import Run, Sums, combined, damaged, unpacked


@given(st.binary(max_size=5000), st.binary(max_size=5000))
def test_the_sum_of_two_runs_follows_from_theirs(first: bytes, second: bytes) -> None:
    assert combined(crc32c(first), crc32c(second), len(second)) == google_crc32c.value(first + second)


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "BLOCK", 1000)


def written(at: int, chunks: list[Buffer]) -> list[Run]:
    """The runs of a write, in blocks of 1,000 bytes."""
    with tempfile.TemporaryFile() as file:
        job: Job[None] = store(file.fileno(), at, sums.BLOCK, chunks)
        return [Run(*run) for run in job.run().runs]


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("seed", range(50))
def test_runs_that_come_in_any_order_make_one_sum(seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(chance.randrange(1, 6000))
    cuts = sorted({0, len(data), *(chance.randrange(len(data)) for _ in range(8))})
    pieces = list(pairwise(cuts))
    chance.shuffle(pieces)
    known = Sums()
    for done, (start, stop) in enumerate(pieces):
        assert (known.whole(len(data)) is None) is (done < len(pieces))
        middle = (start + stop) // 2
        for run in written(start, [data[start:middle], memoryview(data)[middle:stop]]):
            known.add(run)
    assert known.whole(len(data)) == google_crc32c.value(data)
    assert len(known) == -(-len(data) // 1000)
    assert unpacked(known.packed()) == list(known)

    def read_bad(offset: int, size: int) -> bytes:
        return bytes(bad[offset : offset + size])

    bad = bytearray(data)
    assert list(damaged(known, read_bad)) == []
    at = chance.randrange(len(data))
    bad[at] ^= 1 << chance.randrange(8)
    [run] = damaged(known, read_bad)
    assert run.start <= at < run.stop
    del bad[at:]
    assert next(damaged(known, read_bad)).stop > at


def test_a_run_without_a_sum_leaves_the_whole_without_one() -> None:
    known = Sums([Run(0, 5, None)])
    known.add(Run(5, 9, 1234))
    assert list(known) == [Run(0, 9, None)]
    assert known.whole(9) is None


def test_what_is_no_list_of_sums_is_refused() -> None:
    with pytest.raises(ValueError, match="pairs"):
        unpacked(b"12345")
