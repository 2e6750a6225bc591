"""Azure Blob Storage: the contract against Azurite, and what is special about blobs."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from cache.digests import Algorithm, Digest
from cache.model import same_version
from mirror.errors import (
    AccessDenied,
    IsAFolder,
    NotAFolder,
    NotFound,
    OriginFailed,
    SetupError,
    VersionChanged,
)
from mirror.remotes import How, open_remote
from mirror.remotes.base import Kind, Listing, Page, Remote, Scanner
from tests.remotes.contract import RemoteContract, read
from tests.remotes.tree import NAMES
from tests.support.azure import KEY, Container, azurite

IMPOSSIBLE = frozenset(name for name in NAMES if re.search(r"[\x00-\x1f\x7f\\]", name))
"""Azurite lists nothing at all where a name has characters that XML cannot hold; a backslash is a slash."""


@pytest.fixture(scope="module")
def container(root: Path) -> Iterator[Container]:
    """A container with the tree of all remotes."""
    with azurite(root, without=sorted(IMPOSSIBLE)) as container:
        yield container


class TestAzurite(RemoteContract):
    unlisted = IMPOSSIBLE
    keeps_times = False
    keeps_empty_folders = False

    @pytest.fixture
    async def remote(self, container: Container) -> AsyncIterator[Remote]:
        remote = open_remote(container.source(), How(deadline=20.0))
        yield remote
        await remote.aclose()


# -- what is special about it ------------------------------------------------------------------


FOLDER = {"x-ms-meta-hdi_isfolder": "true"}


@pytest.fixture(autouse=True)
def _no_credentials_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCOUNT", "KEY", "SAS_TOKEN", "CONNECTION_STRING"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)


@pytest.fixture(scope="module")
def shared() -> Iterator[Container]:
    """A container that each test puts blobs of its own into."""
    with azurite() as container:
        yield container


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


async def test_what_is_listed_asked_and_served_is_one_version(shared: Container) -> None:
    """Size, time and ETag agree."""
    etag = shared.put("agree/a", b"content")
    async with opened(shared.source("agree/")) as remote:
        listing = await remote.list("")
        assert isinstance(listing, Listing)
        [listed] = listing.entries
        assert (listed.size, listed.validator) == (7, f"etag:{etag}")
        assert await remote.stat("a") == listed
        async with remote.open_part("a", 1, 3, validator=listed.validator) as part:
            assert await read(part) == b"on"
        assert part.entry == listed
        assert same_version(listed, part.entry)


async def test_the_checksum_of_a_blob_is_a_promise(shared: Container) -> None:
    """Also in the answer to a range."""
    shared.put("promise", b"content")
    async with opened(shared.source()) as remote:
        for start in (0, 3):
            async with remote.open_part("promise", start) as part:
                assert part.digest == Digest(Algorithm.MD5, hashlib.md5(b"content").digest())


async def test_a_blob_that_is_stored_compressed_comes_as_it_is_stored(shared: Container) -> None:
    """Its Content-Encoding is a remark of whoever stored it."""
    stored = gzip.compress(b"much of the same " * 1000)
    shared.put("packed.txt", stored, {"x-ms-blob-content-encoding": "gzip"})
    async with opened(shared.source()) as remote:
        entry = await remote.stat("packed.txt")
        assert entry.size == len(stored)
        async with remote.open_part("packed.txt", validator=entry.validator) as part:
            assert await read(part) == stored
        assert part.digest == Digest(Algorithm.MD5, hashlib.md5(stored).digest())
        async with remote.open_part("packed.txt", 10, 20, validator=entry.validator) as part:
            assert await read(part) == stored[10:20]


async def test_a_version_that_is_replaced_is_not_mixed_with_the_next(shared: Container) -> None:
    shared.put("turns", b"one")
    async with opened(shared.source()) as remote:
        before = (await remote.stat("turns")).validator
        shared.put("turns", b"two")
        for stop in (None, 2):
            with pytest.raises(VersionChanged):
                async with remote.open_part("turns", stop=stop, validator=before):
                    pass
        shared.ask("DELETE", shared.target("turns"))
        with pytest.raises((NotFound, VersionChanged)):
            async with remote.open_part("turns", validator=before):
                pass
        with pytest.raises(NotFound):
            await remote.stat("turns")


async def test_what_stands_for_a_folder_is_no_file(shared: Container) -> None:
    """A name with a slash at its end, and a blob whose metadata says so."""
    shared.put("marked/one/", b"")
    shared.put("marked/two", b"", FOLDER)
    shared.put("marked/two/in", b"x")
    shared.put("marked/three", b"", FOLDER)
    async with opened(shared.source("marked/")) as remote:
        assert isinstance(remote, Scanner)
        assert await names(remote) == dict.fromkeys(("one", "two", "three"), Kind.FOLDER)
        scanned = {path: entry.kind async for page in remote.scan() for path, entry in page.files}
        assert scanned == {**await names(remote), "two/in": Kind.FILE}
        for name in ("one", "two", "three"):
            with pytest.raises(IsAFolder):
                await remote.stat(name)
            with pytest.raises(IsAFolder):
                async with remote.open_part(name):
                    pass
    async with opened(shared.source("marked/two")) as remote:
        assert await names(remote) == {"in": Kind.FILE}


async def test_an_empty_folder_of_a_hierarchical_namespace_is_there(shared: Container) -> None:
    """All that tells of it is the blob that stands for it."""
    shared.put("hollow", b"", FOLDER)
    async with opened(shared.source()) as remote:
        assert await names(remote, "hollow") == {}
    async with opened(shared.source("hollow/")) as remote:
        assert await names(remote) == {}


async def test_snapshots_are_not_shown(shared: Container) -> None:
    shared.put("snap/a", b"old")
    shared.ask("PUT", f"{shared.target('snap/a')}?comp=snapshot")
    shared.put("snap/a", b"new one")
    async with opened(shared.source("snap/")) as remote:
        listing = await remote.list("")
        assert isinstance(listing, Listing)
        assert [entry.size for entry in listing.entries] == [7]
        assert isinstance(remote, Scanner)
        assert [path async for page in remote.scan() for path, _ in page.files] == ["a"]


async def test_an_archived_blob_says_what_to_do(shared: Container) -> None:
    """It is listed, and its bytes have to be fetched from the archive first."""
    shared.put("cold/a", b"content")
    shared.ask("PUT", f"{shared.target('cold/a')}?comp=tier", {"x-ms-access-tier": "Archive"})
    async with opened(shared.source("cold/")) as remote:
        assert await names(remote) == {"a": Kind.FILE}
        assert (await remote.stat("a")).size == 7
        with pytest.raises(OriginFailed, match="rehydrate it"):
            async with remote.open_part("a"):
                pass


async def test_a_scan_goes_on_where_another_process_was(
    shared: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file twice, none missing."""
    monkeypatch.setattr("mirror.remotes.azure.store.PAGE", 10)
    keys = [f"many/{number:03}" for number in range(25)]
    for key in keys:
        shared.put(key, b"x")
    async with opened(shared.source("many/")) as remote:
        assert isinstance(remote, Scanner)
        async with aclosing(remote.scan()) as pages:
            first = await anext(pages)
    assert len(first.files) == 10
    async with opened(shared.source("many/")) as remote:
        assert isinstance(remote, Scanner)
        rest = [page async for page in remote.scan(cursor=first.cursor)]
        assert [len(page.files) for page in rest] == [10, 5]
        assert rest[-1].cursor is None
        found = [path for page in [first, *rest] for path, _ in page.files]
        assert found == [key.removeprefix("many/") for key in keys]
        assert len(await names(remote)) == 25
        assert [page async for page in remote.scan("absent")] == [Page([], None)]


