"""What is learnt while a bucket is asked: its region, and credentials that are good."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from mirror.errors import AccessDenied, OriginFailed, SetupError, Transient
from mirror.remotes.base import Listing
from mirror.remotes.s3.remote import S3Remote
from tests.remotes.contract import read
from tests.remotes.s3.conftest import Opener
from tests.support.fake_s3 import FakeS3, Vending, error, fake_s3, vending
from tests.support.hostile import Hostile, Seen

FILES = {f"file{number}": b"x" * number for number in range(60)}


@pytest.fixture
def fake() -> Iterator[tuple[FakeS3, Hostile]]:
    with fake_s3(FILES) as both:
        yield both


@pytest.fixture
def vended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vending]:
    """Credentials come from a container's agent, and from nowhere else."""
    with vending() as (machine, url):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
        yield machine


def source(server: Hostile, path: str = "bucket/", **options: str) -> str:
    return f"s3://{path}?endpoint={server.url}" + "".join(f"&{k}={v}" for k, v in options.items())


def signed_with(seen: Seen) -> tuple[str, str]:
    """The access key and the region that a request was signed with."""
    parts = seen.headers["authorization"].split("Credential=")[1].split("/")
    return parts[0], parts[2]


async def fetch(remote: S3Remote, name: str) -> None:
    async with remote.open_part(name) as part:
        assert await read(part) == FILES[name]


# -- regions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_body", [False, True])
@pytest.mark.parametrize("first", ["stat", "list", "part", "scan"])
async def test_a_region_is_learnt_once(
    fake: tuple[FakeS3, Hostile], opened: Opener, first: str, in_body: bool
) -> None:
    """Whichever question is the first to meet a redirect; all later ones go the right way at once."""
    bucket, server = fake
    bucket.region, bucket.says_region_in_body = "ap-southeast-2", in_body
    remote = opened(source(server))
    match first:
        case "stat":
            assert (await remote.stat("file7")).size == 7
        case "list":
            assert isinstance(await remote.list(""), Listing)
        case "part":
            await fetch(remote, "file7")
        case "scan":
            assert sum([len(page.files) async for page in remote.scan()]) == len(FILES)
    wrong = [seen for seen in server.seen if signed_with(seen)[1] != "ap-southeast-2"]
    # HEAD has no body to say it in, so the same is asked by GET.
    assert len(wrong) == (2 if first == "stat" and in_body else 1)
    before = len(server.seen)
    for name in ("file1", "file2"):
        await remote.stat(name)
        await fetch(remote, name)
    assert len(server.seen) == before + 4


async def test_a_region_that_is_no_name_of_a_host(fake: tuple[FakeS3, Hostile], opened: Opener) -> None:
    """What a server says of its region becomes part of a host name; so it had better be one."""
    bucket, server = fake
    bucket.region = "evil.example/"
    with pytest.raises(OriginFailed, match="region"):
        await opened(source(server)).list("")
    assert len(server.seen) == 1


async def test_regions_that_name_each_other(fake: tuple[FakeS3, Hostile], opened: Opener) -> None:
    """A question is asked again once."""
    bucket, server = fake
    bucket.instead[""] = error(400, "AuthorizationHeaderMalformed", Region="eu-west-1")
    with pytest.raises(OriginFailed, match="region"):
        await opened(source(server)).list("")
    assert len(server.seen) == 2


async def test_amazon_is_asked_at_the_host_of_the_region(opened: Opener) -> None:
    """By all who come after; whoever was sent there for the same cause finds it done."""
    bucket = opened("s3://bucket/")._bucket
    first = bucket.way
    assert first.site.origin.host == "bucket.s3.us-east-1.amazonaws.com"
    assert bucket.move(first, "eu-west-1")
    assert bucket.way.site.origin.host == "bucket.s3.eu-west-1.amazonaws.com"
    learnt = bucket.way
    assert bucket.move(first, "eu-west-1")
    assert bucket.way is learnt
    assert not bucket.move(learnt, "eu-west-1")


# -- credentials --------------------------------------------------------------------------------


async def test_a_token_that_expires_is_renewed_once_for_all(
    fake: tuple[FakeS3, Hostile], vended: Vending, opened: Opener
) -> None:
    """Fifty requests that are refused together wait for one look, and each is sent once more."""
    bucket, server = fake
    remote = opened(source(server), connections=50)
    await fetch(remote, "file1")
    assert vended.given == ["ASIA0"]
    bucket.expired.add("ASIA0")
    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(fetch, remote, f"file{number}")
    assert vended.given == ["ASIA0", "ASIA1"]
    assert [signed_with(seen)[0] for seen in server.seen].count("ASIA1") == 50
    assert server.seen[-1].headers["x-amz-security-token"] == "vended-token"


async def test_a_refused_stat_is_explained_and_mended(
    fake: tuple[FakeS3, Hostile], vended: Vending, opened: Opener
) -> None:
    """HEAD is refused without a word: the same by GET says why."""
    bucket, server = fake
    remote = opened(source(server))
    bucket.expired.add("ASIA0")
    assert (await remote.stat("file9")).size == 9
    assert [(seen.method, signed_with(seen)[0]) for seen in server.seen] == [
        ("HEAD", "ASIA0"),
        ("GET", "ASIA0"),
        ("HEAD", "ASIA1"),
    ]


