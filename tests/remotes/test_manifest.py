"""Manifests: the contract for each format and each way to a file, and what a list promises."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar

import pytest
import trio

from cache import Kind
from mirror.errors import (
    AccessDenied,
    MirrorError,
    NotFound,
    OriginFailed,
    ProtocolError,
    UsageError,
    VersionChanged,
)
from mirror.remotes import How, canonical, key, open_remote
from mirror.remotes.base import Listing, NotModified, Remote, Scanner
from mirror.remotes.manifest import ManifestRemote
from tests.remotes.contract import RemoteContract, read
from tests.support.lists import Fields, as_csv, jsonl, packed, parquet, rows_of
from tests.support.servers import Server, nginx


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    """The files that the lists name; there are no listings of it."""
    with nginx(root, autoindex="off") as running:
        yield running


class ManifestContract(RemoteContract):
    keeps_empty_folders = False
    digests: ClassVar[bool] = True
    name: ClassVar[str] = "list.jsonl"
    content: ClassVar[Callable[[list[Fields]], bytes]] = staticmethod(jsonl)

    @pytest.fixture
    async def remote(self, server: Server, root: Path, tmp_path: Path) -> AsyncIterator[Remote]:
        (tmp_path / self.name).write_bytes(self.content(rows_of(root, server.url, digests=self.digests)))
        remote = open_remote(f"manifest+file://{tmp_path}/{self.name}", How(deadline=20.0))
        yield remote
        await remote.aclose()


class TestJsonLines(ManifestContract):
    pass


class TestCsv(ManifestContract):
    name = "list.csv"
    content = staticmethod(as_csv)


class TestParquet(ManifestContract):
    name = "list.parquet"
    content = staticmethod(parquet)


class TestWithoutDigests(ManifestContract):
    """Versions are told by the ETags of the servers."""

    digests = False


class TestOverHttp(ManifestContract):
    """The list is on a server as well, compressed, and its URLs are relative."""

    @pytest.fixture
    async def remote(self, root: Path, tmp_path: Path) -> AsyncIterator[Remote]:
        with nginx(tmp_path, extra_conf=f"location /data/ {{ alias {root}/; }}") as lists:
            (tmp_path / "list.jsonl.gz").write_bytes(packed(jsonl(rows_of(root, "data/"))))
            remote = open_remote(f"manifest+{lists.url}list.jsonl.gz", How(deadline=20.0))
            yield remote
            await remote.aclose()


class TestLocalFiles(ManifestContract):
    """The files are of this machine."""

    @pytest.fixture
    async def remote(self, root: Path, tmp_path: Path) -> AsyncIterator[Remote]:
        (tmp_path / "list.csv").write_bytes(
            as_csv(rows_of(root, f"file://{root}/", digests=False, times=False))
        )
        remote = open_remote(f"manifest+file:{tmp_path}/list.csv", How(deadline=20.0))
        yield remote
        await remote.aclose()


# -- a small list of a small server --------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    (path / "sub").mkdir(parents=True)
    (path / "a.bin").write_bytes(b"a" * 1000)
    (path / "sub" / "b.bin").write_bytes(b"b" * 2000)
    return path


@pytest.fixture
def origin(folder: Path) -> Iterator[Server]:
    with nginx(folder, extra_conf='if ($arg_key = "old") { return 403; }') as running:
        yield running


Opened = Callable[..., ManifestRemote]


@pytest.fixture
async def listed(tmp_path: Path) -> AsyncIterator[Opened]:
    """Write rows into a list, and open it; no answer about it holds for longer than a moment."""
    async with AsyncExitStack() as stack:

        def opener(
            rows: list[Fields] | bytes, name: str = "list.jsonl", recent: float = 0.0
        ) -> ManifestRemote:
            write(tmp_path / name, rows)
            source = f"manifest+file://{tmp_path}/{name}"
            remote = ManifestRemote(canonical(source), How(deadline=10.0), recent=recent)
            stack.push_async_callback(remote.aclose)
            return remote

        yield opener


def write(path: Path, rows: list[Fields] | bytes) -> None:
    """Put a list in its place at once."""
    (path.with_name("new")).write_bytes(rows if isinstance(rows, bytes) else jsonl(rows))
    (path.with_name("new")).rename(path)


async def content(remote: Remote, path: str, validator: str | None = None) -> bytes:
    async with remote.open_part(path, validator=validator) as part:
        return await read(part)


# -- spelling ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("manifest+https://Example.org:443/l.jsonl", "manifest+https://example.org/l.jsonl"),
        ("MANIFEST+HTTP://example.org/a%7Eb.csv", "manifest+http://example.org/a~b.csv"),
        ("manifest+file:/data/l.csv", "manifest+file:///data/l.csv"),
        ("manifest+file:///data/my list.csv", "manifest+file:///data/my%20list.csv"),
        (
            "manifest+file:///l.csv?base=https://example.org/d",
            "manifest+file:///l.csv?base=https%3A%2F%2Fexample.org%2Fd",
        ),
    ],
)
def test_one_spelling(source: str, expected: str) -> None:
    assert canonical(source) == canonical(expected) == expected


def test_the_base_is_part_of_what_is_cached() -> None:
    """Relative URLs in one list with another base are other files."""
    assert key("manifest+file:///l.csv?base=https://Example.org/d") == (
        "manifest+file:///l.csv?base=https%3A%2F%2Fexample.org%2Fd%2F"
    )
    assert key("manifest+file:///l.csv") == "manifest+file:///l.csv"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("manifest+file:l.csv", "begin at the root"),
        ("manifest+https://example.org/", "is a file"),
        ("manifest+https://user:secret@example.org/l.csv", "netrc"),
        ("manifest+https://example.org/l.csv?sig=secret", "no option"),
        ("manifest+ftp://example.org/l.csv", "not a kind of source"),
    ],
)
def test_refused_in_one_line(source: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        canonical(source)
    assert "secret" not in str(caught.value)


def test_a_base_is_a_folder_of_a_web_server() -> None:
    with pytest.raises(UsageError, match="base: write https"):
        open_remote("manifest+file:///l.csv?base=s3://x/")


# -- a bad list ----------------------------------------------------------------------------------

GOOD: Fields = {"path": "ok", "url": "https://example.org/ok"}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"url": "https://h/x"}, "no path"),
        ({"path": 7, "url": "https://h/x"}, "no path"),
        ({"path": "x"}, "no url"),
        ({"path": "/x", "url": "https://h/x"}, "begins with a '/'"),
        ({"path": "a/../x", "url": "https://h/x"}, "meaning of its own"),
        ({"path": "a//x", "url": "https://h/x"}, "it is empty"),
        ({"path": "a/", "url": "https://h/x"}, "it is empty"),
        ({"path": "y" * 256, "url": "https://h/x"}, "more than 255"),
        ({"path": "d/" * 3000 + "x", "url": "https://h/x"}, "more than 4096"),
        ({"path": "a\0b", "url": "https://h/x"}, "NUL"),
        ({"path": "x", "url": "https://h/x", "size": -1}, "size"),
        ({"path": "x", "url": "https://h/x", "size": 1.5}, "size"),
        ({"path": "x", "url": "https://h/x", "size": True}, "size"),
        ({"path": "x", "url": "https://h/x", "size": 2**63}, "size"),
        ({"path": "x", "url": "https://h/x", "size": "many"}, "size"),
        ({"path": "x", "url": "https://h/x", "sha256": "ab"}, "sha256 has not 64"),
        ({"path": "x", "url": "https://h/x", "sha256": "g" * 64}, "sha256 has not 64"),
        ({"path": "x", "url": "https://h/x", "md5": 5}, "md5 has not 32"),
        ({"path": "x", "url": "https://h/x", "crc32c": "123456789"}, "crc32c has not 8"),
        ({"path": "x", "url": "https://h/x", "etag": 'W/"weak"'}, "etag"),
        ({"path": "x", "url": "https://h/x", "mtime": "yesterday"}, "mtime"),
        ({"path": "x", "url": "https://user:geheim@h/x"}, "netrc"),
        ({"path": "x", "url": "https://user:80/geheim@h/x#"}, "%23"),
        ({"path": "x", "url": "s3://geheim/x"}, "s3: is no scheme"),
        ({"path": "x", "url": "https:///geheim"}, "no host"),
        ({"path": "x", "url": "https://h:99999/geheim"}, "the URL"),
        ({"path": "x", "url": "https://[geheim/"}, "URL is not one"),
        ({"path": "x", "url": "https://h/\nX-Geheim: 1"}, "control character"),
        ({"path": "x", "url": "file://host/geheim"}, "no host"),
        ({"path": "ok", "url": "https://h/other"}, "that of line 1 too"),
        ({"path": "ok/below", "url": "https://h/other"}, "a file in line 1 and a folder here"),
    ],
)
async def test_a_bad_row_is_named_by_its_line(listed: Opened, row: Fields, says: str) -> None:
    """The whole list is refused; the message shows no URL, which may be a secret."""
    remote = listed([GOOD, row])
    for ask in (remote.list(""), remote.stat("ok"), content(remote, "ok")):
        with pytest.raises(ProtocolError) as caught:
            await ask
        line = str(caught.value)
        assert ", line 2: " in line
        assert says in line
        assert "geheim" not in line
        assert "nothing of this manifest is used" in line


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("l.jsonl", b'{"path": "x", "url": \n', "line 1: it is not JSON"),
        ("l.jsonl", b"[1]\n", "line 1: it is not a JSON object"),
        ("l.jsonl", b'{"path": "x", "size": NaN}\n', "line 1: it is not JSON"),
        ("l.jsonl", b"[" * 100_000, "line 1: it is not JSON"),
        ("l.jsonl", b'{"size": ' + b"9" * 5000 + b"}", "line 1: it is not JSON"),
        ("l.jsonl", b'{"path": "\xff"}\n', "line 1: it is not UTF-8"),
        ("l.jsonl", b"x" * 2_000_000, "line 1: it has more than 1 MiB"),
        ("l.jsonl", b"", "there is no row"),
        ("l.csv", b"path,url,size\n", "there is no row"),
        ("l.csv", b"path,size\nx,1\n", "line 1: the header has no column url"),
        ("l.csv", b"path,url,size,size\nx,https://h/x,1,2\n", "line 1: the header has two columns size"),
        ("l.csv", b"path,url,size\nx,https://h/x\n", "line 2: it has 2 values, and the header 3"),
        ("l.csv", b'path,url\n"x"y,https://h/x\n', "line 2: it is not CSV"),
        ("l.parquet", b"PAR1 not really", "it is not Parquet"),
        ("l.parquet", parquet([{"path": "x"}]), "it has no column url"),
        ("l.parquet", parquet([GOOD, {"path": "..", "url": "https://h/"}]), "row 2: its path"),
        ("l", b"<html>", "it is neither"),
        ("l.jsonl.gz", packed(jsonl([GOOD] * 100))[:-20], "cannot be decompressed"),
    ],
)
async def test_what_is_no_list_is_refused(listed: Opened, name: str, data: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        await listed(data, name).list("")


async def test_a_bad_new_list_leaves_the_old_one_in_use(
    listed: Opened, folder: Path, origin: Server, tmp_path: Path
) -> None:
    """Listing fails, so that what is cached of it stands; files that were listed can still be had."""
    rows = rows_of(folder, origin.url)
    remote = listed(rows)
    await remote.list("")
    write(tmp_path / "list.jsonl", [*rows, {"path": ".."}])
    for _ in range(2):
        with pytest.raises(ProtocolError, match="line 3"):
            await remote.list("")
    assert await content(remote, "a.bin") == b"a" * 1000
    write(tmp_path / "list.jsonl", [*rows, {"path": "new", "url": f"{origin.url}a.bin"}])
    listing = await remote.list("")
    assert isinstance(listing, Listing)
    assert [entry.name for entry in listing.entries] == ["a.bin", "sub", "new"]


@pytest.mark.parametrize("name", ["plain", "list.json.txt"])
@pytest.mark.parametrize("form", [jsonl, as_csv, parquet])
async def test_without_an_extension_the_content_says_what_it_is(
    listed: Opened, form: Callable[[list[Fields]], bytes], name: str
) -> None:
    listing = await listed(form([GOOD]), name).list("")
    assert isinstance(listing, Listing)
    assert [entry.name for entry in listing.entries] == ["ok"]


async def test_times_are_as_exact_as_they_are_written(listed: Opened) -> None:
    stated = {
        "a": (1_700_000_000, 1_700_000_000_000_000_000, 10**9),
        "b": ("1700000000.25", 1_700_000_000_250_000_000, 10**7),
        "c": ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000, 10**9),
        "d": ("2023-11-14T23:13:20.123456789+01:00", 1_700_000_000_123_456_789, 1),
        "e": (1700000000.5, 1_700_000_000_500_000_000, 10**8),
    }
    remote = listed([{**GOOD, "path": name, "mtime": said[0]} for name, said in stated.items()])
    listing = await remote.list("")
    assert isinstance(listing, Listing)
    for entry in listing.entries:
        assert (entry.mtime_ns, entry.mtime_resolution_ns) == stated[entry.name][1:]


async def test_urls_are_quoted_where_they_have_to_be(listed: Opened, folder: Path, origin: Server) -> None:
    """A list of names with spaces and letters of any kind works as it is written."""
    (folder / "zwölf Äpfel.bin").write_bytes(b"12")
    remote = listed([{"path": "apples", "url": f"{origin.url}zwölf Äpfel.bin"}])
    assert await content(remote, "apples") == b"12"


# -- what a row says against what a server says --------------------------------------------------


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


# -- secrets -------------------------------------------------------------------------------------


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


# -- the list itself -----------------------------------------------------------------------------


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


# -- scanning ------------------------------------------------------------------------------------


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
