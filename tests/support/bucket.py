"""A fast stand-in for an object store: pages of keys as ListObjectsV2 has them, and nothing else.

It shows what listing costs *us*: a page of 1,000 keys is made in about a millisecond. Keys are a sorted
sequence; a million of them need not be in memory (`Numbered`). It runs in a process of its own, which
dies with the one that started it::

    with bucket(Numbered(folders=100, files=10_000)) as server:
        server.url  # http://127.0.0.1:PORT/

A test may take keys away, add some, and make requests fail (`Bucket.edit`).
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from urllib.request import urlopen
from xml.sax.saxutils import escape
from zlib import crc32

PAGE = 1000
SIZE = 100_000
MODIFIED = "2024-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Numbered(Sequence[str]):
    """``part-0000/sample-000000.bin`` and so on, by arithmetic; one folder: without ``part-0000/``."""

    folders: int
    files: int

    def __len__(self) -> int:
        return self.folders * self.files

    def __getitem__(self, number):  # type: ignore[no-untyped-def] # a sequence of one type of index
        if not 0 <= number < len(self):
            raise IndexError(number)
        folder, file = divmod(number, self.files)
        name = f"sample-{file:06d}.bin"
        return name if self.folders == 1 else f"part-{folder:04d}/{name}"


@dataclass
class Keys:
    """What the server holds."""

    keys: Sequence[str]
    failures: int = 0
    """So many requests to come are answered 503."""
    lists: int = 0
    """Requests for a page."""
    sizes: dict[str, int] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before each answer."""

    def page(self, prefix: str, delimiter: str, after: str) -> tuple[list[str], list[str], str | None]:
        """Keys, common prefixes, and what the next page begins after."""
        keys, found, prefixes = self.keys, [], []
        at = bisect_left(keys, max(prefix, after + "\0" if after else prefix))
        last = after
        while at < len(keys) and len(found) + len(prefixes) < PAGE:
            key = keys[at]
            if not key.startswith(prefix):
                return found, prefixes, None
            slash = key.find(delimiter, len(prefix)) if delimiter else -1
            if slash < 0:
                found.append(key)
                last, at = key, at + 1
            else:
                common = key[: slash + 1]
                prefixes.append(common)
                last = common[:-1] + chr(ord(common[-1]) + 1)
                at = bisect_left(keys, last)
                last = common + "\U0010ffff"
        more = at < len(keys) and keys[at].startswith(prefix)
        return found, prefixes, last if more else None

    def answer(self, query: dict[str, str]) -> bytes:
        """A page, as XML."""
        self.lists += 1
        prefix = query.get("prefix", "")
        after = unquote(query.get("continuation-token", "")) or query.get("start-after", "")
        found, prefixes, cursor = self.page(prefix, query.get("delimiter", ""), after)
        head = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>bucket</Name><Prefix>{escape(prefix)}</Prefix><MaxKeys>{PAGE}</MaxKeys>"
            f"<KeyCount>{len(found) + len(prefixes)}</KeyCount>"
            f"<IsTruncated>{'false' if cursor is None else 'true'}</IsTruncated>"
        )
        parts = [head]
        if cursor is not None:
            parts.append(f"<NextContinuationToken>{quote(cursor)}</NextContinuationToken>")
        sizes = self.sizes
        parts += [
            f"<Contents><Key>{escape(key)}</Key><LastModified>{MODIFIED}</LastModified>"
            f"<ETag>&quot;{crc32(f'{key} {sizes.get(key, SIZE)}'.encode()):032x}&quot;</ETag>"
            f"<Size>{sizes.get(key, SIZE)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in found
        ]
        parts += [f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in prefixes]
        parts.append("</ListBucketResult>")
        return "".join(parts).encode()

    def edit(self, change: dict[str, object]) -> None:
        """Take keys away, add some, change the size of some, let requests fail or wait."""
        gone, new = set(change.get("remove", ())), change.get("add", ())  # type: ignore[call-overload]
        if gone or new:
            self.keys = sorted({*self.keys, *new} - gone)  # type: ignore[misc]
        self.sizes |= change.get("sizes", {})  # type: ignore[arg-type]
        self.failures = change.get("failures", self.failures)  # type: ignore[assignment]
        self.delay = change.get("delay", self.delay)  # type: ignore[assignment]


async def _serve(keys: Keys, listener: socket.socket) -> None:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                length = next(
                    (
                        int(each[15:])
                        for each in head.decode().lower().split("\r\n")
                        if each[:15] == "content-length:"
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                url = urlsplit(target)
                query = dict(parse_qsl(url.query, keep_blank_values=True))
                status, answer = 200, b""
                if method == "POST":
                    keys.edit(json.loads(body))
                elif "list-type" not in query:
                    answer = json.dumps({"lists": keys.lists}).encode()
                elif keys.failures > 0:
                    keys.failures -= 1
                    status = 503
                else:
                    await asyncio.sleep(keys.delay)
                    answer = keys.answer(query)
                writer.write(
                    f"HTTP/1.1 {status} .\r\nContent-Type: application/xml\r\n"
                    f"Content-Length: {len(answer)}\r\n\r\n".encode()
                    + answer
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, sock=listener, limit=1 << 20)
    await server.serve_forever()


@dataclass(frozen=True)
class Bucket:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}/"

    def lists(self) -> int:
        """Pages asked for so far."""
        with urlopen(f"{self.url}status") as answer:
            return int(json.load(answer)["lists"])

    def edit(self, **change: object) -> None:
        """See `Keys.edit`."""
        urlopen(self.url, json.dumps(change).encode()).close()

    def stop(self) -> None:
        """End it; its port then refuses connections."""
        self.process.kill()
        self.process.wait()


@contextmanager
def bucket(keys: Sequence[str]) -> Iterator[Bucket]:
    """A server over keys, for as long as this context."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    listener.set_inheritable(True)
    what = [keys.folders, keys.files] if isinstance(keys, Numbered) else sorted(keys)
    argv = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", __name__, str(listener.fileno())]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])
    port = listener.getsockname()[1]
    listener.close()
    assert process.stdin is not None
    process.stdin.write(json.dumps(what).encode())
    process.stdin.close()
    server = Bucket(port, process)
    try:
        yield server
    finally:
        server.stop()


def main() -> None:
    """Serve on an inherited socket; which keys, stands on standard input."""
    what = json.load(sys.stdin)
    keys = Numbered(*what) if what and isinstance(what[0], int) else what
    asyncio.run(_serve(Keys(keys), socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
