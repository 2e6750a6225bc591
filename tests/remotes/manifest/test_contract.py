"""The contract, for each format of a list and each way to a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from mirror.remotes import How, open_remote
from mirror.remotes.base import Remote
from tests.remotes.contract import RemoteContract
from tests.support.lists import Fields, as_csv, jsonl, packed, parquet, rows_of
from tests.support.servers import Server, nginx


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    """The files that the lists name; there are no listings of it."""
    with nginx(root, autoindex="off") as running:
        yield running


class ManifestContract(RemoteContract):
    keeps_empty_folders = False
    digests: ClassVar[bool] = True
    name: ClassVar[str] = "list.jsonl"
    content: ClassVar[Callable[[list[Fields]], bytes]] = staticmethod(jsonl)

    @pytest.fixture
    async def remote(self, server: Server, root: Path, tmp_path: Path) -> AsyncIterator[Remote]:
        (tmp_path / self.name).write_bytes(self.content(rows_of(root, server.url, digests=self.digests)))
        remote = open_remote(f"manifest+file://{tmp_path}/{self.name}", How(deadline=20.0))
        yield remote
        await remote.aclose()


class TestJsonLines(ManifestContract):
    pass


class TestCsv(ManifestContract):
    name = "list.csv"
    content = staticmethod(as_csv)


class TestParquet(ManifestContract):
    name = "list.parquet"
    content = staticmethod(parquet)


class TestWithoutDigests(ManifestContract):
    """Versions are told by the ETags of the servers."""

    digests = False


class TestOverHttp(ManifestContract):
    """The list is on a server as well, compressed, and its URLs are relative."""

    @pytest.fixture
    async def remote(self, root: Path, tmp_path: Path) -> AsyncIterator[Remote]:
        with nginx(tmp_path, extra_conf=f"location /data/ {{ alias {root}/; }}") as lists:
            (tmp_path / "list.jsonl.gz").write_bytes(packed(jsonl(rows_of(root, "data/"))))
            remote = open_remote(f"manifest+{lists.url}list.jsonl.gz", How(deadline=20.0))
            yield remote
            await remote.aclose()


class TestLocalFiles(ManifestContract):
    """The files are of this machine."""

    @pytest.fixture
    async def remote(self, root: Path, tmp_path: Path) -> AsyncIterator[Remote]:
        (tmp_path / "list.csv").write_bytes(
            as_csv(rows_of(root, f"file://{root}/", digests=False, times=False))
        )
        remote = open_remote(f"manifest+file:{tmp_path}/list.csv", How(deadline=20.0))
        yield remote
        await remote.aclose()
