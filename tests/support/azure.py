"""Azure Blob Storage on loopback: Azurite, and what puts blobs into it."""

from __future__ import annotations

import io
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx

from mirror.http.places import Place
from mirror.remotes.azure.account import _EMULATED_KEY, EMULATED, _decoded
from mirror.remotes.azure.signing import SharedKey
from tests.support.servers import UPLOAD_SECONDS, Request, Server, ServerError, _serve

CONTAINER = "container"
KEY = _EMULATED_KEY
PROGRAM = Path(__file__).parents[2] / ".venv/azurite/node_modules/azurite/dist/src/blob/main.js"

_LINE = re.compile(r'\S+ - - \[[^]]*\] "(\S+) (\S+) [^"]*" (\d{3}) ')


class Container:
    """One container of an Azurite that runs, empty at first."""

    def __init__(self, server: Server, name: str = CONTAINER, *, verify: Path | None = None) -> None:
        self.server = server
        self.name = name
        self.endpoint = f"{server.url}{EMULATED}"
        self._http = httpx.Client(
            trust_env=False,
            verify=ssl.create_default_context(cafile=verify) if verify else True,
            timeout=UPLOAD_SECONDS,
        )
        self._key = SharedKey(EMULATED, _decoded(KEY))
        self.ask("PUT", f"/{name}?restype=container")

    def source(self, path: str = "", **options: str) -> str:
        """The source of a quoted path in it."""
        query = urlencode({"endpoint": self.endpoint, **options})
        return f"az://{EMULATED}/{self.name}/{path}?{query}"

    def ask(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> httpx.Response:
        """Send a signed request; ``target`` from the container on."""
        sent = {"x-ms-version": "2021-12-02", **(headers or {})}
        if body:
            sent["Content-Length"] = str(len(body))
        place = Place(httpx.URL(self.endpoint), f"/{EMULATED}{target}")
        raw = [(name.encode(), value.encode()) for name, value in sent.items()]
        signed = _now(self._key.headers(method, place, raw, body))
        answer = self._http.request(
            method,
            f"{self.server.url.rstrip('/')}{place.target}",
            content=io.BytesIO(body) if body else None,
            headers=[*raw, *signed],
        )
        answer.raise_for_status()
        return answer

    def put(self, key: str, data: bytes, headers: Mapping[str, str] | None = None) -> str:
        """Store a blob; returns its ETag."""
        sent = {"x-ms-blob-type": "BlockBlob", **(headers or {})}
        return str(self.ask("PUT", self.target(key), sent, data).headers["etag"])

    def target(self, key: str) -> str:
        """The path of a blob, from the container on."""
        return f"/{self.name}/{quote(key)}"

    def fill(self, root: Path, without: Sequence[str] = ()) -> None:
        """Store every file of a folder."""
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.name not in without:
                self.put(str(path.relative_to(root)), path.read_bytes())

    def sas(self, permissions: str = "rl", *, valid: bool = True) -> str:
        """A shared access signature of the container."""
        import base64
        import hashlib
        import hmac

        until = datetime.now(UTC) + timedelta(hours=1 if valid else -1)
        expiry = until.strftime("%Y-%m-%dT%H:%M:%SZ")
        version = "2021-12-02"
        resource = f"/blob/{EMULATED}/{self.name}"
        fields = [permissions, "", expiry, resource, "", "", "", version, "c", "", "", "", "", "", "", ""]
        signature = hmac.new(_decoded(KEY), "\n".join(fields).encode(), hashlib.sha256).digest()
        return urlencode(
            {"sp": permissions, "se": expiry, "sv": version, "sr": "c", "sig": base64.b64encode(signature)}
        )

    def close(self) -> None:
        self._http.close()


def _now(awaitable: object) -> list[tuple[bytes, bytes]]:
    """The result of a coroutine that waits for nothing."""
    try:
        awaitable.send(None)  # type: ignore[attr-defined]
    except StopIteration as done:
        return list(done.value)
    raise AssertionError("it waits")


@contextmanager
def azurite(
    root: Path | None = None, *, without: Sequence[str] = (), certificate: tuple[Path, Path] | None = None
) -> Iterator[Container]:
    """Start Azurite with one container that has the files of ``root``, named by their paths.

    Args:
        root: None: the container is empty.
        without: names of files that are left out.
        certificate: PEM files of a certificate and its key: https, and bearer tokens are taken.
    """
    if not PROGRAM.exists():
        raise ServerError("Azurite is not installed: run .ci/azurite, as make test does")

    def configure(_: Path, port: int) -> list[str]:
        options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
        options += ["--disableTelemetry", "--skipApiVersionCheck"]
        if certificate is not None:
            options += ["--cert", str(certificate[0]), "--key", str(certificate[1]), "--oauth", "basic"]
        return ["node", str(PROGRAM), *options]

    def parse(line: str) -> Request | None:
        found = _LINE.match(line)
        return Request(found[1], found[2], int(found[3])) if found else None

    scheme = "http" if certificate is None else "https"
    with _serve(root or Path("/"), configure, parse, scheme=scheme) as server:
        container = Container(server, verify=certificate[0] if certificate else None)
        try:
            if root is not None:
                container.fill(root, without)
            yield container
        finally:
            container.close()
