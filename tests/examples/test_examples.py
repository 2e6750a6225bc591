"""Every example runs as its own head says, on real mounts of the example's own origin."""

from __future__ import annotations

import configparser
import hashlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import demo
import origin
import pytest
import sample
from mounting import MIRROR, Status, mounted
from rich.console import Console

EXAMPLES = Path(__file__).parents[2] / "examples"
SHAPE = sample.Shape(small_files=40, small_bytes=2000, shards=1, shard_bytes=20 * 1024 * 1024)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    sample.generate(root, SHAPE)
    return root


@pytest.fixture(scope="module")
def source(data: Path) -> Iterator[str]:
    with origin.serving(data) as url:
        yield url


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Not below pytest's own folder: the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="mirror-run-") as folder:
        monkeypatch.setenv("MIRROR_RUNTIME", folder)
        yield


def run(script: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / script), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def passthrough_here(data: Path) -> bool:
    """What the doctor's probe says of the machine that runs the tests."""
    command = [*MIRROR, "doctor", "--json", "--cache", str(data)]
    findings = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)
    [probe] = [finding for finding in findings if finding["check"] == "passthrough"]
    return probe["verdict"] == "ok" and "registered" in probe["seen"]


def test_the_demo_reads_everything_cold_and_again_without_the_daemon(data: Path) -> None:
    with ExitStack() as stack:
        cold, warm, disk = demo.demonstrate(Console(quiet=True), stack, SHAPE)
    assert cold.files == warm.files == disk.files == 41
    assert cold.bytes == warm.bytes == disk.bytes
    assert (warm.read_requests == 0) is passthrough_here(data)


def test_the_demo_works_without_passthrough_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(source: str, mountpoint: Path, cache: Path) -> AbstractContextManager[Status]:
        return mounted(source, mountpoint, cache, "-o", "no_passthrough")

    monkeypatch.setattr(demo, "mounted", without)
    console = Console(file=io.StringIO(), width=200)
    with ExitStack() as stack:
        cold, warm, _ = demo.demonstrate(console, stack, SHAPE)
    assert cold.files == warm.files == 41
    assert isinstance(console.file, io.StringIO)
    assert "Reads go through the daemon here: switched off" in console.file.getvalue()


def test_the_demo_stopped_by_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-u", str(EXAMPLES / "demo.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if " is mounted on " in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        assert "nothing is left mounted" in process.stdout.read()
    assert process.returncode == 130
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert list(tmp_path.iterdir()) == []


def test_warm_reads_are_checked_to_bypass_the_daemon(source: str, data: Path) -> None:
    result = run("check_bypass.py", source, "--files", "20")
    assert result.returncode == (0 if passthrough_here(data) else 3), result.stderr
    assert "20 files" in result.stdout


def test_a_folder_of_the_same_name_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples run anywhere, also where a folder is called as one of our packages."""
    for name in ("cache", "mirror"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    result = run("check_bypass.py", "http://127.0.0.1:9/")
    assert "the connection was refused" in result.stderr


def test_a_check_of_a_source_that_is_gone_fails(tmp_path: Path) -> None:
    result = run("check_bypass.py", "http://127.0.0.1:9/", "--cache", tmp_path / "cache")
    assert result.returncode == 1
    assert "mirror: " in result.stderr


def test_the_warming_job_ends_when_everything_is_there(source: str, tmp_path: Path) -> None:
    first = run("warm_job.py", source, "images", "--cache", tmp_path / "cache")
    assert (first.returncode, first.stderr) == (0, "")
    assert "40 files fetched, 0 failed" in first.stdout
    again = run("warm_job.py", source, "images", "--cache", tmp_path / "cache")
    assert "0 files fetched, 0 failed" in again.stdout


def test_the_warming_job_says_what_it_could_not_have(tmp_path: Path) -> None:
    result = run("warm_job.py", "http://127.0.0.1:9/", "--rounds", "1", "--cache", tmp_path / "cache")
    assert result.returncode == 1
    assert result.stderr
    assert "Traceback" not in result.stderr


def test_the_training_reader_reads_every_file_once_an_epoch(source: str, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    with mounted(source, tmp_path / "mnt", tmp_path / "cache"):
        result = run("train_reader.py", tmp_path / "mnt" / "images", "--workers", "2", "--epochs", "2")
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split(" images in")[0] for line in result.stdout.splitlines()] == [
        "epoch 1: 40",
        "epoch 2: 40",
    ]


def test_the_unit_starts_a_command_that_exists() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False, delimiters=["="])
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(EXAMPLES / "mirror@.service")
    program, command, *rest = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "mirror"
    known = subprocess.run([*MIRROR, command, "--help"], capture_output=True, text=True, check=True).stdout
    options = [word for word in rest if word.startswith("-")]
    assert options
    assert all(option in known for option in options)


def test_files_are_read_without_a_mount_and_fetched_once(source: str, data: Path, tmp_path: Path) -> None:
    """What one program has fetched, the next one has."""
    names = sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())[:5]
    first = run("read_without_mount.py", source, *names, "--cache", tmp_path / "cache")
    assert first.returncode == 0, first.stderr
    for line, name in zip(first.stdout.splitlines(), names, strict=True):
        assert line.startswith(hashlib.sha256((data / name).read_bytes()).hexdigest())
    again = run("read_without_mount.py", source, *names, "--cache", tmp_path / "cache")
    assert again.stdout == first.stdout
    assert again.stderr == "0 bytes came over the network\n"
    missing = run("read_without_mount.py", source, "no such file", "--cache", tmp_path / "cache")
    assert (missing.returncode, missing.stderr) == (1, "there is no no such file\n")
    folder = str(Path(names[0]).parent)
    of_a_folder = run("read_without_mount.py", source, folder, "--cache", tmp_path / "cache")
    assert (of_a_folder.returncode, of_a_folder.stderr) == (1, f"{folder} is a folder: name files\n")
