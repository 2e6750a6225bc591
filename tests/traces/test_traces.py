"""The recorder records what is opened, and the simulator's policies are the published ones."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.traces.record import record
from tests.traces.simulate import LRU, OPTIMUM, OURS, POLICIES, S3_FIFO, SIEVE, outcome, simulate
from tests.traces.trace import FOLDER, SUFFIX, Open, load, names

READ = "import sys; [open(path, 'rb').read() for path in sys.argv[1:]]"


def test_opens_are_recorded_in_order_with_path_and_size(tmp_path: Path) -> None:
    """Every open of a file below the folder, at any depth, and nothing else."""
    (tmp_path / "deep").mkdir()
    first, second = tmp_path / "first.bin", tmp_path / "deep" / "second.bin"
    first.write_bytes(b"1")
    second.write_bytes(b"22")
    opens = record(tmp_path, [sys.executable, "-c", READ, *map(str, (second, first, second)), __file__])
    assert opens == [Open("deep/second.bin", 2), Open("first.bin", 1), Open("deep/second.bin", 2)]


@pytest.mark.parametrize("name", names())
def test_a_trace_is_small_and_says_what_it_is(name: str) -> None:
    """A cap that its files exceed, one size for each file, less than 150 KB on disk."""
    found = load(name)
    files = {seen.path: seen.size for seen in found.opens}
    assert found.about["about"]
    assert 0 < found.cap < sum(files.values())
    assert all(files[seen.path] == seen.size for seen in found.opens)
    assert (FOLDER / f"{name}{SUFFIX}").stat().st_size < 150_000


short = st.lists(st.sampled_from("abcdef"), max_size=14)


def one_size(paths: Sequence[str]) -> list[Open]:
    return [Open(path, 1) for path in paths]


def most_hits(paths: Sequence[str], cap: int) -> int:
    """All that anybody could do, tried out."""

    @cache
    def best(at: int, kept: frozenset[str]) -> int:
        if at == len(paths):
            return 0
        if paths[at] in kept:
            return 1 + best(at + 1, kept)
        if len(kept) < cap:
            return best(at + 1, kept | {paths[at]})
        return max(best(at + 1, kept), *(best(at + 1, kept - {out} | {paths[at]}) for out in kept))

    return best(0, frozenset())


@given(short, st.integers(1, 4))
def test_nobody_beats_the_optimum_where_files_have_one_size(paths: list[str], cap: int) -> None:
    assert sum(simulate(OPTIMUM, cap, one_size(paths)).hits) == most_hits(paths, cap)


@given(short, st.integers(1, 4))
def test_lru_has_what_was_opened_last(paths: list[str], cap: int) -> None:
    for at, hit in enumerate(simulate(LRU, cap, one_size(paths)).hits):
        last = list(dict.fromkeys(reversed(paths[:at])))
        assert hit == (paths[at] in last[:cap])


def test_sieve_spares_what_was_opened_again() -> None:
    """The example of its authors' idea: the hand passes what was visited, and goes on from where it was."""
    hits = simulate(SIEVE, 3, one_size("abca" + "d" + "a" + "e" + "adeb")).hits
    # d takes the place of b (a was visited), e the one of c; a, d and e are left.
    assert hits == [False] * 3 + [True, False, True, False] + [True] * 3 + [False]


files = st.lists(st.integers(0, 9).map(lambda number: (str(number), 10 * number + 5)), max_size=25)


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {OPTIMUM}))
@given(opens=files)
def test_no_policy_holds_more_than_the_cap(policy: str, opens: list[tuple[str, int]]) -> None:
    """Asked after every open which files would be hits now, it names no more bytes than the cap."""
    cap, sizes = 80, dict(opens)
    made = POLICIES[policy](cap, [])
    for path, size in opens:
        made.open(path, size)
        held = [size for path, size in sizes.items() if copy.deepcopy(made).open(path, size)]
        assert sum(held) <= cap
        assert size > cap or size in held


def test_the_figures_of_the_manual_are_those_of_the_traces() -> None:
    """The table of recorded traces in docs/eviction.md."""
    page = (FOLDER.parents[1] / "docs" / "eviction.md").read_text()
    for name in names():
        outcomes = {policy: outcome(policy, name) for policy in POLICIES}
        by_bytes = [outcomes[policy].byte_ratio for policy in (LRU, SIEVE, S3_FIFO, OURS, OPTIMUM)]
        by_opens = [outcomes[policy].ratio for policy in (LRU, OURS)]
        part = f"{by_bytes[3] / by_bytes[4]:.2f}"
        cells = [name, *(f"{ratio:.3f}" for ratio in by_bytes), part, *(f"{ratio:.3f}" for ratio in by_opens)]
        assert f"| {' | '.join(cells)} |" in page
