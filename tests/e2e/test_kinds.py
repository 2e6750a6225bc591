"""Real mounts of kinds of sources that are no web server's pages: what a user sees of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.data import noise, put, tree
from tests.support.failures import errno_of_reading
from tests.support.hub import hub
from tests.support.mounts import Mount, mounted, prepared
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.support.webdav import apache_dav, wsgidav

LARGE = noise("large", 20_000_000)
FILES = {"README.md": b"read me", "data/large.bin": LARGE, "data/small.bin": noise("small", 5000)}
IMPATIENT = ["--deadline", "3", "--ttl", "0"]


def reads_right(mount: Mount, files: dict[str, bytes]) -> None:
    """Every byte, and by the kernel alone once a file is complete."""
    for name, data in files.items():
        assert (mount.path / name).read_bytes() == data
        fd = mount.open_passthrough(name)
        before = mount.counters()["read_requests"]
        assert os.pread(fd, 100, 0) == data[:100]
        assert mount.counters()["read_requests"] == before
        os.close(fd)


def refused_in_one_line(mount: Mount, *words: str) -> None:
    refused = mount.mount()
    assert (refused.code, len(refused.lines)) == (1, 1), str(refused)
    assert all(word in refused.err for word in words), refused.err
    mount.assert_gone()


# -- the Hub ---------------------------------------------------------------------------------


def test_a_repository() -> None:
    """Mounted, read, listed and warmed; a new commit costs what it changed."""
    with hub(FILES) as server, mounted(server.source(), args=["--ttl", "0"]) as mount:
        reads_right(mount, FILES)
        rows = json.loads(mount.mirror("ls", server.source(), "data", "--json").ok().out)
        assert {row["path"] for row in rows} == {"data/large.bin", "data/small.bin"}
        fetched = mount.counters()["bytes_fetched"]
        server.push({**FILES, "README.md": b"read this", "new": b"new"})
        eventually((mount.path / "new").exists, "the new commit is seen")
        assert (mount.path / "README.md").read_bytes() == b"read this"
        assert (mount.path / "data/large.bin").read_bytes() == LARGE
        assert mount.counters()["bytes_fetched"] == fetched + len("read this")
        summary = json.loads(mount.mirror("warm", server.source(), "--json").ok().out)
        assert (summary["files_total"], summary["files_fetched"]) == (4, 1)


def test_bytes_of_a_repository_that_are_not_what_it_says() -> None:
    """A flipped bit is never served, whether git or LFS keeps the file."""
    with (
        hub(FILES, spoiled={"README.md", "data/small.bin"}) as server,
        mounted(server.source(), args=IMPATIENT) as mount,
    ):
        assert errno_of_reading(mount.path / "README.md") == "EIO"
        assert errno_of_reading(mount.path / "data/small.bin") == "EIO"
        server.spoiled.clear()
        reads_right(mount, {name: FILES[name] for name in ("README.md", "data/small.bin")})


def test_a_repository_that_cannot_be_mounted() -> None:
    """One line that says why, and what to do."""
    with hub(FILES, token="hf_right") as server:
        with prepared(server.source(), args=IMPATIENT) as mount:
            refused_in_one_line(mount, "private", "HF_TOKEN")
        with prepared(server.source(), args=IMPATIENT, env={"MIRROR_HF_TOKEN": "hf_other"}) as mount:
            refused_in_one_line(mount, "not valid")
        known = {"MIRROR_HF_TOKEN": "hf_right"}
        with prepared(server.source("@v2"), args=IMPATIENT, env=known) as mount:
            refused_in_one_line(mount, "no revision", "v2")
        with prepared(server.source("/absent"), args=IMPATIENT, env=known) as mount:
            refused_in_one_line(mount, "absent", "404")
        server.gated = True
        with mounted(server.source(), args=IMPATIENT, env=known) as mount:
            assert errno_of_reading(mount.path / "README.md") == "EACCES"
            mount.assert_logged("gated")


def test_a_hub_that_is_gone(tmp_path: Path) -> None:
    """What is cached is served, also to a mount that begins then; without anything cached it is an error."""
    with hub(FILES) as server:
        source = server.source()
        with mounted(source, cache=tmp_path / "cache") as mount:
            reads_right(mount, {"README.md": FILES["README.md"]})
    with mounted(source, cache=tmp_path / "cache", args=IMPATIENT) as mount:
        assert (mount.path / "README.md").read_bytes() == FILES["README.md"]
        assert errno_of_reading(mount.path / "data/small.bin") == "EIO"
    with prepared(source, args=IMPATIENT) as mount:
        refused_in_one_line(mount, "refused")


# -- WebDAV ----------------------------------------------------------------------------------

Starter = Callable[[Path], AbstractContextManager[Server]]


@pytest.mark.parametrize("start", [apache_dav, wsgidav])
def test_a_webdav_folder(start: Starter, folder: Path) -> None:
    """Mounted, read, listed and warmed; a new version is seen, what is gone is gone."""
    for name, data in FILES.items():
        put(folder, name, data)
    put(folder, "100% & <b>.txt", b"named")
    with start(folder) as server:
        source = server.url.replace("http", "webdav", 1)
        with mounted(source, args=["--ttl", "0"]) as mount:
            assert tree(mount.path) == tree(folder)
            reads_right(mount, FILES)
            rows = json.loads(mount.mirror("ls", source, "--json").ok().out)
            assert {row["path"] for row in rows} == {"README.md", "data", "100% & <b>.txt"}
            put(folder, "README.md", b"another")
            (folder / "data/small.bin").unlink()
            eventually(lambda: (mount.path / "README.md").read_bytes() == b"another", "it is seen")
            assert errno_of_reading(mount.path / "data/small.bin") == "ENOENT"
            mount.mirror("warm", source).ok()
            server.stop()
            assert (mount.path / "data/large.bin").read_bytes() == LARGE


def test_a_webdav_folder_that_cannot_be_mounted(folder: Path) -> None:
    put(folder, "README.md", b"x")
    with wsgidav(folder, user="someone", password="s3cret") as server:
        source = server.url.replace("http", "webdav", 1)
        with prepared(source, args=IMPATIENT) as mount:
            refused_in_one_line(mount, "401", "netrc")
        wrong = {"MIRROR_WEBDAV_USER": "someone", "MIRROR_WEBDAV_PASSWORD": "wr0ng"}
        with prepared(source, args=IMPATIENT, env=wrong) as mount:
            refused_in_one_line(mount, "401")
        known = {**wrong, "MIRROR_WEBDAV_PASSWORD": "s3cret"}
        with prepared(f"{source}absent", args=IMPATIENT, env=known) as mount:
            refused_in_one_line(mount, "absent", "404")
        server.stop()
        with prepared(source, args=IMPATIENT, env=known) as mount:
            refused_in_one_line(mount, "refused")
