"""A power cut at any point: no wrong byte is ever served, the index opens, and what was safe is still there.

What a cut may leave is in `tests.powercut.model`. ``make powercut`` does the same for 20,000 cuts, and
``POWERCUT_CUTS=…`` sets how many are made here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.powercut import soak
from tests.powercut.breaking import BROKEN
from tests.powercut.model import whole
from tests.powercut.recorder import Record

SEEDS = (1, 2, 3, 4)
CUTS = int(os.environ.get("POWERCUT_CUTS", "500")) // len(SEEDS)
"""Of each seed's record."""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_power_cut_never_leaves_a_wrong_byte(seed: int) -> None:
    """After a cut anywhere the cache opens, serves right bytes only, and what was safe is still there."""
    with soak.workplace() as folder:
        made = soak.record(folder, seed)
        assert_same(made)
        result = soak.replay(made, seed, CUTS)
        assert not result["wrong"], soak.explain(made, seed, result)
    assert result["cuts"] >= min(CUTS, result["ops"])
    assert result["states"] == 2 * result["cuts"]
    assert result["reused"] > 0
    assert result["safe"] > 0


def test_a_power_cut_while_the_index_is_made_leaves_one_that_opens() -> None:
    """Nor does one in the first steps of a new cache, before there is anything in it."""
    with soak.workplace() as folder:
        made = soak.record(folder, 9)
        result = soak.replay(made, 9, 0, "--first", "60")
        assert not result["wrong"], soak.explain(made, 9, result)


FOUND = {
    "data-not-synced": "wrong bytes",
    "rows-too-early": "wrong bytes",
    "deletes-not-synced": "wrong bytes",
    "folders-not-synced": "is said to be complete and is not",
    "index-not-synced": "is damaged",
}
"""What at least one of the states shows that a mistake leaves."""


@pytest.fixture(scope="module")
def record_of() -> Iterator[Callable[[int], Record]]:
    """The record of a seed, made once."""
    with soak.workplace() as folder:

        @cache
        def made(seed: int) -> Record:
            home = folder / str(seed)
            home.mkdir()
            return soak.record(home, seed)

        yield made


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_forgotten_barrier_is_found(record_of: Callable[[int], Record], mistake: str) -> None:
    """The check can fail: where barriers are left out of a record, it finds what that leaves."""
    seen: set[str] = set()
    # By chance one record may not do what a mistake needs to show.
    for seed in (11, 13, 15, 17):
        result = soak.replay(record_of(seed), seed, 400, "--break", mistake, "--until", FOUND[mistake])
        seen.update(wrong["failure"].splitlines()[-1] for wrong in result["wrong"])
        if any(FOUND[mistake] in line for line in seen):
            return
    pytest.fail(f"nothing of {FOUND[mistake]!r} was found, but {seen}")


def assert_same(made: Record) -> None:
    """Nothing was missed: what the record amounts to is what really is in the folder."""
    there = whole(made.read())
    shared = set(made.root.glob("*-shm"))
    paths = [path for path in made.root.rglob("*") if path not in shared]
    assert {str(path.relative_to(made.root)) for path in paths if path.is_dir()} == set(there.folders)
    files = {str(path.relative_to(made.root)): path for path in paths if path.is_file()}
    assert {name: path.stat().st_ino for name, path in files.items()} == there.names
    for name, path in files.items():
        file = there.files[there.names[name]]
        assert path.read_bytes() == file.data, name
        assert path.stat().st_mode & 0o7777 == file.mode, name
        attributes = {key: os.getxattr(path, key) for key in os.listxattr(path) if key.startswith("user.")}
        assert attributes == file.attributes, name
