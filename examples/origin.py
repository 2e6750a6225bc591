"""A small web server over a folder: what a mount needs of an origin, in one screen each.

    python examples/origin.py FOLDER [--port PORT]

It lists folders as JSON (in nginx's ``autoindex_format json``, which has exact sizes), gives every file a
strong ETag, answers ranges and conditional requests, and keeps connections open. It listens on the loopback
device only, and is here to try mirror out: to serve a real data set, take a real server.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import cast
from urllib.parse import unquote, urlsplit

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Origin(ThreadingHTTPServer):
    """Serves ``root``; a thread for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, root: Path, port: int = 0) -> None:
        """Listen on a free port, or on ``port``."""
        self.root = root.resolve()
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def url(self) -> str:
        """The source to mount."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle of an answer is no news; anything else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers leave in one piece, not line by line

    def do_GET(self) -> None:
        """Answer with a listing or a file."""
        path = self._path()
        if path is None or not path.exists():
            self._answer(HTTPStatus.NOT_FOUND, b"not found\n")
        elif path.is_dir():
            self._folder(path)
        else:
            self._file(path)

    do_HEAD = do_GET  # noqa: N815  (the name that http.server calls)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (as its base names it)
        """Say nothing."""

    def _path(self) -> Path | None:
        """The local path that is asked for; None when it lies outside the root."""
        asked = unquote(urlsplit(self.path).path, errors="surrogateescape")
        if "\0" in asked:
            return None
        root = cast("Origin", self.server).root
        path = Path(os.path.realpath(root / asked.lstrip("/")))
        return path if path.is_relative_to(root) else None

    def _folder(self, folder: Path) -> None:
        address = urlsplit(self.path).path
        if not address.endswith("/"):
            self._answer(HTTPStatus.MOVED_PERMANENTLY, b"", {"Location": address + "/"})
            return
        entries = []
        with os.scandir(folder) as children:
            for child in sorted(children, key=lambda child: child.name):
                about = child.stat()
                entry = {"name": child.name, "type": "directory" if child.is_dir() else "file"}
                size = {} if child.is_dir() else {"size": about.st_size}
                entries.append(entry | {"mtime": formatdate(about.st_mtime, usegmt=True)} | size)
        self._answer(HTTPStatus.OK, json.dumps(entries).encode(), {"Content-Type": "application/json"})

    def _file(self, path: Path) -> None:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            etag = f'"{about.st_mtime_ns:x}-{about.st_size:x}"'
            headers = {
                "ETag": etag,
                "Last-Modified": formatdate(about.st_mtime, usegmt=True),
                "Accept-Ranges": "bytes",
                "Content-Type": "application/octet-stream",
            }
            if self.headers.get("If-None-Match") == etag:
                self._head(HTTPStatus.NOT_MODIFIED, headers)
                return
            if self.headers.get("If-Match", etag) not in {etag, "*"}:
                self._answer(HTTPStatus.PRECONDITION_FAILED, b"", headers)
                return
            start, stop = 0, about.st_size
            status = HTTPStatus.OK
            asked = _RANGE.fullmatch(self.headers.get("Range", "").strip())
            # What is no single range is ignored, as the standard has it: the whole file is right, too.
            if asked and any(asked.groups()) and self.headers.get("If-Range", etag) == etag:
                wanted = _range(asked[1], asked[2], about.st_size)
                if wanted is None:
                    headers["Content-Range"] = f"bytes */{about.st_size}"
                    self._answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", headers)
                    return
                start, stop = wanted
                status = HTTPStatus.PARTIAL_CONTENT
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{about.st_size}"
            self._head(status, headers | {"Content-Length": str(stop - start)})
            self.wfile.flush()
            if self.command == "GET" and stop > start:
                self.connection.sendfile(file, start, stop - start)

    def _head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(status, (headers or {}) | {"Content-Length": str(len(body))})
        if self.command == "GET":
            self.wfile.write(body)


def _range(first: str, last: str, size: int) -> tuple[int, int] | None:
    """The half-open range that ``first-last`` means; None when the file has none of it."""
    if not first:
        return (max(0, size - int(last)), size) if int(last) and size else None
    start = int(first)
    stop = min(int(last) + 1, size) if last else size
    return (start, stop) if start < stop else None


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Serve ``root`` from a thread of this process; gives the URL."""
    with Origin(root) as origin:
        thread = Thread(target=origin.serve_forever, args=(0.02,), name="origin")
        thread.start()
        try:
            yield origin.url
        finally:
            origin.shutdown()
            thread.join()


def main() -> None:
    """Serve the folder of the command line until a signal comes; the first line printed is the URL."""
    parser = argparse.ArgumentParser(description="Serve a folder over HTTP, on the loopback device.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0, help="default: a free one, which is printed")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"there is no folder {options.folder}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Origin(options.folder, options.port) as origin:
        print(origin.url, flush=True)
        try:
            origin.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
