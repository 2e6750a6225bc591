"""Readers in processes of their own: what an application does to a mount, and what it got.

A test runs them as a program (`run`, `start`), never inside the test process: a reader that hangs is
then a child that can be killed, and its errors are its own. Each prints one JSON object at its end.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_CHUNK = 1 << 20


def start(*args: str | Path, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start one reader of this module (its name and arguments)."""
    argv = [*prefix, sys.executable, "-m", "tests.support.readers", *map(str, args)]
    return subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str], *, timeout: float = 60.0) -> dict[str, Any]:
    """Wait for a reader's end and return what it found."""
    try:
        out, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, f"{process.args!r}: exit code {process.returncode}"
    answer: dict[str, Any] = json.loads(out)
    return answer


def run(*args: str | Path, timeout: float = 60.0) -> dict[str, Any]:
    """Run one reader to its end."""
    return result(start(*args), timeout=timeout)


def signal_waits(pid: int) -> bool:
    """Whether a process has a signal that it cannot take yet, as one that waits inside a file system."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, mask = line.partition(":")
        if name in {"SigPnd", "ShdPnd"} and int(mask, 16):
            return True
    return False


# -- the programs ----------------------------------------------------------------------------


def read(path: str, offset: str = "0", count: str = "-1") -> dict[str, Any]:
    """Read a file, or ``count`` bytes of it: digest and size, or the errno."""
    hasher, size, left = hashlib.sha256(), 0, int(count)
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            at = int(offset)
            while left and (chunk := os.pread(fd, _CHUNK if left < 0 else min(left, _CHUNK), at)):
                hasher.update(chunk)
                at, size = at + len(chunk), size + len(chunk)
                left -= len(chunk) if left > 0 else 0
        finally:
            os.close(fd)
    except OSError as error:
        return {"errno": error.errno, "size": size}
    return {"errno": 0, "size": size, "sha256": hasher.hexdigest()}


def crowd(count: str, path: str) -> dict[str, Any]:
    """Many processes that open and read one file at the same moment; each answer and how often it came."""
    gate_read, gate_write = os.pipe()
    out_read, out_write = os.pipe()
    children = []
    for _ in range(int(count)):
        if (pid := os.fork()) == 0:
            os.close(gate_write)
            os.read(gate_read, 1)  # returns when the last writer is gone
            answer = read(path)
            os.write(out_write, f"{answer['errno']} {answer['size']} {answer.get('sha256', '-')}\n".encode())
            os._exit(0)
        children.append(pid)
    os.close(out_write)
    os.close(gate_write)
    with os.fdopen(out_read) as lines:
        answers = Counter(line.strip() for line in lines)
    for pid in children:
        os.waitpid(pid, 0)
    return {"answers": dict(answers)}


def load(root: str, expected: str, seconds: str) -> dict[str, Any]:
    """Look up, open, read and close files round and round, for a time; every error and wrong byte counts.

    Pages are dropped after each file, so that reads go on reaching whoever serves them.

    Args:
        root: the mount.
        expected: a JSON file of path → SHA-256.
        seconds: how long.
    """
    wanted: dict[str, str] = json.loads(Path(expected).read_text())
    errors: Counter[str] = Counter()
    operations, slowest, until = 0, 0.0, time.monotonic() + float(seconds)
    while time.monotonic() < until:
        for name, sha256 in wanted.items():
            began = time.monotonic()
            answer = read(f"{root}/{name}")
            if answer["errno"]:
                errors[os.strerror(answer["errno"])] += 1
            elif answer["sha256"] != sha256:
                errors["wrong bytes"] += 1
            _drop_pages(f"{root}/{name}")
            operations += 1
            slowest = max(slowest, time.monotonic() - began)
            if began > until:
                break
    return {"operations": operations, "errors": dict(errors), "slowest": slowest}


def _drop_pages(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return  # the next round counts it
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def timed(path: str) -> dict[str, Any]:
    """Read a file by bare system calls while a timer goes off every 10 ms.

    Python's own functions would try again after EINTR, and so hide it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    buffer, hasher, size = ctypes.create_string_buffer(_CHUNK), hashlib.sha256(), 0
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    if (fd := libc.open(os.fsencode(path), os.O_RDONLY)) < 0:
        return {"errno": ctypes.get_errno(), "size": 0}
    while (got := libc.read(fd, buffer, _CHUNK)) > 0:
        hasher.update(buffer.raw[:got])
        size += got
    signal.setitimer(signal.ITIMER_REAL, 0)
    if got < 0:
        return {"errno": ctypes.get_errno(), "size": size}
    return {"errno": 0, "size": size, "sha256": hasher.hexdigest()}


def names(path: str) -> dict[str, Any]:
    """The names in a folder, sorted, or the errno."""
    try:
        return {"errno": 0, "names": sorted(os.listdir(path))}  # noqa: PTH208 - names, not paths
    except OSError as error:
        return {"errno": error.errno}


def descend(path: str) -> dict[str, Any]:
    """Go down into the first folder of each folder, as ``fts`` does: how deep, and the errno at the end."""
    depth = 0
    at = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while found := os.listdir(at):  # noqa: PTH208 - by descriptor
            below = os.open(found[0], os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at, depth = below, depth + 1
    except OSError as error:
        return {"errno": error.errno, "depth": depth}
    finally:
        os.close(at)
    return {"errno": 0, "depth": depth}


_PROGRAMS: dict[str, Callable[..., dict[str, Any]]] = {
    "read": read,
    "crowd": crowd,
    "load": load,
    "timed": timed,
    "names": names,
    "descend": descend,
}


def main() -> None:
    """Run the program that the arguments name."""
    name, *args = sys.argv[1:]
    print(json.dumps(_PROGRAMS[name](*args)))


if __name__ == "__main__":
    main()
