"""What S3 says becomes the right failure, with a line to act on."""

from __future__ import annotations

import pytest

from mirror.errors import (
    AccessDenied,
    MirrorError,
    NotFound,
    OriginFailed,
    ProtocolError,
    SetupError,
    Transient,
    VersionChanged,
)
from mirror.remotes.s3.listing import NotAPageError, page, said
from tests.remotes.s3.conftest import Opener
from tests.remotes.s3.test_recovery import source
from tests.support.fake_s3 import error, fake_s3, listing
from tests.support.hostile import Behaviour, redirect
from tests.support.hostile import answer as bare_answer

CASES = [
    (404, "NoSuchKey", NotFound, "no such key"),
    (404, "NoSuchBucket", OriginFailed, "no bucket bucket"),
    (403, "AccessDenied", AccessDenied, "s3:GetObject"),
    (403, "AllAccessDisabled", AccessDenied, "refuses"),
    (403, "InvalidAccessKeyId", AccessDenied, "access key"),
    (403, "SignatureDoesNotMatch", AccessDenied, "secret key"),
    (403, "RequestTimeTooSkewed", SetupError, "clock"),
    (403, "InvalidObjectState", AccessDenied, "restore"),
    (400, "ExpiredToken", AccessDenied, "expired"),
    (400, "InvalidToken", AccessDenied, "AWS_SESSION_TOKEN"),
    (400, "RequestTimeout", Transient, "busy"),
    (400, "InvalidRequest", OriginFailed, "InvalidRequest"),
    (400, "AuthorizationHeaderMalformed", OriginFailed, "region"),
    (301, "PermanentRedirect", OriginFailed, "region"),
    (412, "PreconditionFailed", VersionChanged, "another version"),
    (416, "InvalidRange", VersionChanged, "another version"),
    (429, "TooManyRequests", Transient, "429"),
    (500, "InternalError", Transient, "busy"),
    (501, "NotImplemented", OriginFailed, "NotImplemented"),
    (503, "SlowDown", Transient, "SlowDown"),
    (400, "KMS.DisabledException", OriginFailed, "KMS.DisabledException"),
]


def answer(status: int, body: bytes) -> Behaviour:
    return bare_answer(status, {"Content-Type": "text/html", "Content-Length": len(body)}, body)


@pytest.mark.parametrize(("status", "code", "leaf", "words"), CASES)
async def test_each_code(opened: Opener, status: int, code: str, leaf: type[MirrorError], words: str) -> None:
    """From an object by GET and by HEAD, which has no words, and from a listing."""
    with fake_s3({"file": b"x"}) as (bucket, server):
        bucket.instead["file"] = error(status, code, message="What S3 says, é\u202e")
        if code != "NoSuchKey":
            bucket.instead[""] = bucket.instead["file"]
        remote = opened(source(server))
        caught = []
        with pytest.raises(leaf, match=words) as found:
            async with remote.open_part("file", 0, 10, validator='etag:"one"'):
                pass
        caught.append(str(found.value))
        if status not in (412, 416):
            asks = [remote.stat("file")] if code == "NoSuchKey" else [remote.stat("file"), remote.list("")]
            for ask in asks:
                with pytest.raises(leaf, match=words if status in (301, 400, 403) else None) as found:
                    await ask
                caught.append(str(found.value))
        for line in caught:
            assert line.isprintable()
            assert "AKIA" not in line


async def test_an_error_that_is_no_xml(opened: Opener) -> None:
    """It repeats the key, and a key may have characters that XML cannot have."""
    with fake_s3({}) as (bucket, server):
        bucket.instead["file"] = error(404, "NoSuchKey", Key="\x01\x1b[31m")
        with pytest.raises(NotFound, match="no such key"):
            async with opened(source(server)).open_part("file"):
                pass


async def test_an_error_with_a_200(opened: Opener) -> None:
    """A listing may begin well and end so."""
    with fake_s3({}) as (bucket, server):
        body = b"<Error><Code>SlowDown</Code></Error>"
        bucket.instead[""] = answer(200, body)
        with pytest.raises(Transient, match="SlowDown"):
            await opened(source(server)).list("")
        bucket.instead[""] = answer(200, b"<Error><Code>Unheard</Code></Error>")
        with pytest.raises(OriginFailed, match="Unheard"):
            await opened(source(server)).list("")


