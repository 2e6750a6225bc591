"""The contract of all remotes, against servers of S3."""

from __future__ import annotations

import glob
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mirror.remotes import How, open_remote
from mirror.remotes.base import Remote
from mirror.remotes.s3.remote import S3Remote
from tests.remotes.contract import RemoteContract
from tests.remotes.tree import NAMES
from tests.support import s3_servers
from tests.support.servers import Server


@pytest.fixture(scope="class")
def server(
    request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The class's server with the tree in it, started once for all of its tests."""
    with request.cls.start(root, tmp_path_factory.mktemp("buckets")) as server:
        yield server


class S3Contract(RemoteContract):
    """The suite over a bucket, whose key has the tree below ``tree/``."""

    start: ClassVar[Any]
    """``(root, empty folder) -> AbstractContextManager[Server]``."""

    keeps_times = False
    keeps_empty_folders = False

    @pytest.fixture
    async def remote(self, server: Server) -> AsyncIterator[Remote]:
        remote = open_remote(s3_servers.source(server, "contract/tree/"), How(deadline=20.0))
        yield remote
        await remote.aclose()

    async def test_a_scan_is_all_files(self, remote: S3Remote, root: Path) -> None:
        """A flat listing has the files of all folders, with what the folders' own listings say of them."""
        found = {path: entry async for page in remote.scan() for path, entry in page.files}
        assert set(found) == {name for name, _ in self.files(root)}
        for folder in ("", "folder", "50% <b>&#;?+"):
            listing = await remote.list(folder)
            assert not isinstance(listing, type(NotImplemented))
            for entry in listing.entries:  # type: ignore[union-attr]
                if entry.size is not None:
                    assert found[f"{folder}/{entry.name}" if folder else entry.name] == entry

    async def test_listings_and_answers_are_of_one_version(self, remote: S3Remote, root: Path) -> None:
        """What a listing says of a file is what an answer says of it."""
        from cache import same_version

        found = {path: entry async for page in remote.scan() for path, entry in page.files}
        for name, _ in self.files(root):
            seen = await remote.stat(name)
            assert same_version(found[name], seen), (found[name], seen)
            assert found[name].validator == seen.validator


@contextmanager
def _moto(root: Path, _: Path) -> Iterator[Server]:
    with s3_servers.moto() as server:
        s3_servers.fill(server, "contract", root, below="tree/", unlisted=TestMoto.unlisted)
        yield server


@contextmanager
def _seaweedfs(root: Path, _: Path) -> Iterator[Server]:
    with s3_servers.seaweedfs() as server:
        s3_servers.fill(server, "contract", root, below="tree/", unlisted=TestSeaweedFS.unlisted)
        yield server


@contextmanager
def _rclone(root: Path, buckets: Path) -> Iterator[Server]:
    left_out = shutil.ignore_patterns("empty", "two words", *map(glob.escape, TestRclone.unlisted))
    shutil.copytree(root, buckets / "contract" / "tree", ignore=left_out)
    with s3_servers.rclone(buckets) as server:
        yield server


class TestMoto(S3Contract):
    start = staticmethod(_moto)
    unwaited = False
    unlisted = frozenset({"line\nbreak"})
    """It matches the path of a request line by line."""


class TestSeaweedFS(S3Contract):
    start = staticmethod(_seaweedfs)
    unlisted = frozenset({"back\\slash"})
    """It takes a backslash for a slash."""


class TestRclone(S3Contract):
    start = staticmethod(_rclone)
    keeps_times = True
    unlisted = frozenset(name for name in NAMES if min(name) < " ")
    """It writes pictures of control characters in their place."""
