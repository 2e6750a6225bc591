"""A source that names one file is a folder with that file; a folder without its slash is the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.errors import IsAFolder, NotAFolder, NotFound
from mirror.remotes import canonical
from mirror.remotes.base import Listing
from tests.remotes.conftest import Opener
from tests.remotes.contract import read
from tests.support.servers import nginx


async def test_one_file(opened: Opener, root: Path) -> None:
    with nginx(root) as server:
        remote = opened(canonical(f"{server.url}folder/deep.bin"))
        listing = await remote.list("")
        assert isinstance(listing, Listing)
        (entry,) = listing.entries
        assert entry.name == "deep.bin"
        assert entry == await remote.stat("deep.bin")
        async with remote.open_part("deep.bin", 10, 20) as part:
            assert await read(part) == (root / "folder/deep.bin").read_bytes()[10:20]
        for path, leaf in (("", IsAFolder), ("other", NotFound), ("deep.bin/x", NotAFolder)):
            with pytest.raises(leaf):
                await remote.stat(path)
        for path, folder_leaf in (("deep.bin", NotAFolder), ("other", NotFound)):
            with pytest.raises(folder_leaf):
                await remote.list(path)


async def test_a_folder_without_its_slash(opened: Opener, root: Path) -> None:
    """The server is asked once what it is."""
    with nginx(root, autoindex="json") as server:
        remote = opened(canonical(f"{server.url}folder"))
        listing = await remote.list("")
        assert isinstance(listing, Listing)
        assert {entry.name for entry in listing.entries} == {"deep.bin", "none.bin"}
        assert (await remote.stat("none.bin")).size == 0
        methods = [(r.method, r.uri) for r in server.requests()]
        assert methods == [("HEAD", "/folder"), ("GET", "/folder/"), ("HEAD", "/folder/none.bin")]


async def test_nothing_there(opened: Opener, root: Path) -> None:
    with nginx(root) as server:
        remote = opened(f"{server.url}nothing")
        for _ in range(2):
            with pytest.raises(NotFound):
                await remote.list("")
