"""A small server that answers as the Hugging Face Hub's public HTTP API does, for one repository.

It follows what the Hub's own client does and expects (the sources of `huggingface_hub`: ``hf_api.py`` for
``/api/…/revision``, ``/tree`` and ``/paths-info``, ``utils/_pagination.py`` for ``Link: rel="next"``,
``file_download.py`` for ``/resolve`` with ``X-Repo-Commit``, ``X-Linked-Size`` and ``X-Linked-ETag``,
``utils/_http.py`` for ``X-Error-Code``), and the Hub's manual ("Hub API Endpoints", "Hub rate limits").

Files from `LFS_FROM` bytes on are in LFS: ``/resolve`` redirects to the *store*, another origin, by a
signed link. The store serves ranges under an ETag of its own and refuses everything else::

    with hub({"data/a.csv": b"x,y"}, token="hf_right") as server:
        open_remote(f"hf://datasets/org/name?endpoint={server.endpoint}")
        server.push({"data/a.csv": b"other"})
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS_FROM = 2000
DATE = "2024-03-01T12:00:00.000Z"


@dataclass(frozen=True, slots=True)
class Blob:
    """One version of one file."""

    data: bytes
    date: str = DATE
    """Of the commit that brought it."""

    @property
    def lfs(self) -> bool:
        return len(self.data) >= LFS_FROM

    @property
    def git(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def oid(self) -> str:
        return self.sha256 if self.lfs else self.git


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, at the Hub or at its store."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By lower-case name."""


@dataclass
class Hub:
    """A running server and what it is to say."""

    kind: str = "datasets"
    repo: str = "org/name"
    token: str | None = None
    """What it takes to see the repository; None: it is public."""
    gated: bool = False
    """Nobody was given access yet."""
    page: int = 1000
    """Rows of one answer."""
    cached: bool = False
    """Files in git are served as of late: by a redirect within the Hub."""
    busy: int = 0
    """So many requests are refused first."""
    spoiled: set[str] = field(default_factory=set)
    """Files that come with a flipped bit."""
    elsewhere: bool = False
    """The repository was renamed: the old name redirects."""
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    seen: list[Asked] = field(default_factory=list)
    """Requests to the Hub, oldest first."""
    stored: list[Asked] = field(default_factory=list)
    """Requests to the store."""
    links: dict[str, str] = field(default_factory=dict)
    """Signed links that were given out, and the file of each."""
    endpoint: str = ""
    store: str = ""

    def push(self, files: Mapping[str, bytes], ref: str = "main", date: str = DATE) -> str:
        """Make a commit of exactly these files; returns its id."""
        known = self.commits.get(self.refs.get(ref, ""), {})
        tree = {
            path: known[path] if path in known and known[path].data == data else Blob(data, date)
            for path, data in files.items()
        }
        commit = hashlib.sha1(repr((self.refs.get(ref), sorted(tree.items()))).encode()).hexdigest()
        self.commits[commit] = tree
        self.refs[ref] = commit
        return commit

    def source(self, rest: str = "") -> str:
        """The source of the repository, at this server."""
        return f"hf://{self.kind}/{self.repo}{rest}?endpoint={quote(self.endpoint, safe='')}"

    @property
    def paths(self) -> list[str]:
        """Where the Hub was asked, as ``METHOD /path``, without queries."""
        return [f"{asked.method} {asked.path.partition('?')[0]}" for asked in self.seen]


@contextmanager
def hub(files: Mapping[str, bytes], **how: object) -> Iterator[Hub]:
    """Start a Hub and its store, each on a port of its own, with one commit on ``main``."""
    state = Hub(**how)  # type: ignore[arg-type]
    state.push(files)
    with ExitStack() as stack:
        for handler, name in ((_Api, "endpoint"), (_Store, "store")):
            server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"hub": state}))
            stack.callback(server.server_close)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            setattr(state, name, f"http://127.0.0.1:{server.server_address[1]}")
        yield state


