"""The modules in C that Python loads, under AddressSanitizer and UndefinedBehaviorSanitizer.

Their own tests are run with them, in a copy of the packages that has them built so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.channel.test_sanitizers import BUILDS, compiler

ROOT = Path(__file__).parents[2]
MODULES = {
    "cache/_files": "",
    "cache/_sealing": "",
    "mirror/http/_wire": "mirror/http/transfer",
    "mirror/remotes/file/_readers": "",
}
"""Each with the folder of its other sources."""
TESTS = (
    "tests/cache/test_files.py",
    "tests/cache/test_sealing_calls.py",
    "tests/remotes/test_file_small.py",
    "tests/remotes/test_wire.py",
    "tests/remotes/test_wire_tls.py",
)


def test_their_own_tests_find_no_wrong_access(tmp_path: Path) -> None:
    for name in ("cache", "mirror", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "schema.sql", tmp_path)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    flags = ["-std=gnu11", "-g", "-fPIC", "-shared", "-pthread", *BUILDS["address"]]
    for module, folder in MODULES.items():
        target = tmp_path / f"{module}{suffix}"
        target.unlink()
        include = f"-I{sysconfig.get_path('include')}"
        sources = [tmp_path / f"{module}.c", *(tmp_path.glob(f"{folder}/*.c") if folder else ())]
        libraries = ["-lssl", "-lcrypto"] if folder else []
        subprocess.run([compiler(), *flags, include, *sources, "-o", target, *libraries], check=True)
    runtime = subprocess.run(
        [compiler(), "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    env = {
        **os.environ,
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter leaves much to the end of the process
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(tmp_path),
    }
    where = "import sys, importlib as i; print(*(i.import_module(name).__file__ for name in sys.argv[1:]))"
    names = [module.replace("/", ".") for module in MODULES]
    loaded = subprocess.run(
        [sys.executable, "-c", where, *names],
        env=env,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert loaded.count(str(tmp_path)) == len(MODULES)
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        *TESTS,
    ]
    result = subprocess.run(tests, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
