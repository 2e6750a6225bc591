"""How failures of many files are shown."""

from __future__ import annotations

import pytest

from mirror.cli import failures


def test_a_path_is_said_once() -> None:
    assert failures.line("a/b", "refused") == "a/b: refused"
    assert failures.line("a/b", "a/b: refused") == "a/b: refused"


def test_a_path_never_reaches_a_terminal_as_a_command() -> None:
    assert failures.line("two\nlines\x1b[2J", "refused") == r"two\nlines\x1b[2J: refused"


def test_only_the_first_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    failures.show([(str(number), "refused") for number in range(failures.SHOWN + 1)])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "mirror: 0: refused"
    assert lines[-1] == "mirror: … and 1 more failure"
    assert len(lines) == failures.SHOWN + 1
