"""Google Cloud Storage: credentials, and answers that an emulator does not give."""

from __future__ import annotations

import gzip
import json
import logging
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mirror.errors import (
    AccessDenied,
    MirrorError,
    OriginFailed,
    ProtocolError,
    SetupError,
    Transient,
    UsageError,
    VersionChanged,
)
from mirror.remotes import How, open_remote
from mirror.remotes.base import Remote
from mirror.remotes.gcs.endpoint import anonymous
from mirror.remotes.options import Options
from tests.remotes.contract import read
from tests.support.clouds import ByBeginning, guarded, said
from tests.support.hostile import Behaviour, Hostile, Seen, answer, hostile, in_turn, status

LISTING = "/storage/v1/b/bucket/o?"
OBJECT = "/storage/v1/b/bucket/o/a"
METADATA = {"name": "a", "size": "7", "generation": "5", "timeCreated": "2026-11-23T14:02:14.123Z"}
IMPERSONATE = "/v1/projects/-/serviceAccounts/a@example.org:generateAccessToken"
FILE = {"Content-Length": 7, "x-goog-generation": "5", "Accept-Ranges": "bytes"}


@pytest.fixture(autouse=True)
def _no_credentials_of_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of whoever runs the tests, and no question to a metadata server."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def opened(server: Hostile, query: str = "") -> AsyncIterator[Remote]:
    remote = open_remote(f"gs://bucket/?endpoint={server.url}&{query}".rstrip("&"), How(deadline=5.0))
    try:
        yield remote
    finally:
        await remote.aclose()


def routes(**more: Behaviour) -> ByBeginning:
    """A bucket with one object ``a``."""
    listing = said({"items": [METADATA]})
    return ByBeginning({LISTING: listing, OBJECT: said(METADATA), **more})


# -- credentials -------------------------------------------------------------------------------


def key_file(folder: Path, monkeypatch: pytest.MonkeyPatch, server: Hostile) -> str:
    """Make a service account's key file the environment's; returns the key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = key.private_bytes(*form).decode()
    file = folder / "key.json"
    about = {"type": "service_account", "client_email": "a@example.org", "private_key": pem}
    file.write_text(json.dumps({**about, "private_key_id": "1", "token_uri": f"{server.url}token"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    return pem


def token(value: str) -> Behaviour:
    return said({"access_token": value, "expires_in": 3600, "token_type": "Bearer"})


def shows(*values: str) -> Behaviour:
    """The bucket, for those who show one of these tokens."""
    wanted = {f"Bearer {value}" for value in values}
    return guarded(lambda seen: seen.headers.get("authorization") in wanted, said({"items": [METADATA]}))


def asked_for_tokens(server: Hostile) -> list[Seen]:
    return [seen for seen in server.seen if seen.path.startswith("/token")]


async def test_a_key_file_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token is fetched once, and shown in each request."""
    with hostile(ByBeginning({"/token": token("one"), LISTING: shows("one")})) as server:
        key_file(tmp_path, monkeypatch, server)
        async with opened(server, "anonymous=false") as remote:
            await remote.list("")
            await remote.list("")
        assert len(asked_for_tokens(server)) == 1


async def test_the_metadata_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Google's own machines."""
    account = "/computeMetadata/v1/instance/service-accounts/default/"
    google = {"Metadata-Flavor": "Google", "Content-Type": "application/json"}

    def gives(document: object) -> Behaviour:
        body = json.dumps(document).encode()
        return answer(200, {**google, "Content-Length": len(body)}, body)

    given = ByBeginning(
        {
            "/": gives({}),
            account: gives({"email": "a@example.org", "scopes": [], "aliases": ["default"]}),
            f"{account}token": gives({"access_token": "machine", "expires_in": 3600, "token_type": "Bearer"}),
            LISTING: shows("machine"),
        }
    )
    with hostile(given) as server:
        monkeypatch.delenv("NO_GCE_CHECK")
        monkeypatch.setenv("GCE_METADATA_HOST", server.url.removeprefix("http://").rstrip("/"))
        monkeypatch.setenv("GCE_METADATA_IP", server.url.removeprefix("http://").rstrip("/"))
        async with opened(server, "anonymous=false") as remote:
            await remote.list("")


async def test_workload_identity_and_impersonation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of another provider, in a file, becomes one of Google, and that one of a service account."""
    impersonated = {"accessToken": "impersonated", "expireTime": "2099-01-01T00:00:00Z"}
    given = {
        "/sts": said(
            {
                "access_token": "federated",
                "issued_token_type": "t",
                "token_type": "Bearer",
                "expires_in": 3600,
            }
        ),
        IMPERSONATE: guarded(
            lambda seen: seen.headers["authorization"] == "Bearer federated", said(impersonated)
        ),
        LISTING: shows("impersonated"),
    }
    with hostile(ByBeginning(given)) as server:
        (tmp_path / "subject").write_text("subject-token")
        file = tmp_path / "workload.json"
        about = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{server.url}sts",
            "service_account_impersonation_url": f"{server.url}{IMPERSONATE[1:]}",
            "credential_source": {"file": str(tmp_path / "subject")},
        }
        file.write_text(json.dumps(about))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")  # else google-auth asks Google for its name
        async with opened(server, "anonymous=false") as remote:
            await remote.list("")


async def test_a_refused_token_is_replaced_once_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty requests are refused at once, and one new token is fetched."""
    tokens = in_turn(token("revoked"), token("fresh"))
    with hostile(ByBeginning({"/token": tokens, LISTING: shows("fresh")})) as server:
        key_file(tmp_path, monkeypatch, server)
        async with opened(server, "anonymous=false") as remote, trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(remote.list, "")
        assert len(asked_for_tokens(server)) == 2


