"""Azure Blob Storage: credentials, and answers that Azurite does not give."""

from __future__ import annotations

import base64
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from mirror.errors import (
    AccessDenied,
    MirrorError,
    OriginFailed,
    ProtocolError,
    SetupError,
    Transient,
    UsageError,
)
from mirror.remotes import How, key, open_remote
from mirror.remotes.azure import listing
from mirror.remotes.azure.account import EMULATED, Shows, find
from mirror.remotes.azure.signing import to_sign
from mirror.remotes.base import Kind, Listing, Remote
from mirror.remotes.options import Options
from tests.support.azure import KEY, azurite
from tests.support.certificates import certificate
from tests.support.clouds import ByBeginning, guarded, said
from tests.support.hostile import Behaviour, Hostile, answer, hostile, in_turn, status

LISTING = "/container?"
BLOB = "/container/a"
USUAL = "https://account.blob.core.windows.net"


@pytest.fixture(autouse=True)
def _no_credentials_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AZURE_", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(name)


def page(*blobs: str, marker: str = "") -> bytes:
    found = "".join(
        f"<Blob><Name>{name}</Name><Properties><Etag>0x1</Etag><Content-Length>7</Content-Length>"
        "<Last-Modified>Mon, 23 Nov 2026 14:02:14 GMT</Last-Modified></Properties></Blob>"
        for name in blobs
    )
    text = f"<EnumerationResults><Blobs>{found}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
    return b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>' + text.encode()


def gives(body: bytes) -> Behaviour:
    return answer(200, {"Content-Type": "application/xml", "Content-Length": len(body)}, body)


@asynccontextmanager
async def opened(server: Hostile, query: str = "anonymous=false") -> AsyncIterator[Remote]:
    remote = open_remote(f"az://account/container/?endpoint={server.url}&{query}", How(deadline=5.0))
    try:
        yield remote
    finally:
        await remote.aclose()


# -- where an account is, and what is shown ----------------------------------------------------


