"""Turns: one user of a cache has each at a time, they end with it, and nothing depends on them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cache.turns import LISTINGS, Turns

_HOLDS = """
import sys
from pathlib import Path
from cache.turns import Turns
turns = Turns(Path(sys.argv[1]))
print(turns.take(7), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def mine(folder: Path) -> Iterator[Turns]:
    turns = Turns(folder)
    yield turns
    turns.close()


@pytest.fixture
def other(folder: Path) -> Iterator[Turns]:
    turns = Turns(folder)
    yield turns
    turns.close()


@pytest.mark.parametrize("number", [0, 7, LISTINGS, LISTINGS + (1 << 40)])
def test_each_turn_is_one_users(mine: Turns, other: Turns, number: int) -> None:
    assert mine.take(number)
    assert not mine.take(number)
    assert not other.take(number)
    assert other.take(number + 1)
    mine.give_back(number)
    assert other.take(number)
    assert not mine.take(number)


def test_closing_ends_all_of_them(mine: Turns, other: Turns) -> None:
    assert mine.take(1)
    assert mine.take(2)
    mine.close()
    assert other.take(1)
    assert other.take(2)
    assert not mine.take(1)  # it may go on afterwards
    assert mine.take(3)


def test_a_turn_ends_with_its_process(folder: Path, mine: Turns) -> None:
    argv = [sys.executable, "-c", _HOLDS, str(folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert not mine.take(7)
        process.kill()
        process.wait()
        assert mine.take(7)


def test_without_a_file_everybody_has_every_turn(tmp_path: Path) -> None:
    """Work is done twice then, but done."""
    nowhere = tmp_path / "missing"
    one, another = Turns(nowhere), Turns(nowhere)
    assert one.take(1)
    assert another.take(1)
    assert not one.take(1)
    one.give_back(1)
    assert one.take(1)
