"""What is written, and what is refused: all of a list, with the line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.errors import (
    ProtocolError,
    SetupError,
    UsageError,
)
from mirror.remotes import canonical, key, open_remote
from mirror.remotes.base import Listing
from tests.remotes.manifest.lists import GOOD, Opened, content, write
from tests.support.lists import Fields, as_csv, jsonl, packed, parquet, rows_of
from tests.support.servers import Server


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
        ({"path": "x", "url": "https://1.2.3.400/geheim"}, "URL is not one"),
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


async def test_parquet_says_what_to_install(listed: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: everything else works without."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SetupError, match=r"pip install 'mirrorfs\[parquet\]'"):
        await listed(b"PAR1", "l.parquet").list("")


async def test_rows_are_in_a_file_that_has_no_name(listed: Opened) -> None:
    """Signed URLs are kept where nobody else can read them, and are gone with the process."""
    remote = listed([{**GOOD, "path": f"{n:06d}", "etag": os.urandom(900).hex()} for n in range(20_000)])
    await remote.list("")
    assert remote._table is not None
    assert remote._table.bytes_on_disk > 20 << 20
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    temporary = [link for link in links if "etilqs" in link]
    assert temporary
    assert all(link.endswith(" (deleted)") for link in temporary)


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
