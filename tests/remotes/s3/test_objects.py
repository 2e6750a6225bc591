"""Objects as S3 keeps them: versions, archives, checksums, who may read them. Against moto."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import botocore.session
import httpx
import pytest

from cache.digests import Algorithm
from mirror.errors import AccessDenied, MirrorError, NotFound, OriginFailed, VersionChanged
from mirror.remotes.base import Listing
from tests.remotes.contract import read
from tests.remotes.s3.conftest import Opener
from tests.support import s3_servers
from tests.support.s3_servers import client, source
from tests.support.servers import Server


@pytest.fixture(scope="module")
def versioned(moto: Server) -> Any:
    """A bucket that keeps versions."""
    s3 = client(moto)
    s3.create_bucket(Bucket="versioned")
    s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    return s3


async def test_an_old_version_can_be_read_to_its_end(moto: Server, versioned: Any, opened: Opener) -> None:
    """When the object is replaced in the middle of it, its id is asked for; listings show the new one."""
    versioned.put_object(Bucket="versioned", Key="replaced", Body=b"a" * 100)
    remote = opened(source(moto, "versioned/"))
    old = await remote.stat("replaced")
    async with remote.open_part("replaced", 0, 10, validator=old.validator) as part:
        assert await read(part) == b"a" * 10
    versioned.put_object(Bucket="versioned", Key="replaced", Body=b"b" * 100)
    for start in (10, 20):
        async with remote.open_part("replaced", start, start + 10, validator=old.validator) as part:
            assert await read(part) == b"a" * 10
            assert part.entry == old
    new = await remote.stat("replaced")
    assert new.validator != old.validator
    listing = await remote.list("")
    assert isinstance(listing, Listing)
    assert {entry.name: entry.validator for entry in listing.entries}["replaced"] == new.validator
    async with remote.open_part("replaced", 0, 10, validator=new.validator) as part:
        assert await read(part) == b"b" * 10


async def test_an_old_version_that_is_gone(moto: Server, versioned: Any, opened: Opener) -> None:
    """Nor is there one where nobody has asked for a part of it, or the bucket keeps none."""
    versioned.put_object(Bucket="versioned", Key="removed", Body=b"a" * 100)
    remote = opened(source(moto, "versioned/"))
    async with remote.open_part("removed", 0, 10) as part:
        old = part.entry
        version = part.headers["x-amz-version-id"]
    versioned.put_object(Bucket="versioned", Key="removed", Body=b"b" * 100)
    versioned.delete_object(Bucket="versioned", Key="removed", VersionId=version)
    for asking in (remote, opened(source(moto, "versioned/"))):
        with pytest.raises(VersionChanged):
            async with asking.open_part("removed", 10, 20, validator=old.validator):
                pass


async def test_what_was_deleted_is_not_there(moto: Server, versioned: Any, opened: Opener) -> None:
    """A bucket that keeps versions keeps a mark in its place."""
    versioned.put_object(Bucket="versioned", Key="deleted", Body=b"a")
    versioned.delete_object(Bucket="versioned", Key="deleted")
    remote = opened(source(moto, "versioned/"))
    with pytest.raises(NotFound):
        await remote.stat("deleted")
    with pytest.raises(NotFound):
        async with remote.open_part("deleted"):
            pass


@pytest.mark.parametrize("storage", ["GLACIER", "DEEP_ARCHIVE"])
async def test_what_is_archived_is_to_be_restored(
    moto: Server, versioned: Any, opened: Opener, storage: str
) -> None:
    """It is listed, and reading it says what to do; nothing is tried again."""
    versioned.put_object(Bucket="versioned", Key=storage, Body=b"a", StorageClass=storage)
    remote = opened(source(moto, "versioned/"))
    assert (await remote.stat(storage)).size == 1
    before = remote.requests
    with pytest.raises(AccessDenied, match="restore") as caught:
        async with remote.open_part(storage):
            pass
    assert storage in str(caught.value)
    assert remote.requests == before + 1


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("SHA256", Algorithm.SHA256),
        ("SHA1", Algorithm.SHA1),
        ("CRC32", Algorithm.CRC32),
    ],
)
async def test_a_checksum_is_a_promise(
    moto: Server, versioned: Any, opened: Opener, name: str, algorithm: Algorithm
) -> None:
    """Of the whole file, when all of it is asked for."""
    versioned.put_object(Bucket="versioned", Key=f"sum/{name}", Body=b"abc", ChecksumAlgorithm=name)
    async with opened(source(moto, "versioned/sum/")).open_part(name) as part:
        assert part.digest is not None
        assert part.digest.algorithm is algorithm
        if algorithm is Algorithm.SHA256:
            assert part.digest.value == hashlib.sha256(b"abc").digest()


async def test_the_etag_is_no_checksum(moto: Server, versioned: Any, opened: Opener) -> None:
    """It may be the MD5 of a file, and may be something else: no answer says which."""
    versioned.put_object(Bucket="versioned", Key="sum/none", Body=b"abc")
    async with opened(source(moto, "versioned/sum/")).open_part("none") as part:
        assert part.digest is None


async def test_listings_of_many_pages(tmp_path: Path, opened: Opener) -> None:
    """All pages of a folder, and a scan that goes on in another process. Against rclone, which is quick."""
    names = [f"{number:04}" for number in range(2010)]
    (tmp_path / "many" / "all").mkdir(parents=True)
    for name in names:
        (tmp_path / "many" / "all" / name).touch()
    with s3_servers.rclone(tmp_path) as server:
        remote = opened(source(server, "many/"))
        listing = await remote.list("all")
        assert isinstance(listing, Listing)
        assert [entry.name for entry in listing.entries] == names
        assert remote.requests == 3
        async with aclosing(remote.scan("all")) as pages:
            first = await anext(pages)
        assert first.cursor is not None
        seen = [path for path, _ in first.files]
        assert len(seen) < 1000
        async for page in opened(source(server, "many/")).scan("all", first.cursor):
            seen += [path for path, _ in page.files]
        assert seen == [f"all/{name}" for name in names]


async def test_a_bucket_that_is_not_there(moto: Server, opened: Opener) -> None:
    """Says so, and not that the files are gone."""
    remote = opened(source(moto, "nowhere/data/"))
    for ask in (remote.list(""), remote.list("folder"), remote.stat("file")):
        with pytest.raises(OriginFailed, match="no bucket nowhere"):
            await ask
    with pytest.raises(OriginFailed, match="no bucket nowhere"):
        async with remote.open_part("file"):
            pass


async def test_an_empty_bucket_is_an_empty_folder(moto: Server, opened: Opener) -> None:
    """A prefix without any key is none."""
    client(moto).create_bucket(Bucket="hollow")
    assert await opened(source(moto, "hollow/")).list("") == Listing([])
    assert [page.files async for page in opened(source(moto, "hollow/")).scan("")] == [[]]
    with pytest.raises(NotFound):
        await opened(source(moto, "hollow/data/")).list("")


# -- who may read -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[Server, str, str]]:
    """A server that checks signatures and policies; its user may read objects, and list nothing."""
    with s3_servers.moto() as server:
        s3 = client(server)
        s3.create_bucket(Bucket="guarded")
        s3.put_object(Bucket="guarded", Key="data/file", Body=b"abc")
        iam = botocore.session.Session().create_client(
            "iam",
            region_name="us-east-1",
            endpoint_url=server.url,
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
        iam.create_user(UserName="reader")
        statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
        policy = str({"Version": "2012-10-17", "Statement": [statement]}).replace("'", '"')
        iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        httpx.post(f"{server.url}moto-api/reset-auth", content=b"0").raise_for_status()
        yield server, key["AccessKeyId"], key["SecretAccessKey"]


@pytest.fixture
def as_reader(guarded: tuple[Server, str, str], monkeypatch: pytest.MonkeyPatch) -> Server:
    server, access_key, secret = guarded
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    return server


async def test_who_may_only_read(as_reader: Server, opened: Opener) -> None:
    """Reads what is named, as a source too; that a folder is refused is no absence."""
    remote = opened(source(as_reader, "guarded/data/"))
    async with remote.open_part("file") as part:
        assert await read(part) == b"abc"
    with pytest.raises(AccessDenied, match="s3:ListBucket"):
        await remote.list("")
    alone = opened(source(as_reader, "guarded/data/file"))
    listing = await alone.list("")
    assert isinstance(listing, Listing)
    assert [(entry.name, entry.size) for entry in listing.entries] == [("file", 3)]


@pytest.mark.parametrize(
    ("variable", "says"),
    [("AWS_ACCESS_KEY_ID", "access key"), ("AWS_SECRET_ACCESS_KEY", "secret key")],
)
async def test_wrong_keys(
    as_reader: Server, opened: Opener, monkeypatch: pytest.MonkeyPatch, variable: str, says: str
) -> None:
    """Each question says which is wrong, HEAD too, and shows neither."""
    monkeypatch.setenv(variable, "canary-of-the-test")
    remote = opened(source(as_reader, "guarded/data/"))
    caught: list[MirrorError] = []
    for ask in (remote.list(""), remote.stat("file")):
        with pytest.raises(AccessDenied, match=says) as found:
            await ask
        caught.append(found.value)
    with pytest.raises(AccessDenied, match=says) as found:
        async with remote.open_part("file"):
            pass
    assert "canary" not in "".join(map(str, [*caught, found.value]))
    assert "\n" not in str(found.value)
