"""``mirror warm`` against a real server: what it fetches, says and returns, and how it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.servers import Server, nginx

FILES = {f"{folder}/{number}.bin": os.urandom(1000 + number) for folder in ("a", "b") for number in range(20)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("tree")
    for name, data in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    with nginx(root) as running:
        yield running


def warm(cache: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mirror.cli", "warm", "--cache", str(cache), *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_everything_is_fetched_and_a_second_run_fetches_nothing(server: Server, tmp_path: Path) -> None:
    first = warm(tmp_path, server.url)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("40 files, ")
    assert "40 files fetched" in first.stdout
    again = json.loads(warm(tmp_path, "--json", server.url).stdout)
    assert again["ok"] is True
    assert (again["files_total"], again["files_done"], again["files_fetched"]) == (40, 40, 0)
    assert again["bytes_total"] == sum(map(len, FILES.values()))


def test_only_what_matches_is_fetched(server: Server, tmp_path: Path) -> None:
    assert json.loads(warm(tmp_path, "--json", server.url, "a/1*.bin").stdout)["files_done"] == 11
    assert json.loads(warm(tmp_path, "--json", server.url, "a", "**/3.bin").stdout)["files_done"] == 21


def test_a_pattern_that_matches_nothing_is_said(server: Server, tmp_path: Path) -> None:
    result = warm(tmp_path, "-q", server.url, "*.jpg")
    assert result.returncode == 1
    assert "matches *.jpg" in result.stderr


def test_quiet_says_nothing_when_all_is_well(server: Server, tmp_path: Path) -> None:
    result = warm(tmp_path, "-q", server.url)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_source_that_is_gone_is_one_line(tmp_path: Path) -> None:
    result = warm(tmp_path, "http://127.0.0.1:9/")
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("mirror: ")


class _Stuck(BaseHTTPRequestHandler):
    """Lists one file, and sends half of it."""

    protocol_version = "HTTP/1.1"
    asked = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/":
            body = json.dumps(
                [{"name": "f", "type": "file", "mtime": "Mon, 02 Nov 2026 10:00:00 GMT", "size": 100}]
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
        else:
            body = b""
            self.send_response(200)
            self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body) or 100))
        self.end_headers()
        self.wfile.write(body or b"x" * 50)
        if not body:
            self.asked.set()

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "100")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_with_a_word_how_to_go_on(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    _Stuck.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Stuck) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        command = [sys.executable, "-m", "mirror.cli", "warm", "--cache", str(tmp_path)]
        command.append(f"http://127.0.0.1:{server.server_address[1]}/")
        try:
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process:
                assert _Stuck.asked.wait(30)
                process.send_signal(number)
                out, err = process.communicate(timeout=30)
        finally:
            server.shutdown()
            thread.join()
    assert process.returncode == code
    assert out == ""
    assert err.splitlines()[-1] == "mirror: stopped; what was fetched is kept, run the same again to go on"
