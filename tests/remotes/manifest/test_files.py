"""What a row says against what a server says, and secrets."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

import httpx
import pytest

from mirror.errors import (
    AccessDenied,
    MirrorError,
    NotFound,
    OriginFailed,
    ProtocolError,
    UsageError,
    VersionChanged,
)
from mirror.http import connection
from mirror.remotes import How, open_remote
from mirror.remotes.base import Listing
from mirror.remotes.manifest.remote import _Credentials
from mirror.remotes.options import Options
from tests.remotes.contract import read
from tests.remotes.manifest.lists import GOOD, Opened, content, write
from tests.support.hostile import Behaviour, good, hostile
from tests.support.lists import rows_of
from tests.support.servers import Server, nginx


async def test_the_version_of_a_file_is_what_the_list_says(listed: Opened) -> None:
    """sha256, else md5, else etag; a checksum alone is a promise, but tells no versions apart."""
    remote = listed(
        [
            {**GOOD, "path": "a", "sha256": "AB" * 32, "md5": "cd" * 16, "etag": '"e"'},
            {**GOOD, "path": "b", "md5": "cd" * 16, "etag": "e"},
            {**GOOD, "path": "c", "etag": "e"},
            {**GOOD, "path": "d", "crc32c": "00000001"},
        ]
    )
    listing = await remote.list("")
    assert isinstance(listing, Listing)
    assert [entry.validator for entry in listing.entries] == [
        "sha-256:" + "ab" * 32,
        "md5:" + "cd" * 16,
        'etag:"e"',
        None,
    ]


async def test_the_strongest_digest_is_promised(listed: Opened, folder: Path, origin: Server) -> None:
    data = (folder / "a.bin").read_bytes()
    row = {
        "path": "a",
        "url": f"{origin.url}a.bin",
        "crc32c": "00000001",
        "md5": hashlib.md5(data).hexdigest(),
    }
    remote = listed([row])
    async with remote.open_part("a") as part:
        assert str(part.digest) == f"md5:{row['md5']}"


async def test_another_size_than_the_list_says_is_an_error(
    listed: Opened, folder: Path, origin: Server
) -> None:
    """With the numbers; with and without a digest, in a part and when it is asked about."""
    for digests in (True, False):
        rows = rows_of(folder, origin.url, digests=digests)
        rows[0]["size"] += 1
        remote = listed(rows)
        with pytest.raises(ProtocolError, match="1001 bytes by the manifest, and 1000 by the server"):
            await content(remote, "a.bin")
    with pytest.raises(ProtocolError, match="1001 bytes"):
        await remote.stat("a.bin")


async def test_a_url_that_is_gone_does_not_take_the_name_away(
    listed: Opened, folder: Path, origin: Server
) -> None:
    """404 from the server of a file is a failure: the list says that it is there."""
    for digests in (True, False):
        remote = listed(rows_of(folder, origin.url, digests=digests))
        (folder / "a.bin").rename(folder / "moved")
        with pytest.raises(OriginFailed, match=r"404.*the manifest says that it is there"):
            await content(remote, "a.bin")
        (folder / "moved").rename(folder / "a.bin")
    (folder / "a.bin").unlink()
    with pytest.raises(OriginFailed, match="the manifest says"):
        await remote.stat("a.bin")


async def test_a_list_that_is_out_of_date_is_asked_for_again_first(
    listed: Opened, folder: Path, origin: Server, tmp_path: Path
) -> None:
    """The file and its list changed: its reader hears of another version, or that it is gone."""
    remote = listed(rows_of(folder, origin.url), recent=1e9)
    await remote.list("")
    remote._recent = 0.0
    old = (await remote.stat("a.bin")).validator
    remote._recent = 1e9
    (folder / "a.bin").write_bytes(b"new")
    write(tmp_path / "list.jsonl", rows_of(folder, origin.url))
    remote._recent = 0.0
    with pytest.raises(VersionChanged):
        await content(remote, "a.bin", old)
    (folder / "a.bin").unlink()
    write(tmp_path / "list.jsonl", rows_of(folder, origin.url))
    with pytest.raises(NotFound):
        await content(remote, "a.bin")


async def test_parts_of_two_versions_are_not_mixed(listed: Opened, folder: Path, origin: Server) -> None:
    """A digest is of the whole; of parts, the server's ETag tells that they belong together."""
    remote = listed(rows_of(folder, origin.url))
    validator = (await remote.stat("sub/b.bin")).validator
    async with remote.open_part("sub/b.bin", 0, 1000, validator=validator) as part:
        assert await read(part) == b"b" * 1000
    (folder / "sub" / "b.bin").write_bytes(b"x" * 2000)
    os.utime(folder / "sub" / "b.bin", (1, 1))
    with pytest.raises(VersionChanged):
        async with remote.open_part("sub/b.bin", 1000, 2000, validator=validator):
            pytest.fail("bytes of another version")
    # It begins anew then, and the digest tells that this is not the file either.
    async with remote.open_part("sub/b.bin", validator=validator) as part:
        assert str(part.digest) == validator


async def test_another_etag_than_the_list_says_is_an_error(
    listed: Opened, folder: Path, origin: Server
) -> None:
    remote = listed([{"path": "a", "url": f"{origin.url}a.bin", "size": 1000, "etag": "other"}])
    with pytest.raises(ProtocolError, match="not the one in the manifest"):
        await content(remote, "a")


