"""The C part without a kernel: rules, held files, references, names, a storm; plain and under the sanitizers.

Five programs drive the channel with stand-ins for the kernel and the worker (`bench.h`). They are built
and run once as they are, once with AddressSanitizer and UndefinedBehaviorSanitizer, and once with
ThreadSanitizer; a report of any of these fails the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHANNEL = HERE.parents[1] / "mirror" / "keeper" / "channel"
BUILDS = {
    "plain": ["-O2"],
    "address": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-O1", "-fsanitize=thread"],
}


def compiler() -> str:
    """Any compiler that has the sanitizers: gcc and clang both do."""
    found = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    assert found, "building needs a C compiler"
    return found


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("program", ["rules", "held", "references", "names", "storm"])
def test_the_channel_keeps_its_rules(program: str, build: str, tmp_path: Path) -> None:
    """Its rules hold, from the first INIT to the end, without a race or a wrong access."""
    binary = tmp_path / program
    sources = [HERE / f"{program}.c", *sorted(CHANNEL.glob("*.c"))]
    flags = ["-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", *BUILDS[build]]
    includes = [f"-I{CHANNEL}", f"-I{HERE}"]
    subprocess.run([compiler(), *flags, *includes, *map(str, sources), "-o", str(binary)], check=True)
    result = subprocess.run([str(binary)], capture_output=True, text=True, check=False, timeout=100)
    assert result.returncode == 0, result.stdout + result.stderr