async def test_what_is_renewed_and_refused_again(
    fake: tuple[FakeS3, Hostile], vended: Vending, opened: Opener
) -> None:
    bucket, server = fake
    bucket.expired |= {f"ASIA{number}" for number in range(10)}
    with pytest.raises(AccessDenied, match="expired"):
        await fetch(opened(source(server)), "file1")
    assert len(vended.given) == 2
    assert len(server.seen) == 2


async def test_keys_that_do_not_change_are_not_looked_up_each_time(
    fake: tuple[FakeS3, Hostile], opened: Opener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file may hold others by now, so it is read again; after that not before a while."""
    bucket, server = fake
    keys = tmp_path / "keys"
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    keys.write_text("[default]\naws_access_key_id = AKIAOLD\naws_secret_access_key = s\n")
    remote = opened(source(server))
    await fetch(remote, "file1")
    bucket.expired.add("AKIAOLD")
    keys.write_text(keys.read_text().replace("OLD", "NEW"))
    await fetch(remote, "file2")
    bucket.expired.add("AKIANEW")
    before = len(server.seen)
    for _ in range(3):
        with pytest.raises(AccessDenied):
            await fetch(remote, "file3")
    assert [signed_with(seen)[0] for seen in server.seen[before:]] == ["AKIANEW"] * 3


@pytest.mark.parametrize("fails", [False, True])
async def test_credentials_are_renewed_before_they_expire(
    fake: tuple[FakeS3, Hostile], vended: Vending, opened: Opener, fails: bool
) -> None:
    """Some minutes before; while nobody gives out others, those that are still good are shown."""
    _, server = fake
    remote = opened(source(server))
    await fetch(remote, "file1")
    vended.fails = fails
    chain = remote._bucket.chain
    assert chain is not None
    chain._source._time_fetcher = lambda: datetime.now(UTC) + timedelta(hours=5, minutes=48)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(fetch, remote, f"file{number}")
    await fetch(remote, "file1")
    # While one asks for others, the rest need not wait.
    assert {signed_with(seen)[0] for seen in server.seen} <= {"ASIA0", "ASIA1"}
    assert signed_with(server.seen[-1])[0] == ("ASIA0" if fails else "ASIA1")
    assert len(vended.given) == (1 if fails else 2)


async def test_credentials_that_have_expired_are_not_shown(
    fake: tuple[FakeS3, Hostile], vended: Vending, opened: Opener
) -> None:
    """Where no others are to be had, that is an outage, and says whose."""
    _, server = fake
    remote = opened(source(server))
    await fetch(remote, "file1")
    vended.fails = True
    chain = remote._bucket.chain
    assert chain is not None
    chain._source._time_fetcher = lambda: datetime.now(UTC) + timedelta(hours=7)
    with pytest.raises((Transient, AccessDenied), match="credentials"):
        await fetch(remote, "file1")
    assert len(server.seen) == 1


async def test_nobody_gives_out_credentials(
    fake: tuple[FakeS3, Hostile], vended: Vending, opened: Opener
) -> None:
    """An outage, not a refusal: it is tried again."""
    _, server = fake
    vended.fails = True
    with pytest.raises((Transient, AccessDenied), match="credentials"):
        await opened(source(server)).list("")
    assert server.seen == []


async def test_no_credentials(
    fake: tuple[FakeS3, Hostile], opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Says all ways out, anonymous too."""
    _, server = fake
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(AccessDenied, match="anonymous=true") as caught:
        await opened(source(server)).list("")
    assert "aws configure" in str(caught.value)
    assert server.seen == []
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SetupError, match="AWS_SECRET_ACCESS_KEY"):
        await opened(source(server)).list("")


async def test_anonymous_shows_nothing(fake: tuple[FakeS3, Hostile], opened: Opener) -> None:
    """No signature, no key, whatever the environment holds."""
    bucket, server = fake
    bucket.region = "eu-west-1"  # which only signed requests are held to
    remote = opened(source(server, anonymous="true"))
    await remote.list("")
    await remote.stat("file3")
    await fetch(remote, "file3")
    for seen in server.seen:
        assert "authorization" not in seen.headers
        assert not any("AKIA" in value for value in seen.headers.values())


async def test_nothing_secret_is_logged(
    fake: tuple[FakeS3, Hostile], vended: Vending, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at DEBUG either, where botocore would log tokens and answers that hold keys."""
    bucket, server = fake
    with caplog.at_level(logging.DEBUG):
        remote = opened(source(server))
        await fetch(remote, "file1")
        bucket.expired |= {"ASIA0", "ASIA1"}
        with pytest.raises(AccessDenied) as caught:
            await fetch(remote, "file1")
    said = caplog.text + repr(caught.value) + repr(remote) + repr(vars(remote._bucket.chain))
    assert "vended-token" not in said
    assert "vended-secret" not in said