async def test_a_source_may_be_one_blob(shared: Container) -> None:
    """Then its tree has one file; a prefix without a slash is a folder where it is no blob."""
    shared.put("single/file.bin", b"content")
    async with opened(shared.source("single/file.bin")) as remote:
        assert await names(remote) == {"file.bin": Kind.FILE}
        async with remote.open_part("file.bin", 1) as part:
            assert await read(part) == b"ontent"
        for path, error in (("other", NotFound), ("file.bin/x", NotAFolder), ("", IsAFolder)):
            with pytest.raises(error):
                await remote.stat(path)
    async with opened(shared.source("single")) as remote:
        assert await names(remote) == {"file.bin": Kind.FILE}


async def test_what_is_not_there_is_no_empty_folder(shared: Container) -> None:
    """A prefix: not found. A container: no file is said to be gone."""
    async with opened(shared.source("nothing/")) as remote:
        with pytest.raises(NotFound, match="nothing of that name"):
            await remote.list("")
    async with opened(shared.source().replace("container", "no-such-container")) as remote:
        for question in (remote.list(""), remote.list("a"), remote.stat("a")):
            with pytest.raises(OriginFailed, match="no such container"):
                await question


async def test_an_empty_container_is_an_empty_folder() -> None:
    with azurite() as container:
        async with opened(container.source()) as remote:
            assert await names(remote) == {}


