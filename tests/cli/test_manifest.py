"""``mirror manifest`` against a real server: what it writes, and what it leaves when it is stopped."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.support.command import PROGRAM
from tests.support.servers import Server, nginx

FILES = {f"{folder}/{number}.bin": os.urandom(1000 + number) for folder in ("a", "b") for number in range(20)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("tree")
    for name, data in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    with nginx(root, autoindex="json") as running:
        yield running


def manifest(cache: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "mirror.cli",
        "manifest",
        "--cache",
        str(cache / "cache"),
        *map(str, args),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_row_for_every_file_on_standard_output(server: Server, tmp_path: Path) -> None:
    """Absolute URLs, sizes and times; two runs say the same, line by line."""
    done = manifest(tmp_path, server.url)
    assert done.returncode == 0
    assert done.stderr.startswith("40 files, ")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["path"]: (row["url"], row["size"]) for row in rows} == {
        name: (server.url + name, len(data)) for name, data in FILES.items()
    }
    assert all(row["mtime"].endswith("Z") and "sha256" not in row for row in rows)
    assert manifest(tmp_path, "-q", "--output", "-", server.url).stdout == done.stdout


def test_only_what_matches(server: Server, tmp_path: Path) -> None:
    rows = manifest(tmp_path, server.url, "a/1*.bin").stdout.splitlines()
    assert len(rows) == 11
    nothing = manifest(tmp_path, server.url, "*.jpg", "--output", tmp_path / "l.jsonl")
    assert nothing.returncode == 1
    assert "matches *.jpg" in nothing.stderr
    assert not (tmp_path / "l.jsonl").exists()


def test_with_sha256_every_row_has_one(server: Server, tmp_path: Path) -> None:
    """What is not cached is fetched; later lists then have the digests that the cache knows, without."""
    target = tmp_path / "list.csv"
    assert manifest(tmp_path, server.url, "a", "--sha256", "-o", target).returncode == 0
    rows = list(csv.DictReader(io.StringIO(target.read_text())))
    assert {row["path"]: row["sha256"] for row in rows} == {
        name: hashlib.sha256(data).hexdigest() for name, data in FILES.items() if name.startswith("a/")
    }
    server.forget()
    again = [json.loads(line) for line in manifest(tmp_path, server.url).stdout.splitlines()]
    # The cache has CRC-32C of what is complete, and the ETags that came with the bytes.
    assert {row["path"] for row in again if "crc32c" in row and "etag" in row} == {
        row["path"] for row in rows
    }
    assert not [request for request in server.requests() if request.uri.endswith(".bin")]


def test_the_extension_says_the_form_and_format_overrules_it(server: Server, tmp_path: Path) -> None:
    for name, args in (("l.parquet", []), ("l.dat", ["--format", "parquet"])):
        assert manifest(tmp_path, server.url, "-o", tmp_path / name, *args).returncode == 0
        table = parquet.read_table(tmp_path / name)
        assert table.num_rows == 40
        assert str(table.schema.field("mtime").type) == "timestamp[ns, tz=UTC]"
    assert manifest(tmp_path, server.url, "-o", tmp_path / "l.jsonl.gz").returncode == 0
    assert len(gzip.decompress((tmp_path / "l.jsonl.gz").read_bytes()).splitlines()) == 40


def test_a_list_that_is_not_whole_is_not_there(server: Server, tmp_path: Path) -> None:
    """A folder that cannot be listed, or a server that is down: the old list stays, and nothing beside it."""
    target = tmp_path / "out" / "l.jsonl"
    target.parent.mkdir()
    target.write_text("old")
    with nginx(server.root, extra_conf="location /b/ { return 403; }") as broken:
        failed = manifest(tmp_path, broken.url, "-o", target, "--deadline", "2")
    assert failed.returncode == 1
    assert "mirror: b: " in failed.stderr
    assert "was not written" in failed.stderr
    assert (target.read_text(), names(target.parent)) == ("old", ["l.jsonl"])
    down = manifest(tmp_path, "http://127.0.0.1:9/", "-o", target, "--deadline", "1")
    assert (down.returncode, target.read_text(), names(target.parent)) == (1, "old", ["l.jsonl"])


def test_ctrl_c_leaves_no_half_list(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(4):
        (tree / f"{number}.bin").write_bytes(bytes(4 << 20))
    out = tmp_path / "out"
    out.mkdir()
    with nginx(tree, autoindex="json", rate="1m") as server:
        argv = [str(PROGRAM), "manifest", server.url, "--sha256", "-o", str(out / "l.csv")]
        process = subprocess.Popen(
            [*argv, "--cache", str(tmp_path / "cache")], stderr=subprocess.PIPE, text=True
        )
        while not names(out):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert "no list was written" in process.stderr.read()
        process.stderr.close()
    assert names(out) == []


@pytest.mark.parametrize(
    ("output", "code", "says"),
    [("/dev/null", 2, "is not a file"), ("/proc/none/l.csv", 1, "there is no folder"), ("", 2, "empty")],
)
def test_where_nothing_can_be_written_is_said_first(
    tmp_path: Path, output: str, code: int, says: str
) -> None:
    done = manifest(tmp_path, "http://127.0.0.1:9/", "--output", output)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1)
    assert says in done.stderr


def test_signed_urls_are_left_out_with_a_warning(server: Server, tmp_path: Path) -> None:
    """A list of such a list says what there is, and that nobody can fetch it."""
    row = {"path": "x", "url": f"{server.url}a/1.bin?sig=geheim", "size": 1001, "sha256": "00" * 32}
    (tmp_path / "l.jsonl").write_text(json.dumps(row))
    done = manifest(tmp_path, f"manifest+file://{tmp_path}/l.jsonl")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"path": "x", "size": 1001, "sha256": "00" * 32}
    assert "cannot be mounted" in done.stderr
    assert "geheim" not in done.stderr
