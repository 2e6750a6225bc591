"""Google Cloud Storage: the contract, against two emulators of it."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cache._files import crc32c
from cache.digests import Algorithm, Digest
from cache.model import same_version
from mirror.errors import IsAFolder, NotAFolder, NotFound, OriginFailed, ProtocolError, VersionChanged
from mirror.remotes import How, open_remote
from mirror.remotes import key as key_of
from mirror.remotes.base import Kind, Listing, Page, Remote, Scanner
from tests.remotes.contract import RemoteContract, read
from tests.support.gcs import Bucket, fake_gcs, gcp_emulator


@pytest.fixture(scope="class")
def bucket(request: pytest.FixtureRequest, root: Path) -> Iterator[Bucket]:
    """The class's bucket, started and filled once for all of its tests."""
    with request.cls.start(root) as bucket:
        yield bucket


class GcsContract(RemoteContract):
    """What holds for both."""

    start: ClassVar[Any]
    """``(root) -> AbstractContextManager[Bucket]``, one of `tests.support.gcs`."""

    keeps_times = False
    keeps_empty_folders = False
    parts_state_times = False
    foreign = "generation:7"

    @pytest.fixture
    async def remote(self, bucket: Bucket) -> AsyncIterator[Remote]:
        remote = open_remote(bucket.source(), How(deadline=20.0))
        yield remote
        await remote.aclose()


class TestFakeGcs(GcsContract):
    start = staticmethod(fake_gcs)


class TestGcpEmulator(GcsContract):
    """It does not say of which generation an answer is: what is asked for by one is not believed."""

    start = staticmethod(gcp_emulator)
    unwaited = False

    async def test_a_whole_file(self, remote: Remote, root: Path) -> None:
        """Without a version all bytes come."""
        for name, path in self.files(root):
            async with remote.open_part(name) as part:
                assert part.size == path.stat().st_size
                assert await read(part) == path.read_bytes()

    @pytest.mark.parametrize(("start", "stop"), [(0, 1), (100, None)])
    async def test_a_range(self, remote: Remote, root: Path, start: int, stop: int | None) -> None:
        """The bytes asked for; by a version they are refused, in words that say why."""
        name = "folder/deep.bin"
        async with remote.open_part(name, start, stop) as part:
            assert await read(part) == (root / name).read_bytes()[start:stop]
        validator = (await remote.stat(name)).validator
        with pytest.raises(ProtocolError, match="does not say of which version"):
            async with remote.open_part(name, start, stop, validator=validator):
                pass

    async def test_another_version(self, remote: Remote) -> None:
        """Not one byte either."""
        with pytest.raises(ProtocolError):
            async with remote.open_part("plain.bin", validator=self.foreign):
                pass


# -- what is special about it ------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> Iterator[Bucket]:
    """A bucket that each test puts objects of its own into."""
    with fake_gcs() as bucket:
        yield bucket


@asynccontextmanager
async def opened(source: str) -> AsyncIterator[Remote]:
    remote = open_remote(source, How(deadline=20.0))
    try:
        yield remote
    finally:
        await remote.aclose()


async def names(remote: Remote, path: str = "") -> dict[str, Kind]:
    listing = await remote.list(path)
    assert isinstance(listing, Listing)
    return {entry.name: entry.kind for entry in listing.entries}


async def test_what_is_listed_asked_and_served_is_one_version(shared: Bucket) -> None:
    """Size and generation agree; the time is the listing's, and an answer to a GET states none."""
    generation = shared.put("agree/a", b"content")
    async with opened(shared.source("agree/")) as remote:
        listing = await remote.list("")
        assert isinstance(listing, Listing)
        [listed] = listing.entries
        assert (listed.size, listed.validator) == (7, f"generation:{generation}")
        assert await remote.stat("a") == listed
        async with remote.open_part("a", 1, 3, validator=listed.validator) as part:
            assert await read(part) == b"on"
        assert same_version(listed, part.entry)
        assert part.entry.mtime_ns is None


async def test_the_checksum_of_an_object_is_a_promise(shared: Bucket) -> None:
    """Also in the answer to a range; CRC-32C, which every object has."""
    shared.put("promise", b"content")
    async with opened(shared.source()) as remote:
        for start in (0, 3):
            async with remote.open_part("promise", start) as part:
                assert part.digest == Digest(Algorithm.CRC32C, crc32c(b"content", 0).to_bytes(4, "big"))


async def test_an_object_that_is_stored_compressed_comes_as_it_is_stored(shared: Bucket) -> None:
    """Its size is that of the listing, its ranges and checksums are those of what is stored."""
    stored = gzip.compress(b"much of the same " * 1000)
    shared.put("packed.txt", stored, encoding="gzip")
    async with opened(shared.source()) as remote:
        entry = await remote.stat("packed.txt")
        assert entry.size == len(stored)
        async with remote.open_part("packed.txt", validator=entry.validator) as part:
            assert await read(part) == stored
        assert (part.ranges, part.size) == (True, len(stored))
        assert part.digest == Digest(Algorithm.CRC32C, crc32c(stored, 0).to_bytes(4, "big"))
        async with remote.open_part("packed.txt", 10, 20, validator=entry.validator) as part:
            assert await read(part) == stored[10:20]