async def test_signed_urls_are_used_and_never_shown(
    listed: Opened, origin: Server, caplog: pytest.LogCaptureFixture, folder: Path
) -> None:
    """Not in messages, not in the log, not in what the remote says of itself."""
    caplog.set_level(logging.DEBUG)
    remote = listed([{"path": "a", "url": f"{origin.url}a.bin?key=geheim", "sha256": "00" * 32}])
    assert await content(remote, "a") == b"a" * 1000
    assert origin.requests()[-1].uri == "/a.bin?key=geheim"
    assert remote.address("a") is None
    (folder / "a.bin").unlink()
    with pytest.raises(OriginFailed) as caught:
        await content(remote, "a")
    origin.stop()
    with pytest.raises(MirrorError) as refused:
        await content(remote, "a")
    listing = await remote.list("")
    for said in (str(caught.value), str(refused.value), caplog.text, repr(listing), remote.url):
        assert "geheim" not in said


async def test_a_signed_url_that_has_expired_is_replaced_by_that_of_a_newer_list(
    listed: Opened, folder: Path, origin: Server, tmp_path: Path
) -> None:
    """The file stays the same version, for its digest does."""
    rows = rows_of(folder, origin.url)
    rows[0]["url"] += "?key=old"
    remote = listed(rows)
    validator = (await remote.stat("a.bin")).validator
    with pytest.raises(AccessDenied):
        await content(remote, "a.bin", validator)
    rows[0]["url"] = rows[0]["url"].replace("old", "new")
    write(tmp_path / "list.jsonl", rows)
    assert await content(remote, "a.bin", validator) == b"a" * 1000


async def test_credentials_are_those_of_each_host(
    folder: Path, tmp_path: Path, listed: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """netrc, by the host of a row: what one host is shown, no other sees."""
    lists = tmp_path / "lists"
    lists.mkdir()
    (tmp_path / "users").write_text("me:{PLAIN}word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password word\n")
    (tmp_path / "netrc").chmod(0o600)
    protected = f'auth_basic x; auth_basic_user_file "{tmp_path}/users";'
    with nginx(folder, extra_conf=protected) as files:
        by_name = files.url.replace("127.0.0.1", "localhost")
        remote = listed(
            [{"path": "mine", "url": f"{files.url}a.bin"}, {"path": "other", "url": f"{by_name}a.bin"}]
        )
        assert await content(remote, "mine") == b"a" * 1000
        with pytest.raises(AccessDenied, match="netrc"):
            await content(remote, "other")


async def test_a_list_that_came_over_https_sends_no_password_in_the_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host of an http URL in it is shown nothing; one of an https URL what netrc has for it."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine other.example.org login me password word\n")
    (tmp_path / "netrc").chmod(0o600)
    shown = _Credentials(httpx.URL("https://lists.example.org/l.jsonl"), Options())
    assert shown.of(httpx.URL("http://other.example.org")) is None
    assert shown.of(httpx.URL("https://other.example.org")) is not None
    assert shown.of(httpx.URL("https://lists.example.org")) is None
    own = _Credentials(httpx.URL("https://lists.example.org/l.jsonl"), Options({"token": "abc"}))
    assert own.of(httpx.URL("https://lists.example.org")) is not None
    assert own.of(httpx.URL("https://else.example.org")) is None


def test_a_local_list_has_no_host_to_show_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_MANIFEST_FILE_TOKEN", "geheim")
    with pytest.raises(UsageError, match="asked without token") as caught:
        open_remote("manifest+file:///l.csv")
    assert "geheim" not in str(caught.value)


async def test_relative_urls_are_below_the_base(folder: Path, origin: Server, tmp_path: Path) -> None:
    """Of a local list whose files are on a server: `?base=`."""
    write(tmp_path / "l.jsonl", rows_of(folder, ""))
    remote = open_remote(f"manifest+file://{tmp_path}/l.jsonl?base={origin.url}")
    try:
        assert await content(remote, "sub/b.bin") == b"b" * 2000
        assert remote.url.endswith(f"?base=http%3A%2F%2F127.0.0.1%3A{origin.port}%2F")
    finally:
        await remote.aclose()


async def test_a_list_from_the_internet_names_nothing_that_only_we_can_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for redirects: the one who wrote it is a stranger. The option for those allows it."""
    # This machine has no address of the Internet to listen on.
    monkeypatch.setattr(connection, "is_public", lambda address: address == "127.0.0.2")
    near: dict[str, Behaviour] = {"/secret": good(b"secret")}
    far: dict[str, Behaviour] = {"/open": good(b"open")}
    with hostile(near) as inside, hostile(far, host="127.0.0.2") as outside:
        rows = [{"path": "in", "url": f"{inside.url}secret"}, {"path": "out", "url": f"{outside.url}open"}]
        listing = good("".join(f"{json.dumps(row)}\n" for row in rows).encode())
        far["/list.jsonl"] = near["/list.jsonl"] = listing
        for server, option, allowed in (
            (outside, "", False),
            (outside, "?private-redirects=true", True),
            (inside, "", True),
        ):
            remote = open_remote(f"manifest+{server.url}list.jsonl{option}", How(deadline=5.0))
            try:
                assert (await remote.stat("out")).size == 4
                if allowed:
                    assert (await remote.stat("in")).size == 6
                else:
                    with pytest.raises(OriginFailed, match="private-redirects"):
                        await remote.stat("in")
                    assert not inside.seen
            finally:
                await remote.aclose()