class _Handler(BaseHTTPRequestHandler):
    """What both origins share."""

    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def asked(self) -> Asked:
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Asked(self.command, self.path, headers)

    def answer(self, status: int, headers: Mapping[str, str | int] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def serve(self, path: str, blob: Blob, headers: Mapping[str, str | int]) -> None:
        """Send a file or the range of it that was asked for."""
        data = blob.data
        if path in self.hub.spoiled:
            data = bytes([data[0] ^ 1]) + data[1:]
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found is None:
            self.answer(200, headers, data)
            return
        start = int(found[1])
        stop = min(int(found[2]) + 1 if found[2] else len(data), len(data))
        if start >= len(data):
            self.answer(416, {"Content-Range": f"bytes */{len(data)}"})
            return
        where = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        self.answer(206, {**headers, **where}, data[start:stop])


class _Store(_Handler):
    """Where LFS redirects to: it knows nothing of tokens, and takes offence at any."""

    def do_GET(self) -> None:
        self.hub.stored.append(self.asked())
        url = urlsplit(self.path)
        path = self.hub.links.get(parse_qs(url.query).get("Signature", [""])[0])
        sha = url.path.removeprefix("/lfs/")
        blobs = [tree[path] for tree in self.hub.commits.values() if path in tree]
        blob = next((blob for blob in blobs if blob.sha256 == sha), None)
        if path is None or blob is None or "Authorization" in self.headers:
            self.answer(403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>")
            return
        # S3's own, of a multipart upload; and when the bytes came there.
        own = {
            "ETag": f'"{hashlib.md5(blob.data).hexdigest()}-2"',
            "Last-Modified": "Mon, 23 Nov 2026 14:02:14 GMT",
        }
        self.serve(path, blob, own)


class _Api(_Handler):
    """The Hub itself."""

    def do_GET(self) -> None:
        self.hub.seen.append(self.asked())
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        page = self.hub.repo if self.hub.kind == "models" else f"{self.hub.kind}/{self.hub.repo}"
        if self.hub.elsewhere and "/old/name/" in url.path:
            self.answer(307, {"Location": self.path.replace("/old/name/", f"/{self.hub.repo}/", 1)})
        elif self.refused(url.path):
            return
        elif url.path.startswith(api := f"/api/{self.hub.kind}/{self.hub.repo}/"):
            self.api(url.path.removeprefix(api), query, form)
        elif url.path.startswith("/api/resolve-cache/"):
            commit, _, path = url.path.removeprefix("/api/resolve-cache/").partition("/")
            blob = self.hub.commits[commit][unquote(path)]
            self.serve(unquote(path), blob, {"ETag": f'"{blob.oid}"'})
        elif url.path.startswith(resolve := f"/{page}/resolve/"):
            revision, _, path = url.path.removeprefix(resolve).partition("/")
            self.resolve(unquote(revision), unquote(path))
        else:
            self.failed(404, "RepoNotFound", "Repository not found")

    do_POST = do_GET  # noqa: N815 - the names are the base class's
    do_HEAD = do_GET  # noqa: N815

    def refused(self, path: str) -> bool:
        """Whether the request was answered with a refusal."""
        shown = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.hub.busy > 0:
            self.hub.busy -= 1
            self.answer(429, {"RateLimit": '"api";r=0;t=1', "RateLimit-Policy": '"fixed window";q=500;w=300'})
        elif self.hub.token is not None and shown and shown != self.hub.token:
            self.failed(401, "", "Invalid credentials in Authorization header")
        elif self.hub.token is not None and not shown:
            # What it says of private repositories and of none at all, to whoever shows no token.
            self.failed(401, "RepoNotFound", "Repository not found")
        elif self.hub.gated and "/api/" not in path:
            self.failed(403, "GatedRepo", "Access to this repository is restricted")
        else:
            return False
        return True

    def failed(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self.answer(status, {"X-Error-Code": code, "X-Error-Message": message}, body)

    def tree(self, revision: str) -> tuple[str, dict[str, Blob]] | None:
        commit = self.hub.refs.get(revision, revision)
        if commit not in self.hub.commits:
            self.failed(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit, self.hub.commits[commit]

    def api(self, rest: str, query: Mapping[str, str], form: Mapping[str, list[str]]) -> None:
        what, _, rest = rest.partition("/")
        revision, _, path = rest.partition("/")
        if (found := self.tree(unquote(revision))) is None:
            return
        commit, tree = found
        expand = query.get("expand") == "true"
        if what == "revision":
            assert query == {"expand": "sha"}
            self.json({"_id": "621ffdd2", "id": self.hub.repo, "sha": commit})
        elif what == "tree":
            recursive = query.get("recursive") == "true"
            self.listing(tree, unquote(path), recursive=recursive, expand=expand, cursor=query.get("cursor"))
        elif what == "paths-info":
            expand = form.get("expand") == ["true"]
            rows = [_row(tree, path, expand=expand) for path in form["paths"] if _is_there(tree, path)]
            self.json(rows)
        else:
            self.failed(404, "", "Not found")

    def listing(
        self, tree: dict[str, Blob], folder: str, *, recursive: bool, expand: bool, cursor: str | None
    ) -> None:
        below = f"{folder}/" if folder else ""
        if folder and not any(path.startswith(below) for path in tree):
            self.failed(404, "EntryNotFound", f"{folder} does not exist on this revision")
            return
        paths: dict[str, None] = {}
        for path in sorted(tree):
            if path.startswith(below):
                words = path.removeprefix(below).split("/")
                deep = range(1, len(words) + 1) if recursive else [1]
                paths.update((below + "/".join(words[:depth]), None) for depth in deep)
        rows = [_row(tree, path, expand=expand) for path in paths]
        most = min(self.hub.page, 50) if expand else self.hub.page
        begin = int(cursor.removeprefix("after+")) if cursor else 0
        links = {}
        if begin + most < len(rows):
            first = f"{self.hub.endpoint}{urlsplit(self.path).path}"
            asked = "&".join(
                [part for part in urlsplit(self.path).query.split("&") if part and "cursor=" not in part]
                + [f"limit={most}", f"cursor={quote(f'after+{begin + most}', safe='')}"]
            )
            links["Link"] = f'<{first}?{asked}>; rel="next"'
        self.json(rows[begin : begin + most], links)

    def json(self, said: object, headers: Mapping[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
        self.answer(200, kind, json.dumps(said).encode())

    def resolve(self, revision: str, path: str) -> None:
        if (found := self.tree(revision)) is None:
            return
        commit, tree = found
        if path not in tree:
            self.failed(404, "EntryNotFound", "Entry not found")
            return
        blob = tree[path]
        linked = {"X-Repo-Commit": commit, "X-Linked-Size": len(blob.data), "X-Linked-ETag": f'"{blob.oid}"'}
        if blob.lfs:
            signature = secrets.token_hex(8)
            self.hub.links[signature] = path
            location = f"{self.hub.store}/lfs/{blob.sha256}?Expires=9999999999&Signature={signature}"
            self.answer(302, {**linked, "Location": location})
        elif self.hub.cached:
            self.answer(307, {**linked, "Location": f"/api/resolve-cache/{commit}/{quote(path)}"})
        else:
            self.serve(path, blob, {"X-Repo-Commit": commit, "ETag": f'"{blob.oid}"'})


def _is_there(tree: dict[str, Blob], path: str) -> bool:
    return path in tree or any(known.startswith(f"{path}/") for known in tree)


def _row(tree: dict[str, Blob], path: str, *, expand: bool) -> dict[str, object]:
    if path not in tree:
        return {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}
    blob = tree[path]
    row: dict[str, object] = {"type": "file", "oid": blob.git, "size": len(blob.data), "path": path}
    if blob.lfs:
        # The pointer is a file of its own.
        row["oid"] = hashlib.sha1(blob.sha256.encode()).hexdigest()
        row["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 127}
    if expand:
        row["lastCommit"] = {"id": "0" * 40, "title": "Upload", "date": blob.date}
    return row