@pytest.mark.parametrize("body", [b"", b"<html>It works!</html>", b"not XML", b"{}", b"\xff\xfe<\x00"])
async def test_what_is_no_s3_server(opened: Opener, body: bytes) -> None:
    with fake_s3({}) as (bucket, server):
        bucket.instead[""] = answer(200, body)
        with pytest.raises(ProtocolError, match="no listing of a bucket"):
            await opened(source(server)).list("")
        bucket.instead[""] = answer(404, body)
        with pytest.raises(OriginFailed, match="endpoint"):
            await opened(source(server)).list("")


async def test_a_server_that_redirects(opened: Opener) -> None:
    """Is not followed: what is signed is for one host. It says what to write instead."""
    with fake_s3({}) as (bucket, server):
        bucket.instead[""] = bucket.instead["file"] = redirect("https://s3.example.org/bucket?x=y")
        remote = opened(source(server))
        for ask in (remote.list(""), remote.stat("file")):
            with pytest.raises(OriginFailed, match=r"endpoint=https://s3\.example\.org to"):
                await ask
        assert len(server.seen) == 2


async def test_a_key_that_is_refused_is_not_taken_for_absent(opened: Opener) -> None:
    """Without s3:ListBucket Amazon says 403 to what is not there as well."""
    with fake_s3({}) as (bucket, server):
        bucket.instead["file"] = error(403, "AccessDenied")
        with pytest.raises(AccessDenied, match="s3:ListBucket"):
            await opened(source(server)).stat("file")
        bucket.instead[""] = error(403, "AccessDenied")
        with pytest.raises(AccessDenied):
            await opened(source(server)).stat("absent")


async def test_a_server_that_is_down(opened: Opener) -> None:
    with fake_s3({}) as (_, server):
        url = source(server)
    remote = opened(url)
    for ask in (remote.list(""), remote.stat("file")):
        with pytest.raises(Transient, match="refused"):
            await ask


async def test_requester_pays(opened: Opener) -> None:
    """Every question says so, and it is signed, as all of S3's own headers have to be."""
    with fake_s3({"file": b"x"}) as (_, server):
        remote = opened(source(server, **{"requester-pays": "true"}))
        await remote.list("")
        await remote.stat("file")
        for stop in (None, 1):
            async with remote.open_part("file", 0, stop):
                pass
        for seen in server.seen:
            assert seen.headers["x-amz-request-payer"] == "requester"
            assert "x-amz-request-payer" in seen.headers["authorization"]
        assert "x-amz-checksum-mode" in server.seen[2].headers["authorization"]
        plain = opened(source(server))
        await plain.stat("file")
        assert "x-amz-request-payer" not in server.seen[-1].headers


# -- XML ----------------------------------------------------------------------------------------

BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><Error><Code>&b;</Code></Error>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7"])
def test_no_entity_is_ever_expanded(encoding: str) -> None:
    """Not in a page, not in an error, whatever the encoding."""
    body = BOMB.decode().encode(encoding)
    assert said(body) is None
    with pytest.raises(NotAPageError):
        page(body)
    declared = f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + body
    assert said(declared) is None or "a" * 10 not in said(declared).code  # type: ignore[union-attr]


async def test_a_token_in_a_message_is_not_shown(opened: Opener) -> None:
    """A server could say in an error what it was shown."""
    with fake_s3({}) as (bucket, server):
        bucket.instead["file"] = error(403, "AccessDenied", message=f"Your token is {'T0ken' * 60}.")
        with pytest.raises(AccessDenied, match="Your token is") as caught:
            await opened(source(server)).stat("file")
        assert "T0ken" not in str(caught.value)


async def test_an_endless_error(opened: Opener) -> None:
    """Its body is read so far and no further."""
    with fake_s3({}) as (bucket, server):
        bucket.instead["file"] = answer(500, b"<Error>" + b"x" * 10_000_000)
        with pytest.raises(Transient, match="500"):
            async with opened(source(server)).open_part("file"):
                pass
        bucket.instead[""] = listing("<Key>x</Key>" * 4_000_000)
        with pytest.raises(ProtocolError, match="MiB"):
            await opened(source(server)).list("")
