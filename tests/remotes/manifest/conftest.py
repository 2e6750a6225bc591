"""A small server, and lists of its files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mirror.remotes import How, canonical
from mirror.remotes.manifest import ManifestRemote
from tests.remotes.manifest.lists import Opened, write
from tests.support.lists import Fields
from tests.support.servers import Server, nginx


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    (path / "sub").mkdir(parents=True)
    (path / "a.bin").write_bytes(b"a" * 1000)
    (path / "sub" / "b.bin").write_bytes(b"b" * 2000)
    return path


@pytest.fixture
def origin(folder: Path) -> Iterator[Server]:
    with nginx(folder, extra_conf='if ($arg_key = "old") { return 403; }') as running:
        yield running


@pytest.fixture
async def listed(tmp_path: Path) -> AsyncIterator[Opened]:
    """Write rows into a list, and open it; no answer about it holds for longer than a moment."""
    async with AsyncExitStack() as stack:

        def opener(
            rows: list[Fields] | bytes, name: str = "list.jsonl", recent: float = 0.0
        ) -> ManifestRemote:
            write(tmp_path / name, rows)
            source = f"manifest+file://{tmp_path}/{name}"
            remote = ManifestRemote(canonical(source), How(deadline=10.0), recent=recent)
            stack.push_async_callback(remote.aclose)
            return remote

        yield opener
