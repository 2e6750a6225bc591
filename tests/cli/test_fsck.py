"""`mirror fsck`: what it prints and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from cache.rebuild import Progress
from mirror.cli.progress import PLAIN_INTERVAL, plain_steps
from tests.cache.damaging import PATHS, filled, object_of, sql
from tests.support.command import Outcome, mirror


def fsck(home: Path, *options: str) -> Outcome:
    return mirror("fsck", "--cache", home, *options)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_the_exit_code_says_how_it_ended(home: Path) -> None:
    """0 clean, 1 repaired (or would be), 2 cannot; each finding is a line, the last line sums up."""
    nodes = trio.run(filled, home)
    clean = fsck(home)
    assert (clean.code, clean.err) == (0, "")
    assert clean.out == "6 complete objects (119 KiB), 1 incomplete: clean\n"
    object_of(home, nodes["b"]).unlink()
    for _ in range(2):
        dry = fsck(home, "--dry-run")
        assert dry.code == 1
        assert dry.out.splitlines()[-1].endswith("1 thing wrong, nothing was changed yet")
    repaired = fsck(home)
    assert repaired.code == 1
    found, summary = repaired.out.splitlines()
    assert found == (
        "the object of b (http://origin.test/data/) is missing: removed, fetched again when it is wanted"
    )
    assert summary == "5 complete objects (70.2 KiB), 1 incomplete: 1 thing wrong, repaired"
    assert fsck(home).code == 0


def test_many_findings_are_cut_short_and_json_has_all(home: Path) -> None:
    nodes = trio.run(filled, home)
    folder = home / "objects" / "ab"
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in range(25):
        (folder / f"ab{number:038x}").touch(mode=0o600)
    (folder / "notes").touch()
    said = fsck(home, "-n")
    assert len(said.out.splitlines()) == 20 + 3
    assert "… and 5 more findings" in said.out
    assert f"left alone, for it is none of the cache's files: {folder / 'notes'}" in said.out
    document = json.loads(fsck(home, "--json").out)
    assert document["verdict"] == "repaired"
    assert len(document["findings"]) == 25
    assert document["findings"][0].keys() == {"kind", "what", "done", "fixed"}
    assert document["left_alone"] == [str(folder / "notes")]
    assert (document["objects"], document["partial"], document["dry_run"]) == (6, 1, False)
    assert nodes


def test_what_cannot_be_checked_is_one_line_and_exit_code_2(home: Path, tmp_path: Path) -> None:
    refused = fsck(tmp_path / "nowhere")
    assert refused.code == 2
    assert refused.lines == [f"mirror: {tmp_path / 'nowhere'} holds no cache: nothing to check"]
    trio.run(filled, home)
    sql(home, "PRAGMA user_version = 99")
    refused = fsck(home, "--json")
    assert refused.code == 2
    assert json.loads(refused.out)["verdict"] == "cannot"
    assert "newer version" in json.loads(refused.out)["error"]


def test_rebuild_throws_the_index_away(home: Path) -> None:
    trio.run(filled, home)
    done = fsck(home, "--rebuild")
    assert done.code == 1
    assert "made anew from 6 objects; the old one is kept as index.damaged-" in done.out
    assert len(PATHS) + 1 == 6
    assert fsck(home).code == 0


def test_a_log_gets_a_line_every_few_seconds() -> None:
    now = 0.0
    lines: list[str] = []
    report = plain_steps(lines.append, lambda: now)
    report(Progress("checking rows", 0, 10))
    now = PLAIN_INTERVAL
    report(Progress("checking rows", 5000, 10_000))
    report(Progress("checking rows", 6000, 10_000))
    now = 2 * PLAIN_INTERVAL
    report(Progress("writing the index", 0, 1))
    assert lines == ["checking rows: 5,000 of 10,000", "writing the index"]
