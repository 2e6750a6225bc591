"""Keys as a tree: folders, markers, names that are none; by folder and flat alike."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from cache import Entry, Kind
from mirror.errors import IsAFolder, NotAFolder, NotFound, ProtocolError
from mirror.remotes.base import Listing
from mirror.remotes.listings.rows import LeftOut
from mirror.remotes.s3.folders import Undecided
from mirror.remotes.s3.remote import S3Remote
from tests.remotes.contract import read
from tests.remotes.s3.conftest import Opener
from tests.remotes.s3.test_recovery import source
from tests.support.fake_s3 import error, fake_s3, listing


async def names(remote: S3Remote, folder: str = "") -> dict[str, Kind]:
    found = await remote.list(folder)
    assert isinstance(found, Listing)
    return {entry.name: entry.kind for entry in found.entries}


async def flat(remote: S3Remote, under: str = "") -> set[str]:
    return {path async for page in remote.scan(under) for path, _ in page.files}


async def test_markers_are_folders(opened: Opener) -> None:
    """Also where nothing else is below one."""
    with fake_s3({"data/": b"", "data/empty/": b"", "data/full/": b"", "data/full/file": b"x"}) as (
        _,
        server,
    ):
        remote = opened(source(server, "bucket/data/"))
        assert await names(remote) == {"empty": Kind.FOLDER, "full": Kind.FOLDER}
        assert await names(remote, "empty") == {}
        assert await names(remote, "full") == {"file": Kind.FILE}
        assert await flat(remote) == {"full/file"}
        for folder in ("empty", "full"):
            with pytest.raises(IsAFolder):
                await remote.stat(folder)


async def test_names_that_are_none(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    """Are left out, wherever in a key they are, and the log says which and why."""
    bad = ["a//b", "/lead", "../up", "a/../b", "./here", "x" * 256, f"a/{'y' * 256}/z", "nul\0", "a/."]
    with fake_s3({**dict.fromkeys(bad, b""), "a/good": b"x", "line\nbreak": b"x"}) as (_, server):
        remote = opened(source(server))
        assert await names(remote) == {"a": Kind.FOLDER, "line\nbreak": Kind.FILE}
        assert await names(remote, "a") == {"good": Kind.FILE}
        assert await flat(remote) == {"a/good", "line\nbreak"}
    assert "left out the name" in caplog.text
    assert "more than 255 bytes" in caplog.text
    caplog.clear()


async def test_a_key_that_is_no_text(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    rows = "<Contents><Key>%FF</Key><Size>1</Size></Contents><Contents><Key>ok</Key></Contents>"
    with fake_s3({}) as (bucket, server):
        bucket.instead[""] = listing(rows)
        assert await names(opened(source(server))) == {"ok": Kind.FILE}
    assert "not UTF-8" in caplog.text
    caplog.clear()


async def test_a_file_and_a_folder_of_one_name(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    """The folder is shown, or what is in it could not be reached."""
    objects = {"a": b"1", "a-b": b"2", "a/c": b"3", "d": b"4", "d/": b"", "e": b"5"}
    with fake_s3(objects) as (_, server):
        remote = opened(source(server))
        assert await names(remote) == {
            "a": Kind.FOLDER,
            "a-b": Kind.FILE,
            "d": Kind.FOLDER,
            "e": Kind.FILE,
        }
        assert await flat(remote) == {"a-b", "a/c", "e"}
    assert "'a': it is a file and a folder" in caplog.text
    caplog.clear()


async def test_a_scan_goes_on_where_it_was(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    """Also when it ended between a file and the folder of its name."""
    rows = {
        "": ["a", "a-b"],
        "a-b": ["a/c", "b"],
    }
    with fake_s3({}) as (bucket, server):

        def page(after: str) -> None:
            inner = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in rows[after])
            more = (
                ""
                if after
                else "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
            )
            bucket.instead[""] = listing(inner, tail=more)

        page("")
        async with aclosing(opened(source(server)).scan()) as pages:
            first = await anext(pages)
        assert first.cursor is not None
        page("a-b")
        async with aclosing(opened(source(server)).scan("", first.cursor)) as pages:
            second = await anext(pages)
        assert second.cursor is None
        assert "start-after=a-b" in server.seen[-1].path
        found = [path for path, _ in [*first.files, *second.files]]
        assert sorted(found) == ["a-b", "a/c", "b"]
        assert dict(second.files)["a-b"] == Entry("a-b", Kind.FILE, 1)
    caplog.clear()


def test_files_are_told_once_their_kind_is_known() -> None:
    undecided = Undecided(LeftOut("here"))

    def see(path: str) -> list[str]:
        decided = [name for name, _ in undecided.pass_by(path)]
        undecided.held.append((path, Entry(path, Kind.FILE)))
        return decided

    assert see("a") == []
    assert see("ab") == []
    assert see("ac") == ["ab"]
    assert see("b") == ["ac", "a"]
    assert [name for name, _ in undecided.rest()] == ["b"]


async def test_a_source_without_its_slash(opened: Opener) -> None:
    """A folder where there are keys below it; else the object of that name; else nothing is there."""
    with fake_s3({"data/file": b"abc", "data/file2": b"x", "database": b"y"}) as (_, server):
        folder = opened(source(server, "bucket/data"))
        assert await names(folder) == {"file": Kind.FILE, "file2": Kind.FILE}
        assert (await folder.stat("file")).size == 3
        file = opened(source(server, "bucket/data/file"))
        assert await names(file) == {"file": Kind.FILE}
        assert await flat(file) == {"file"}
        assert await flat(file, "file") == set()
        async with file.open_part("file", 1, 2) as part:
            assert await read(part) == b"b"
        for path, leaf in (("", IsAFolder), ("file2", NotFound), ("file/x", NotAFolder)):
            with pytest.raises(leaf):
                await file.stat(path)
        for path, folder_leaf in (("file", NotAFolder), ("file2", NotFound)):
            with pytest.raises(folder_leaf):
                await file.list(path)
        for _ in range(2):
            with pytest.raises(NotFound):
                await opened(source(server, "bucket/dat")).list("")


@pytest.mark.parametrize(
    "page",
    [
        "<Contents><Key>elsewhere/file</Key></Contents>",
        "<Contents><Size>1</Size></Contents>",
        "<IsTruncated>true</IsTruncated>",
        "<IsTruncated>perhaps</IsTruncated>",
        "<IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>",
    ],
)
async def test_a_page_that_makes_no_sense(opened: Opener, page: str) -> None:
    """Is none: nothing of it is believed."""
    with fake_s3({}) as (bucket, server):
        bucket.instead[""] = listing(page, tail="")
        remote = opened(source(server, "bucket/data/"))
        with pytest.raises(ProtocolError):
            await remote.list("")
        with pytest.raises(ProtocolError):
            await flat(remote)


async def test_a_folder_that_may_not_be_listed_is_there(opened: Opener) -> None:
    """A refusal is no absence, and neither is a server that is busy."""
    with fake_s3({}) as (bucket, server):
        for answer in (error(403, "AccessDenied"), error(503, "SlowDown"), error(500, "InternalError")):
            bucket.instead[""] = answer
            for ask in (names, flat):
                with pytest.raises(Exception, match="http") as caught:
                    await ask(opened(source(server)), "folder")
                assert not isinstance(caught.value, NotFound)
