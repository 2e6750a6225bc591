"""The list itself: asked for again, read on, scanned."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from cache import Kind
from mirror.errors import (
    NotFound,
    OriginFailed,
    VersionChanged,
)
from mirror.remotes import How, open_remote
from mirror.remotes.base import Listing, NotModified, Scanner
from mirror.remotes.manifest import ManifestRemote
from tests.remotes.manifest.lists import GOOD, Opened, write
from tests.support.lists import jsonl, rows_of
from tests.support.servers import nginx


async def test_a_list_over_http_is_asked_for_by_its_etag(folder: Path, tmp_path: Path) -> None:
    """It comes once; a new one is a new listing."""
    lists = tmp_path / "lists"
    lists.mkdir()
    with nginx(lists) as server:
        write(lists / "l.jsonl", rows_of(folder, "../files/"))
        remote = ManifestRemote(f"manifest+{server.url}l.jsonl", How(), recent=0.0)
        try:
            first = await remote.list("")
            assert isinstance(first, Listing)
            assert isinstance(await remote.list("", first.validator), NotModified)
            assert isinstance(await remote.list("sub"), Listing)
            assert [request.status for request in server.requests()] == [200, 304, 304]
            write(lists / "l.jsonl", rows_of(folder, "../files/")[:1])
            second = await remote.list("", first.validator)
            assert isinstance(second, Listing)
            assert [entry.name for entry in second.entries] == ["a.bin"]
            with pytest.raises(NotFound):
                await remote.list("sub")
            (lists / "l.jsonl").unlink()
            with pytest.raises(OriginFailed, match="the manifest is not there"):
                await remote.list("")
        finally:
            await remote.aclose()


async def test_a_walk_does_not_ask_for_the_list_at_every_folder(folder: Path, tmp_path: Path) -> None:
    with nginx(folder) as server:
        (folder / "l.jsonl").write_bytes(jsonl([{"path": f"{n}/x", "url": "a.bin"} for n in range(50)]))
        remote = open_remote(f"manifest+{server.url}l.jsonl", How())
        try:
            listing = await remote.list("")
            assert isinstance(listing, Listing)
            for entry in listing.entries:
                await remote.list(entry.name)
            assert len(server.requests()) < 5
        finally:
            await remote.aclose()


async def test_a_download_that_is_given_up_is_gone_on_with(tmp_path: Path) -> None:
    """A list that takes longer than one question may take comes all the same."""
    rows = [{"path": f"{n}.bin", "url": f"https://example.org/{os.urandom(50).hex()}"} for n in range(20_000)]
    (tmp_path / "l.jsonl").write_bytes(jsonl(rows))
    with nginx(tmp_path, rate="2m") as server:
        remote = ManifestRemote(f"manifest+{server.url}l.jsonl", How())
        try:
            tries = 0
            with trio.fail_after(30):
                while True:
                    tries += 1
                    with trio.move_on_after(0.4):
                        listing = await remote.list("")
                        break
            assert isinstance(listing, Listing)
            assert len(listing.entries) == 20_000
            assert tries > 1
            statuses = [request.status for request in server.requests()]
            assert statuses[0] == 200
            assert set(statuses[1:]) <= {206, 304}
            assert 206 in statuses
        finally:
            await remote.aclose()


async def test_a_list_that_changes_while_it_is_read_is_read_again(
    listed: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of one and half of another is never used."""
    from mirror.remotes.manifest import build

    remote = listed([GOOD])
    real = build.rows
    lengthen = [True]

    def rows(file: object, name: str) -> Iterator[object]:
        for numbered in real(file, name):  # type: ignore[arg-type]
            if lengthen.pop() if lengthen else False:
                with (tmp_path / "list.jsonl").open("ab") as more:
                    more.write(jsonl([{**GOOD, "path": "more"}]))
            yield numbered

    monkeypatch.setattr(build, "rows", rows)
    with pytest.raises(OriginFailed, match="was changed while it was read"):
        await remote.list("")
    listing = await remote.list("")
    assert isinstance(listing, Listing)
    assert len(listing.entries) == 2


async def test_all_files_below_a_folder_in_the_order_of_the_list(
    listed: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Page by page; the cursor of a page works in another process, until there is another list."""
    monkeypatch.setattr("mirror.remotes.manifest.remote.PAGE", 7)
    paths = [f"{'ab'[n % 2]}/{n % 3}/{n}" for n in range(50)]
    rows = [{**GOOD, "path": path} for path in paths]
    remote = listed(rows)
    assert isinstance(remote, Scanner)

    async def scanned(other: ManifestRemote, under: str, cursor: str | None = None) -> list[str]:
        return [path async for page in other.scan(under, cursor) for path, _ in page.files]

    assert await scanned(remote, "") == paths
    assert await scanned(remote, "a") == [path for path in paths if path.startswith("a/")]
    assert await scanned(remote, "b/2") == [path for path in paths if path.startswith("b/2/")]
    assert await scanned(remote, "c") == []
    pages = [page async for page in remote.scan("")]
    assert pages[-1].cursor is None
    again = listed(rows)
    assert await scanned(again, "", pages[2].cursor) == paths[21:]
    write(tmp_path / "list.jsonl", rows[:-1])
    with pytest.raises(VersionChanged, match="from the beginning"):
        await scanned(again, "", pages[2].cursor)


async def test_folders_come_before_nothing_and_after_what_stands_before_them(listed: Opened) -> None:
    """A listing is in the order of the list: who reads the list in its order is read ahead for."""
    remote = listed([{**GOOD, "path": path} for path in ("z", "d/2", "a", "d/1")])
    listing = await remote.list("")
    assert isinstance(listing, Listing)
    assert [(entry.name, entry.kind) for entry in listing.entries] == [
        ("z", Kind.FILE),
        ("d", Kind.FOLDER),
        ("a", Kind.FILE),
    ]