async def test_a_token_that_stays_refused_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = in_turn(token("one"), token("two"), token("three"))
    with hostile(ByBeginning({"/token": tokens, LISTING: shows()})) as server:
        key_file(tmp_path, monkeypatch, server)
        async with opened(server, "anonymous=false") as remote:
            with pytest.raises(AccessDenied, match="gcloud auth"):
                await remote.list("")
        assert len(asked_for_tokens(server)) == 2


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (said({"error": "invalid_grant", "error_description": "gone"}, 400), AccessDenied, "no token"),
        (said({"error": "internal_failure"}, 500), Transient, "no token"),
        (answer(200, {"Content-Length": 2}, b"{}"), AccessDenied, "no token"),
    ],
)
async def test_who_gets_no_token_is_told(
    given: Behaviour, error: type[MirrorError], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # google-auth tries again by itself, and waits between
    with hostile(ByBeginning({"/token": given, LISTING: shows("one")})) as server:
        key_file(tmp_path, monkeypatch, server)
        async with opened(server, "anonymous=false") as remote:
            with pytest.raises(error, match=words):
                await remote.list("")


async def test_without_credentials_it_is_said_what_to_do() -> None:
    with hostile(routes()) as server:
        async with opened(server, "anonymous=false") as remote:
            with pytest.raises(AccessDenied, match=r"gcloud auth .*anonymous=true"):
                await remote.list("")
        assert server.seen == []


async def test_a_key_file_that_is_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a line of it."""
    file = tmp_path / "key.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    for content in ("s3cret", '{"type": "service_account", "private_key": "s3cret", "client_email": "a"}'):
        file.write_text(content)
        with hostile(routes()) as server:
            async with opened(server, "anonymous=false") as remote:
                with pytest.raises((AccessDenied, SetupError)) as caught:
                    await remote.list("")
        assert "s3cret" not in str(caught.value)


def test_credentials_go_to_googles_hosts_and_nowhere_else() -> None:
    """Unless that is asked for; and never over a connection that others may read."""
    assert not anonymous("https://storage.googleapis.com", Options())
    assert not anonymous("https://storage-mine.p.googleapis.com", Options())
    assert anonymous("https://storage.googleapis.com", Options({"anonymous": "true"}))
    asked = Options({"anonymous": "false"})
    for endpoint in (
        "http://storage.googleapis.com",
        "https://googleapis.com.example.org",
        "http://127.0.0.1:1",
    ):
        assert anonymous(endpoint, Options())
    assert not anonymous("https://example.org", asked)
    assert not anonymous("http://127.0.0.1:4443", asked)
    with pytest.raises(UsageError, match="https only"):
        anonymous("http://example.org", asked)


def test_without_google_auth_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A public bucket needs none."""
    monkeypatch.setitem(sys.modules, "mirror.remotes.gcs.credentials", None)
    with pytest.raises(SetupError, match=r"pip install 'mirrorfs\[gcs\]'"):
        open_remote("gs://bucket/")
    open_remote("gs://bucket/?anonymous=true")


async def test_no_secret_is_ever_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither key nor token stands in an error, a log line, or what the remote is called."""
    caplog.set_level(logging.DEBUG)
    texts = []
    with hostile(ByBeginning({"/token": token("s3cret-token"), LISTING: shows()})) as server:
        pem = key_file(tmp_path, monkeypatch, server)
        async with opened(server, "anonymous=false") as remote:
            texts += [remote.url, repr(remote)]
            with pytest.raises(AccessDenied) as caught:
                await remote.list("")
    cause: BaseException | None = caught.value
    while cause is not None:
        texts += [str(cause), repr(cause)]
        cause = cause.__cause__ or cause.__context__
    everything = "\n".join([*texts, caplog.text])
    assert "s3cret" not in everything
    assert not any(line in everything for line in pem.splitlines()[1:3])


# -- who pays ----------------------------------------------------------------------------------


async def test_the_project_that_pays_is_named_in_each_request() -> None:
    with hostile(routes()) as server:
        async with opened(server, "user-project=mine") as remote:
            await remote.list("")
            await remote.stat("a")
        assert [seen.headers["x-goog-user-project"] for seen in server.seen] == ["mine"] * 2


async def test_a_bucket_whose_readers_pay_says_so() -> None:
    message = {
        "error": {"code": 400, "message": "Bucket is a requester pays bucket but no user project provided."}
    }
    with hostile(routes(**{LISTING: said(message, 400)})) as server:
        async with opened(server) as remote:
            with pytest.raises(AccessDenied, match="user-project=PROJECT"):
                await remote.list("")


# -- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (401, AccessDenied, "not public"),
        (403, AccessDenied, "not public"),
        (404, OriginFailed, "no such bucket"),
        (429, Transient, "429"),
        (503, Transient, "503"),
        (500, Transient, "500"),
        (400, OriginFailed, "400"),
    ],
)
async def test_each_failure_is_what_it_is(code: int, error: type[MirrorError], words: str) -> None:
    with hostile(routes(**{LISTING: status(code, {"Retry-After": 7})})) as server:
        async with opened(server) as remote:
            with pytest.raises(error, match=words) as caught:
                await remote.list("")
    assert type(caught.value) is error
    if isinstance(caught.value, Transient):
        assert caught.value.retry_after == 7.0


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"items": 3}', b'{"items": [{"size": "1"}]}', b'{"error": {}}']
)
async def test_what_is_no_listing_is_no_empty_folder(body: bytes) -> None:
    with hostile(routes(**{LISTING: answer(200, {"Content-Length": len(body)}, body)})) as server:
        async with opened(server) as remote:
            with pytest.raises(ProtocolError):
                await remote.list("")


# -- versions and codings ----------------------------------------------------------------------


async def test_a_file_is_asked_for_by_its_generation_and_as_it_is_stored() -> None:
    with hostile(routes(**{OBJECT: answer(200, FILE, b"content")})) as server:
        async with opened(server) as remote, remote.open_part("a", validator="generation:5") as part:
            assert await read(part) == b"content"
        [seen] = server.seen
        assert seen.path == f"{OBJECT}?alt=media&generation=5"
        assert seen.headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"x-goog-generation": "6"}, VersionChanged),
        ({"x-goog-generation": ""}, VersionChanged),
        (None, ProtocolError),
    ],
)
async def test_an_answer_of_another_generation_is_refused(
    headers: Mapping[str, str | int] | None, error: type[MirrorError]
) -> None:
    """Whatever its status says."""
    told = {"Content-Length": 7} if headers is None else {**FILE, **headers}
    with hostile(routes(**{OBJECT: answer(200, told, b"content")})) as server:
        async with opened(server) as remote:
            with pytest.raises(error):
                async with remote.open_part("a", validator="generation:5"):
                    pass


@pytest.mark.parametrize(
    ("stored", "came"), [("gzip", None), (None, "gzip"), ("identity", "gzip"), ("gzip", "br")]
)
async def test_what_was_compressed_or_decompressed_on_the_way_is_refused(
    stored: str | None, came: str | None
) -> None:
    """Its bytes are not those that the listing has the size of."""
    headers = dict(FILE)
    if stored:
        headers["x-goog-stored-content-encoding"] = stored
    if came:
        headers["Content-Encoding"] = came
    with hostile(routes(**{OBJECT: answer(200, headers, b"content")})) as server:
        async with opened(server) as remote:
            with pytest.raises(ProtocolError, match="although that was refused"):
                async with remote.open_part("a"):
                    pass


async def test_what_is_stored_compressed_keeps_its_promise() -> None:
    body = gzip.compress(b"content")
    headers = {
        "Content-Length": len(body),
        "x-goog-generation": "5",
        "x-goog-hash": "crc32c=AAAAAA==",
        "x-goog-stored-content-encoding": "gzip",
        "Content-Encoding": "gzip",
    }
    with hostile(routes(**{OBJECT: answer(200, headers, body)})) as server:
        async with opened(server) as remote, remote.open_part("a") as part:
            assert await read(part) == body
            assert str(part.digest) == "crc32c:00000000"


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("md5=AAAAAAAAAAAAAAAAAAAAAA==", f"md5:{'00' * 16}"),
        ("md5=AAAAAAAAAAAAAAAAAAAAAA==,crc32c=AAAAAQ==", "crc32c:00000001"),
        ("crc32c=AAAAAQ==, md5=AAAAAAAAAAAAAAAAAAAAAA==", "crc32c:00000001"),
        ("crc32c=nonsense", None),
        ("", None),
    ],
)
async def test_the_checksum_that_each_object_has_goes_first(stated: str, expected: str | None) -> None:
    """MD5 where there is no other; nonsense is no promise."""
    with hostile(routes(**{OBJECT: answer(200, {**FILE, "x-goog-hash": stated}, b"content")})) as server:
        async with opened(server) as remote, remote.open_part("a") as part:
            assert (None if part.digest is None else str(part.digest)) == expected


async def test_checksums_that_contradict_each_other_are_none(caplog: pytest.LogCaptureFixture) -> None:
    two = "crc32c=AAAAAQ==,crc32c=AAAAAA=="
    with hostile(routes(**{OBJECT: answer(200, {**FILE, "x-goog-hash": two}, b"content")})) as server:
        async with opened(server) as remote, remote.open_part("a") as part:
            assert part.digest is None
    assert "neither is believed" in caplog.text
    caplog.clear()