async def test_a_version_that_is_replaced_is_not_mixed_with_the_next(shared: Bucket) -> None:
    shared.put("turns", b"one")
    async with opened(shared.source()) as remote:
        before = (await remote.stat("turns")).validator
        shared.put("turns", b"two")
        for stop in (None, 2):
            with pytest.raises(VersionChanged):
                async with remote.open_part("turns", stop=stop, validator=before):
                    pass
        shared.delete("turns")
        with pytest.raises(NotFound):
            async with remote.open_part("turns", validator=before):
                pass


async def test_a_version_that_the_bucket_keeps_stays_readable() -> None:
    """A file that is being read is read to its end, whatever has its name by then."""
    with fake_gcs(versions=True) as bucket:
        bucket.put("kept", b"one")
        async with opened(bucket.source()) as remote:
            before = (await remote.stat("kept")).validator
            bucket.put("kept", b"another")
            async with remote.open_part("kept", validator=before) as part:
                assert await read(part) == b"one"
            assert (await remote.stat("kept")).size == 7


async def test_markers_and_impossible_names(shared: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    """A marker keeps a folder; what cannot be a path is left out and said; a folder goes before an object."""
    for key in ("odd/", "odd/empty/", "odd/a//b", "odd/both", "odd/both/in", "odd/good"):
        shared.put(key, b"")
    async with opened(shared.source("odd/")) as remote:
        assert isinstance(remote, Scanner)
        expected = {"a": Kind.FOLDER, "both": Kind.FOLDER, "empty": Kind.FOLDER, "good": Kind.FILE}
        assert await names(remote) == expected
        assert await names(remote, "empty") == {}
        assert await names(remote, "a") == {}
        assert "left out the name" in caplog.text
        with pytest.raises(IsAFolder):
            await remote.stat("empty")
        found = [path async for page in remote.scan() for path, _ in page.files]
        assert sorted(found) == ["both", "both/in", "empty", "good"]
        caplog.clear()


async def test_a_scan_goes_on_where_another_process_was(shared: Bucket) -> None:
    """By the last name it saw, though that is gone by then; no file twice, none missing."""
    keys = [f"many/{number:05}.bin" for number in range(1100)]
    for key in keys:
        shared.put(key, b"x")
    async with opened(shared.source("many/")) as remote:
        assert isinstance(remote, Scanner)
        async with aclosing(remote.scan()) as pages:
            first = await anext(pages)
    assert len(first.files) == 1000
    assert first.cursor is not None
    shared.delete(keys[999])
    async with opened(shared.source("many/")) as remote:
        assert isinstance(remote, Scanner)
        rest = [page async for page in remote.scan(cursor=first.cursor)]
        assert [len(page.files) for page in rest] == [100]
        assert rest[-1].cursor is None
        found = [path for page in [first, *rest] for path, _ in page.files]
        assert found == [key.removeprefix("many/") for key in keys]
        assert len(await names(remote)) == 1099
        assert [page async for page in remote.scan("absent")] == [Page([], None)]


async def test_a_source_may_be_one_object(shared: Bucket) -> None:
    """Then its tree has one file; a prefix without a slash is a folder where it is no object."""
    shared.put("single/file.bin", b"content")
    async with opened(shared.source("single/file.bin")) as remote:
        assert await names(remote) == {"file.bin": Kind.FILE}
        async with remote.open_part("file.bin", 1) as part:
            assert await read(part) == b"ontent"
        assert isinstance(remote, Scanner)
        [page] = [page async for page in remote.scan()]
        assert [path for path, _ in page.files] == ["file.bin"]
        for path, error in (("other", NotFound), ("file.bin/x", NotAFolder), ("", IsAFolder)):
            with pytest.raises(error):
                await remote.stat(path)
        with pytest.raises(NotAFolder):
            await remote.list("file.bin")
    async with opened(shared.source("single")) as remote:
        assert await names(remote) == {"file.bin": Kind.FILE}


async def test_a_prefix_with_nothing_below_it_is_not_there(shared: Bucket) -> None:
    for path in ("nothing/", "nothing"):
        async with opened(shared.source(path)) as remote:
            with pytest.raises(NotFound, match="nothing of that name"):
                await remote.list("")


async def test_an_empty_bucket_is_an_empty_folder() -> None:
    with fake_gcs() as bucket:
        async with opened(bucket.source()) as remote:
            assert await names(remote) == {}


async def test_a_bucket_that_is_not_there_is_no_empty_one(shared: Bucket) -> None:
    """Nor does it say that any file is gone."""
    async with opened(shared.source().replace("bucket", "no-such-bucket")) as remote:
        for question in (remote.list(""), remote.list("a"), remote.stat("a")):
            with pytest.raises(OriginFailed, match="no such bucket"):
                await question


def test_an_endpoint_is_another_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is set; Google's own hosts lead to one, and all else only says how to get there."""
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    assert key_of("gs://bucket/a") == "gs://bucket/a"
    for query in ("anonymous", "user-project=p", "endpoint=https://storage-a.p.googleapis.com"):
        assert key_of(f"gs://bucket/a?{query}") == "gs://bucket/a"
    other = "gs://bucket/a?endpoint=http%3A%2F%2Flocalhost%3A4443"
    assert key_of("gs://bucket/a?endpoint=http://localhost:4443/&anonymous") == other
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "localhost:4443")
    assert key_of("gs://bucket/a") == other
