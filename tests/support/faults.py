"""Faults of the disk below the modules in C, which Python cannot patch: a library that comes before libc."""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("faults.c")
FUNCTIONS = ("open", "pwrite", "rename", "setxattr")
"""Calls on the files of objects that a hook is shown."""

Hook = Callable[[str, int, bool], int]
"""Given the function, what it takes (bytes, new names), and whether it is done; returns an errno, or 0."""

_TYPE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_long, ctypes.c_int)
_kept: list[object] = []


@cache
def _library() -> str:
    """Path of the library, built once in each process."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    assert compiler, "apt-get install gcc"
    folder = tempfile.mkdtemp(prefix="faults-")
    atexit.register(shutil.rmtree, folder)
    flags = ["-std=gnu11", "-O1", "-U_FORTIFY_SOURCE", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, SOURCE, "-ldl", "-o", f"{folder}/faults.so"], check=True)
    return f"{folder}/faults.so"


def environment() -> dict[str, str]:
    """Variables with which a program is started that has the library."""
    return {**os.environ, "LD_PRELOAD": _library()}


def begin_anew(module: str) -> None:
    """Have this program, ``python -m MODULE``, begin anew with the library; returns where it has."""
    if not hasattr(ctypes.CDLL(None), "faults_hook"):
        command = [sys.executable, "-m", module, *sys.argv[1:]]
        sys.exit(subprocess.run(command, env=environment(), check=False).returncode)


def hook(wanted: Hook) -> None:
    """Show the calls of `FUNCTIONS` to a hook, in whichever thread they are made."""

    def shown(function: bytes, takes: int, after: int) -> int:
        return wanted(function.decode(), takes, bool(after))

    kept = _TYPE(shown)
    _kept.append(kept)
    ctypes.CDLL(None).faults_hook(kept)
