"""Runs the `mirror` command as a user would: a program with arguments, an environment and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("mirror")
"""The command beside the interpreter that runs the tests."""

TIMEOUT = 60.0
"""Seconds after which a command hangs."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one command ended."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines a user sees on standard error."""
        return [line for line in self.err.splitlines() if line.strip()]

    def ok(self) -> Outcome:
        """The same outcome, or an AssertionError with all that the command said."""
        assert self.code == 0, str(self)
        return self

    def __str__(self) -> str:
        return f"{' '.join(self.argv)} → {self.code}\n{self.out}{self.err}"


def mirror(
    *args: str | Path,
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    timeout: float = TIMEOUT,
) -> Outcome:
    """Run ``mirror ARGS`` to its end.

    Args:
        *args: the arguments.
        env: variables on top of those of the tests.
        prefix: a program that starts the command (``setpriv``, ``nsenter``…), with its arguments.
        timeout: seconds; a command that takes longer is killed and fails the test.
    """
    argv = (*prefix, str(PROGRAM), *map(str, args))
    done = subprocess.run(
        argv,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Outcome(argv, done.returncode, done.stdout, done.stderr)


def processes_with(variable: str, value: str) -> list[int]:
    """The processes that were started with ``variable=value`` in their environment, and have not ended."""
    return list(_matching(f"{variable}={value}".encode()))


def _matching(wanted: bytes) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            found = wanted in (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # ended while we looked, or another user's
            continue
        if found:
            yield int(folder.name)