@pytest.mark.parametrize(
    ("options", "environ", "shows"),
    [
        ({}, {}, Shows.TOKEN),
        ({"anonymous": "true"}, {"AZURE_STORAGE_KEY": "YQ=="}, Shows.NOTHING),
        ({"sas-token": "sig=a", "account-key": "YQ=="}, {}, Shows.SAS),
        ({"account-key": "YQ=="}, {"AZURE_STORAGE_SAS_TOKEN": "sig=a"}, Shows.KEY),
        ({}, {"AZURE_STORAGE_KEY": "YQ==", "AZURE_STORAGE_SAS_TOKEN": "sig=a"}, Shows.KEY),
        ({}, {"AZURE_STORAGE_SAS_TOKEN": "?sig=a"}, Shows.SAS),
        ({}, {"AZURE_STORAGE_KEY": "YQ==", "AZURE_STORAGE_ACCOUNT": "other"}, Shows.TOKEN),
        ({}, {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=other;AccountKey=YQ=="}, Shows.TOKEN),
        ({}, {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=account;AccountKey=YQ=="}, Shows.KEY),
        (
            {},
            {"AZURE_STORAGE_CONNECTION_STRING": f"BlobEndpoint={USUAL};SharedAccessSignature=sig=a"},
            Shows.SAS,
        ),
        ({"endpoint": "https://example.org"}, {"AZURE_STORAGE_SAS_TOKEN": "sig=a"}, Shows.NOTHING),
        ({"endpoint": "https://example.org"}, {}, Shows.NOTHING),
        ({"endpoint": "https://example.org", "anonymous": "false"}, {}, Shows.TOKEN),
        ({"endpoint": "http://account.blob.core.windows.net"}, {}, Shows.NOTHING),
        ({"endpoint": "https://account.blob.core.windows.net.example.org"}, {}, Shows.NOTHING),
        ({"endpoint": "http://127.0.0.1:1"}, {"AZURE_STORAGE_SAS_TOKEN": "sig=a"}, Shows.SAS),
    ],
)
def test_what_is_set_says_what_is_shown(
    options: Mapping[str, str], environ: Mapping[str, str], shows: Shows
) -> None:
    """What works wherever it is presented is not shown to hosts that are not Microsoft's."""
    account = find("account", Options(options), environ)
    assert account.shows is shows
    assert "sig=a" not in repr(account)
    assert "YQ" not in repr(account)


def test_the_emulator_has_a_key_of_its_own() -> None:
    account = find(EMULATED, Options(), {"AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true"})
    assert (account.shows, account.endpoint) == (Shows.KEY, f"http://127.0.0.1:10000/{EMULATED}")


@pytest.mark.parametrize(
    ("options", "environ", "error"),
    [
        ({"endpoint": "http://example.org", "anonymous": "false"}, {}, UsageError),
        ({"sas-token": "s3cret"}, {}, SetupError),
        ({"account-key": "s3cret!"}, {}, SetupError),
        ({}, {"AZURE_STORAGE_CONNECTION_STRING": "BlobEndpoint=s3cret"}, UsageError),
    ],
)
def test_what_cannot_be_used_is_said_without_it(
    options: Mapping[str, str], environ: Mapping[str, str], error: type[MirrorError]
) -> None:
    with pytest.raises(error) as caught:
        find("account", Options(options), environ)
    assert "s3cret" not in str(caught.value)


def test_an_endpoint_is_another_tree() -> None:
    """The account's own is none; credentials say nothing of what is there."""
    assert key("az://account/container/a") == "az://account/container/a"
    assert key(f"az://account/container/a?anonymous&endpoint={USUAL}/") == "az://account/container/a"
    other = "az://account/container/a?endpoint=https%3A%2F%2Faccount.blob.core.chinacloudapi.cn"
    assert key("az://account/container/a?endpoint=https://account.blob.core.chinacloudapi.cn") == other


def test_what_is_signed_is_what_microsoft_says() -> None:
    """The example of "Authorize with Shared Key": headers in order, the query sorted and decoded."""
    headers = [
        (b"x-ms-version", b"2015-02-21"),
        (b"User-Agent", b"any"),
        (b"x-ms-date", b"Fri, 26 Jun 2015 23:39:12 GMT"),
    ]
    target = "/mycontainer?restype=container&comp=metadata&timeout=20"
    assert to_sign("GET", target, headers, "myaccount") == (
        b"GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
        b"/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
    )
    assert to_sign(
        "GET", "/c/a%20b?Prefix=x%2Fy", [(b"Range", b"bytes=0-1"), (b"If-Match", b'"0x1"')], "m"
    ) == (b'GET\n\n\n\n\n\n\n\n"0x1"\n\n\nbytes=0-1\n/m/c/a%20b\nprefix:x/y')


# -- tokens ------------------------------------------------------------------------------------


def bearer(number: int = 1) -> str:
    """A token such as Azurite takes: it looks at issuer, audience and times, and at no signature."""
    now = int(time.time())
    about = {"iss": "https://sts.windows.net/test/", "aud": "https://storage.azure.com", "jti": number}
    parts = [{"alg": "RS256", "typ": "JWT"}, {**about, "nbf": now - 60, "iat": now - 60, "exp": now + 3600}]
    words = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*words, "c2lnbmF0dXJl"])


def identity(monkeypatch: pytest.MonkeyPatch, *tokens: str) -> ByBeginning:
    """What a managed identity's endpoint answers; each one once, the last one ever after."""
    until = int(time.time()) + 3600
    about = {"expires_on": str(until), "resource": "https://storage.azure.com", "token_type": "Bearer"}
    monkeypatch.setenv("IDENTITY_HEADER", "s3cret-header")
    return ByBeginning({"/msi": in_turn(*(said({"access_token": token, **about}) for token in tokens))})


async def test_a_token_of_a_managed_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azurite takes it, over https."""
    files = certificate(tmp_path, "IP:127.0.0.1")
    with hostile(identity(monkeypatch, bearer())) as giver, azurite(certificate=files) as container:
        container.put("folder/a", b"content")
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{giver.url}msi")
        source = container.source("folder/", ca=str(files[0]), anonymous="false").replace(
            EMULATED, "account", 1
        )
        remote = open_remote(source, How(deadline=20.0))
        found = await remote.list("")
        assert isinstance(found, Listing)
        assert [(entry.name, entry.kind) for entry in found.entries] == [("a", Kind.FILE)]
        await remote.aclose()
        assert len(giver.seen) == 1


async def test_a_refused_token_is_replaced_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty requests are refused at once, and one new token is fetched."""
    with hostile(identity(monkeypatch, "revoked", "fresh")) as giver:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{giver.url}msi")
        shown = guarded(lambda seen: seen.headers.get("authorization") == "Bearer fresh", gives(page("a")))
        with hostile(ByBeginning({LISTING: shown})) as server:
            async with opened(server) as remote, trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(remote.list, "")
        assert len(giver.seen) == 2


async def test_without_credentials_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, though azure-identity has twenty."""
    with hostile(ByBeginning({"/msi": status(400)})) as giver, hostile(ByBeginning()) as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{giver.url}msi")
        monkeypatch.setenv("IDENTITY_HEADER", "s3cret-header")
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
        async with opened(server) as remote:
            with pytest.raises((AccessDenied, Transient)) as caught:
                await remote.list("")
    assert "\n" not in str(caught.value)


def test_without_azure_identity_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and signatures need none."""
    monkeypatch.setitem(sys.modules, "mirror.remotes.azure.credentials", None)
    with pytest.raises(SetupError, match=r"pip install 'mirrorfs\[azure\]'"):
        open_remote("az://account/container/")
    open_remote("az://account/container/?anonymous=true")
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    open_remote("az://account/container/")


async def test_no_secret_is_ever_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither key, signature nor token stands in an error, a log line, or what the remote is called."""
    caplog.set_level(logging.DEBUG)
    secret = "s3cret" * 4
    texts = []
    for name, value in (
        ("AZURE_STORAGE_KEY", base64.b64encode(secret.encode()).decode()),
        ("AZURE_STORAGE_SAS_TOKEN", f"sv=2021-12-02&sig={secret}"),
        ("IDENTITY_HEADER", secret),
    ):
        with monkeypatch.context() as set_, hostile(identity(set_, secret)) as giver:
            set_.setenv("IDENTITY_ENDPOINT", f"{giver.url}msi")
            set_.setenv(name, value)
            with hostile(ByBeginning({"/": status(403)})) as server:
                async with opened(server) as remote:
                    for question in (remote.list(""), remote.stat("a")):
                        with pytest.raises(AccessDenied) as caught:
                            await question
                        cause: BaseException | None = caught.value
                        while cause is not None:
                            texts += [str(cause), repr(cause)]
                            cause = cause.__cause__ or cause.__context__
                    texts += [remote.url, repr(remote)]
                assert len(server.seen) == 2
    everything = "\n".join([*texts, caplog.text])
    assert secret not in everything
    assert base64.b64encode(secret.encode()).decode() not in everything


# -- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said_so", "error", "words"),
    [
        (403, "AuthorizationPermissionMismatch", AccessDenied, "Storage Blob Data Reader"),
        (403, "AuthenticationFailed", AccessDenied, "clock"),
        (403, "", AccessDenied, "403"),
        (404, "ContainerNotFound", OriginFailed, "no such container"),
        (404, "ResourceNotFound", OriginFailed, "no such container"),
        (503, "ServerBusy", Transient, "ServerBusy"),
        (500, "OperationTimedOut", Transient, "OperationTimedOut"),
        (429, "", Transient, "429"),
        (409, "AccountIsDisabled", AccessDenied, "disabled"),
        (400, "InvalidQueryParameterValue", OriginFailed, "400"),
    ],
)
async def test_each_failure_is_what_it_is(
    code: int, said_so: str, error: type[MirrorError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    failing = status(code, {"Retry-After": 7, **({"x-ms-error-code": said_so} if said_so else {})})
    with hostile(ByBeginning({LISTING: failing})) as server:
        async with opened(server) as remote:
            with pytest.raises(error, match=words) as caught:
                await remote.list("")
    assert type(caught.value) is error
    if isinstance(caught.value, Transient):
        assert caught.value.retry_after == 7.0


async def test_what_is_not_public_is_not_taken_for_gone() -> None:
    """To somebody without credentials a private container says 404 for everything."""
    with hostile(ByBeginning({"/": status(404, {"x-ms-error-code": "ResourceNotFound"})})) as server:
        async with opened(server, "anonymous=true") as remote:
            for question in (remote.list(""), remote.stat("a")):
                with pytest.raises(AccessDenied, match="not public"):
                    await question


async def test_a_blob_that_is_being_rehydrated_says_so() -> None:
    with hostile(ByBeginning({BLOB: status(409, {"x-ms-error-code": "BlobBeingRehydrated"})})) as server:
        async with opened(server, "anonymous=true") as remote:
            with pytest.raises(OriginFailed, match="being rehydrated"):
                async with remote.open_part("a"):
                    pass


async def test_a_directory_of_a_hierarchical_namespace_is_no_file() -> None:
    """Its resource type says so."""
    from mirror.errors import IsAFolder

    headers = {"Content-Length": 0, "ETag": '"0x1"', "x-ms-resource-type": "directory"}
    with hostile(ByBeginning({BLOB: answer(200, headers)})) as server:
        async with opened(server, "anonymous=true") as remote:
            with pytest.raises(IsAFolder):
                await remote.stat("a")
            with pytest.raises(IsAFolder):
                async with remote.open_part("a"):
                    pass


# -- listings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        page("a")[:-30],
        b'<!DOCTYPE a [<!ENTITY b "c">]><EnumerationResults/>',
        b"<EnumerationResults>" + b"<a>" * 100,
        b"<EnumerationResults><Blobs><Blob><Name>"
        + b"x" * 20_000
        + b"</Name></Blob></Blobs></EnumerationResults>",
        b"<EnumerationResults><Blobs><Blob></Blob></Blobs></EnumerationResults>",
    ],
)
async def test_what_is_no_listing_is_no_empty_folder(body: bytes) -> None:
    """Nor is anything that declares a document type, or has no end of depth or length, read."""
    with hostile(ByBeginning({LISTING: gives(body)})) as server:
        async with opened(server, "anonymous=true") as remote:
            with pytest.raises(ProtocolError, match="no listing of a container"):
                await remote.list("")


def test_names_that_xml_cannot_hold_are_decoded() -> None:
    """And only those that say that they are encoded."""
    text = (
        b'<EnumerationResults><Blobs><Blob><Name Encoded="true">a%EF%BF%BE%20</Name></Blob>'
        b"<Blob><Name>b%20</Name></Blob></Blobs></EnumerationResults>"
    )
    assert [blob.key for blob in listing.page(text).objects] == ["a\ufffe ", "b%20"]


def test_a_directory_in_a_listing_is_a_folder() -> None:
    """By its resource type, in accounts with a hierarchical namespace."""
    text = (
        b"<EnumerationResults><Blobs><Blob><Name>a</Name><Properties>"
        b"<ResourceType>directory</ResourceType></Properties></Blob></Blobs></EnumerationResults>"
    )
    [found] = listing.page(text).objects
    assert found.folder
