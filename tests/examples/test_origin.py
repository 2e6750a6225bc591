"""The example's web server keeps what a mount relies on: exact listings, strong ETags, honest ranges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import origin
import pytest
import sample


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a b%.bin").write_bytes(bytes(range(100)))
    (tmp_path / "empty").touch()
    return tmp_path


@pytest.fixture
def client(root: Path) -> Iterator[httpx.Client]:
    with origin.serving(root) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


def test_a_folder_is_listed_with_exact_sizes(client: httpx.Client) -> None:
    listing = {entry["name"]: entry for entry in json.loads(client.get("/").read())}
    assert listing["folder"]["type"] == "directory"
    assert listing["empty"]["size"] == 0
    assert json.loads(client.get("/folder/").read())[0]["name"] == "a b%.bin"


def test_a_folder_without_its_slash_is_redirected(client: httpx.Client) -> None:
    answer = client.get("/folder")
    assert answer.status_code == 301
    assert answer.headers["Location"] == "/folder/"


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=90-", 90, 100), ("bytes=-5", 95, 100), ("bytes=50-1000", 50, 100)],
)
def test_a_range_is_answered_exactly(client: httpx.Client, asked: str, start: int, stop: int) -> None:
    answer = client.get("/folder/a%20b%25.bin", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/100"
    assert answer.content == bytes(range(start, stop))


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(client: httpx.Client, asked: str) -> None:
    answer = client.get("/folder/a%20b%25.bin", headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == "bytes */100"


def test_several_ranges_are_answered_with_the_whole_file(client: httpx.Client) -> None:
    answer = client.get("/folder/a%20b%25.bin", headers={"Range": "bytes=0-1,5-6"})
    assert answer.status_code == 200
    assert len(answer.content) == 100


def test_conditions_are_kept(client: httpx.Client) -> None:
    etag = client.head("/folder/a%20b%25.bin").headers["ETag"]
    assert not etag.startswith("W/")
    asked = "/folder/a%20b%25.bin"
    assert client.get(asked, headers={"If-None-Match": etag}).status_code == 304
    assert client.get(asked, headers={"If-Match": '"other"'}).status_code == 412
    assert client.get(asked, headers={"If-Match": etag, "Range": "bytes=0-0"}).status_code == 206
    assert client.get(asked, headers={"If-Range": '"other"', "Range": "bytes=0-0"}).status_code == 200


@pytest.mark.parametrize("asked", ["/missing", "/..%2f..%2fetc/passwd", "/%00"])
def test_what_is_not_below_the_root_is_not_there(client: httpx.Client, asked: str) -> None:
    assert client.get(asked).status_code == 404


def test_an_empty_file_is_an_answer(client: httpx.Client) -> None:
    answer = client.get("/empty")
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_sample_is_the_same_every_time(tmp_path: Path) -> None:
    shape = sample.Shape(small_files=10, small_bytes=100, shards=1, shard_bytes=1000)
    for name in ("one", "two"):
        sample.generate(tmp_path / name, shape)
    one, two = (
        {
            path.relative_to(tmp_path / name): (path.read_bytes(), path.stat().st_mtime)
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("one", "two")
    )
    assert len(one) == 11
    assert one == two
