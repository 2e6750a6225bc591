"""The command as a process: its help, its version, its one line and exit code when something is wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from mirror.remotes import KINDS

COMMANDS = [
    "mount",
    "unmount",
    "warm",
    "ls",
    "du",
    "pin",
    "unpin",
    "pins",
    "evict",
    "verify",
    "fsck",
    "gc",
    "status",
    "doctor",
]


def mirror(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mirror.cli", *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | env
    )


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("mirror: ")
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_examples(command: str) -> None:
    result = mirror(command, "--help")
    assert result.returncode == 0
    assert f"Usage: mirror {command}" in result.stdout
    assert "Examples:" in result.stdout


def test_the_help_of_mount_names_every_kind_of_source() -> None:
    said = mirror("mount", "--help").stdout
    for scheme in KINDS.keys() - {"http", "webdav", "manifest+http", "manifest+file"}:  # variants of others
        assert f"{scheme}:" in said


def test_the_help_of_all_has_every_command() -> None:
    result = mirror("--help")
    assert result.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command}  ", result.stdout, re.MULTILINE)


def test_help_loads_nothing_heavy() -> None:
    """``mirror --help`` is quick because it imports only what it shows."""
    code = (
        "import sys\n"
        "from mirror.cli.main import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "heavy = {'httpx', 'trio', 'pyfuse3', 'sqlite3', 'sqlite_utils', 'rich', 'selectolax', 'ssl'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_version_is_the_distribution_s() -> None:
    result = mirror("--version")
    assert (result.returncode, result.stdout) == (0, f"mirror {version('mirrorfs')}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    assert mirror(_MIRROR_COMPLETE=f"{shell}_source").returncode == 0
    words = {"bash": "mirror un", "zsh": "mirror un", "fish": "mirror un"}[shell]
    answer = mirror(
        _MIRROR_COMPLETE=f"{shell}_complete", COMP_WORDS=words, COMP_CWORD="1" if shell != "fish" else "un"
    )
    assert "unmount" in answer.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["frobnicate"], "frobnicate"),
        (["mount"], "SOURCE"),
        (["mount", "http://127.0.0.1:1/"], "MOUNTPOINT"),
        (["mount", "http://127.0.0.1:1/", ""], "the path is empty"),
        (["mount", "--cache", "", "http://127.0.0.1:1/", "/mnt"], "the path is empty"),
        (["mount", "--open", "never", "http://127.0.0.1:1/", "/mnt"], "--open"),
        (["mount", "--ttl", "soon", "http://127.0.0.1:1/", "/mnt"], "no duration"),
        (["mount", "--deadline", "0", "http://127.0.0.1:1/", "/mnt"], "--deadline"),
        (["mount", "-o", "tll=5", "http://127.0.0.1:1/", "/mnt"], "tll=5"),
        (["mount", "-o", "ttl=soon", "http://127.0.0.1:1/", "/mnt"], "no duration"),
        (["mount", "--spin", "-1", "http://127.0.0.1:1/", "/mnt"], "--spin"),
        (["mount", "gopher://example.org/", "/mnt"], "gopher"),
        (["mount", "no-url", "/mnt"], "no-url"),
        (["warm", "--jobs", "0", "http://127.0.0.1:1/"], "--jobs"),
        (["warm", "gopher://example.org/"], "gopher"),
        (["warm", "http://127.0.0.1:1/", "../x"], "'..'"),
        (["warm", "--cache-size", "big", "http://127.0.0.1:1/"], "no amount"),
        (["mount", "-o", "cache_size=120%", "http://127.0.0.1:1/", "/mnt"], "no share"),
        (["mount", "--min-free", "none", "http://127.0.0.1:1/", "/mnt"], "no amount"),
        (["pin", "http://127.0.0.1:1/"], "PATTERN"),
        (["pin", "http://127.0.0.1:1/", "../x"], "'..'"),
        (["unpin", "http://127.0.0.1:1/"], "--all"),
        (["unpin", "--all", "http://127.0.0.1:1/", "a"], "--all"),
        (["evict", "http://127.0.0.1:1/"], "--all"),
        (["evict", "--all", "http://127.0.0.1:1/", "a"], "--all"),
        (["ls", "--json", "-1", "http://127.0.0.1:1/"], "--names"),
        (["ls", "--deadline", "0", "http://127.0.0.1:1/"], "--deadline"),
        (["du", "no-url"], "no-url"),
        (["unmount", "--timeout", "0", "/mnt"], "--timeout"),
        (["doctor", "now"], "now"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(args: list[str], said: str, tmp_path: Path) -> None:
    result = mirror(*args, MIRROR_CACHE=str(tmp_path / "cache"))
    assert said in one_line(result)
    assert result.returncode == 2


def test_a_cache_inside_the_mountpoint_is_refused(tmp_path: Path) -> None:
    result = mirror("mount", "--cache", tmp_path / "cache", "http://127.0.0.1:1/", tmp_path)
    assert "lies inside the mountpoint" in one_line(result)
    assert result.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_mountpoint_inside_the_cache_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    result = mirror("mount", "--cache", tmp_path, "http://127.0.0.1:1/", tmp_path / "mnt")
    assert "lies inside the cache" in one_line(result)
    assert result.returncode == 2


def test_a_cache_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    (tmp_path / "mnt").mkdir()
    result = mirror("mount", "--cache", tmp_path / "cache", "http://127.0.0.1:1/", tmp_path / "mnt")
    assert str(tmp_path / "cache") in one_line(result)
    assert result.returncode == 1


@pytest.mark.parametrize(
    "args",
    [
        ["du"],
        ["gc"],
        ["pins"],
        ["unpin", "--all"],
        ["evict", "--all"],
        ["ls", "--offline", "http://127.0.0.1:1/"],
        ["ls", "--cached", "http://127.0.0.1:1/"],
    ],
)
def test_where_no_cache_is_none_is_made(args: list[str], tmp_path: Path) -> None:
    result = mirror(*args, MIRROR_CACHE=str(tmp_path / "cache"))
    assert one_line(result) == (
        f"mirror: there is no cache in {tmp_path / 'cache'}: name another by --cache or MIRROR_CACHE"
    )
    assert result.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_a_setting_in_o_is_the_default_of_its_option(tmp_path: Path) -> None:
    """What stands on the command line itself wins over ``-o``, which wins over the environment."""
    (tmp_path / "taken").touch()
    wrong, right = str(tmp_path / "taken"), str(tmp_path / "mnt" / "cache")
    where = ["http://127.0.0.1:1/", tmp_path / "mnt"]
    assert "lies inside" in one_line(mirror("mount", "-o", f"cache={right}", *where, MIRROR_CACHE=wrong))
    assert "lies inside" in one_line(mirror("mount", "-o", f"cache={wrong}", "--cache", right, *where))


def test_a_folder_that_is_no_mount_is_said(tmp_path: Path) -> None:
    for command in ("status", "unmount"):
        result = mirror(command, tmp_path)
        assert str(tmp_path) in one_line(result)
        assert result.returncode == 1


@pytest.mark.parametrize(("debug", "traced"), [("", False), ("1", True)])
def test_a_bug_is_one_line_unless_asked(debug: str, traced: bool) -> None:
    code = (
        "import mirror.cli.main as m\n"
        "def broken(**_): raise RuntimeError('out\\nof order')\n"
        "m.cli.commands['doctor'].callback = broken\n"
        "import sys; sys.argv = ['mirror', 'doctor']\n"
        "m.main()\n"
    )
    env = os.environ | {"MIRROR_DEBUG": debug}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env
    )
    assert result.returncode == 1
    assert ("Traceback" in result.stderr) is traced
    assert "out" in result.stderr
    if not traced:
        assert "MIRROR_DEBUG=1" in one_line(result)


def test_interrupted_while_it_is_loaded(tmp_path: Path) -> None:
    """A Ctrl-C right after the start shows no traceback, as one later does not."""
    (tmp_path / "click.py").write_text("import time; print('loading', flush=True); time.sleep(60)")
    with subprocess.Popen(
        [sys.executable, "-m", "mirror.cli", "status"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"loading\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("args", [["doctor"], ["status", "--json"], ["mount", "--help"]])
def test_an_output_that_cannot_be_written_is_said(args: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mirror.cli", *args],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=os.environ | {"MIRROR_CACHE": str(tmp_path / "cache")},
        )
    assert done.stderr == "mirror: standard output cannot be written (No space left on device)\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    "command", ["warm", "index", "refresh", "manifest", "ls", "pin", "unpin", "evict", "verify"]
)
def test_names_in_a_source_are_utf8(command: str) -> None:
    done = mirror(command, "http://127.0.0.1:1/", "a\udcff")
    assert r"'a\udcff' is not UTF-8" in one_line(done)
    assert done.returncode == 2


def test_a_list_has_no_place_in_a_folder_that_is_gone(tmp_path: Path) -> None:
    code = f'mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec "$@"'
    command = [sys.executable, "-P", "-m", "mirror.cli", "manifest", "http://127.0.0.1:1/", "-o", "x.csv"]
    done = subprocess.run(
        ["sh", "-c", code, "sh", *command, "--cache", tmp_path / "cache"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the current folder no longer exists" in one_line(done)
    assert done.returncode == 1


def test_a_reader_of_the_output_may_leave_early() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "mirror.cli", "doctor", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