# -- credentials -------------------------------------------------------------------------------


async def test_a_shared_access_signature(shared: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without the question mark that a portal shows before it."""
    shared.put("signed/a b", b"content")
    for begin in ("", "?"):
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", begin + shared.sas())
        async with opened(shared.source("signed/")) as remote:
            assert await names(remote) == {"a b": Kind.FILE}
            entry = await remote.stat("a b")
            async with remote.open_part("a b", 1, validator=entry.validator) as part:
                assert await read(part) == b"ontent"
            assert "sig=" not in remote.url


@pytest.mark.parametrize(("permissions", "valid"), [("r", True), ("rl", False)])
async def test_a_signature_that_does_not_allow_it_is_said(
    permissions: str, valid: bool, shared: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = shared.sas(permissions, valid=valid)
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", token)
    async with opened(shared.source()) as remote:
        with pytest.raises(AccessDenied, match="az://devstoreaccount1/container: ") as caught:
            await remote.list("")
    assert token[-20:] not in str(caught.value)


async def test_keys_and_connection_strings(shared: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection string says where the account is, too."""
    shared.put("keyed/a", b"content")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "devstoreaccount1")
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    async with opened(shared.source("keyed/")) as remote:
        assert await names(remote) == {"a": Kind.FILE}
    text = f"AccountName=devstoreaccount1;AccountKey={KEY};BlobEndpoint={shared.endpoint};"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    async with opened("az://devstoreaccount1/container/keyed/") as remote:
        assert await names(remote) == {"a": Kind.FILE}
        assert remote.url == open_remote(shared.source("keyed/")).url


async def test_a_wrong_key_is_said(shared: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_KEY", "c2VjcmV0IGtleSBvZiBhbm90aGVy")
    async with opened(shared.source()) as remote:
        with pytest.raises(AccessDenied, match="az://devstoreaccount1/container: ") as caught:
            await remote.list("")
    assert "c2VjcmV0" not in str(caught.value)
    monkeypatch.setenv("AZURE_STORAGE_KEY", "no base64, but s3cret")
    with pytest.raises(SetupError, match="not base64") as said:
        open_remote(shared.source())
    assert "s3cret" not in str(said.value)


async def test_a_public_container_takes_no_credentials() -> None:
    """One that is not says so."""
    with azurite() as container:
        container.put("a", b"content")
        async with opened(container.source(anonymous="true")) as remote:
            with pytest.raises(AccessDenied, match="anonymous=false"):
                await remote.list("")
        access = {"x-ms-blob-public-access": "container"}
        container.ask("PUT", "/container?restype=container&comp=acl", access)
        async with opened(container.source(anonymous="true")) as remote:
            assert await names(remote) == {"a": Kind.FILE}
            async with remote.open_part("a") as part:
                assert await read(part) == b"content"
