"""Listed times are used only where they are the files' own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirror.errors import NotFound
from mirror.remotes.base import Entry, Kind, Listing
from mirror.remotes.http.clocks import HOUR, ListedTimes
from tests.remotes.conftest import Opener
from tests.remotes.tree import LONG_AGO
from tests.support.servers import nginx

MINUTE = 60_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"12345")
    os.utime(tmp_path / "file", (LONG_AGO, LONG_AGO))
    (tmp_path / "empty").mkdir()
    return tmp_path


async def test_local_times_are_not_taken_for_utc(
    folder: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With autoindex_localtime the files are asked about one by one."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    with nginx(folder, extra_conf="autoindex_localtime on;") as server:
        listing = await opened(server.url).list("")
    assert isinstance(listing, Listing)
    assert {(e.name, e.size, e.mtime_ns) for e in listing.entries if e.kind is Kind.FILE} == {
        ("file", None, None)
    }


async def test_utc_is_found_out_once(folder: Path, opened: Opener) -> None:
    """One file is asked about, not one for each listing; an empty folder needs none."""
    with nginx(folder) as server:
        remote = opened(server.url)
        for path in ("empty", "", ""):
            await remote.list(path)
        listing = await remote.list("")
        assert isinstance(listing, Listing)
        assert {e.name: e.size for e in listing.entries} == {"file": 5, "empty": None}
        assert [r.uri for r in server.requests() if r.method == "HEAD"] == ["/file"]


async def test_the_clocks_change() -> None:
    """The answer is asked for again after an hour; a file that vanished or changed gives none."""
    now = 0.0
    times = ListedTimes(lambda: now)
    listed = [Entry("a", Kind.FILE, 5, 100 * MINUTE, MINUTE)]
    asked = 0

    async def own(mtime_ns: int | None) -> list[Entry]:
        async def ask(name: str) -> Entry:
            nonlocal asked
            asked += 1
            if mtime_ns is None:
                raise NotFound(name)
            return Entry(name, Kind.FILE, 5, mtime_ns)

        return await times.checked(listed, ask)

    unsure = [Entry("a", Kind.FILE, None, None, MINUTE)]
    assert await own(None) == listed
    assert await own(107 * MINUTE) == listed  # modified in between: says nothing about zones
    assert await own(40 * MINUTE) == unsure
    assert (await own(100 * MINUTE), asked) == (unsure, 3)
    now += HOUR
    assert (await own(100 * MINUTE + 59), asked) == (listed, 4)
