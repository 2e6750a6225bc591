"""Repositories of the Hub: the contract, and what is the Hub's own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from mirror.errors import (
    AccessDenied,
    BrokenPromise,
    IsAFolder,
    MirrorError,
    NotFound,
    OriginFailed,
    SetupError,
    Transient,
    VersionChanged,
)
from mirror.remotes import How, key, open_remote
from mirror.remotes.base import Kind, Listing, NotModified, Remote, Scanner
from mirror.remotes.hub import remote as hub_remote
from tests.remotes.contract import RemoteContract, read
from tests.support.hub import LFS_FROM, Hub, hub

Opened = Callable[..., Any]

SMALL = b"a few bytes"
LARGE = bytes(range(256)) * 40
FILES = {"small.txt": SMALL, "data/large.bin": LARGE, "data/more/deep.txt": b"deep", "none": b""}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test uses the token of whoever runs it."""
    for name in [name for name in os.environ if name.startswith(("HF_", "MIRROR_", "XDG_", "HUGGING"))]:
        monkeypatch.delenv(name)


@pytest.fixture
async def opening() -> AsyncIterator[Opened]:
    """Open sources, closed at the end."""
    async with AsyncExitStack() as stack:

        def opener(source: str) -> Remote:
            remote = open_remote(source, How(deadline=20.0))
            stack.push_async_callback(remote.aclose)
            return remote

        yield opener


async def listed(remote: Remote, path: str = "", validator: str | None = None) -> dict[str, Any]:
    listing = await remote.list(path, validator)
    assert isinstance(listing, Listing)
    return {entry.name: entry for entry in listing.entries}


async def whole(remote: Remote, path: str, validator: str | None = None) -> bytes:
    async with remote.open_part(path, validator=validator) as part:
        return await read(part)


# -- the contract ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(root: Path) -> dict[str, bytes]:
    """The files of the common tree."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="class")
def server(request: pytest.FixtureRequest, tree: dict[str, bytes]) -> Iterator[Hub]:
    """The class's server."""
    with hub(tree, **request.cls.how) as server:
        yield server


class HubContract(RemoteContract):
    keeps_times = False
    states_times = False
    keeps_empty_folders = False
    foreign = "git:" + "0" * 40
    how: ClassVar[dict[str, object]] = {}

    @pytest.fixture
    async def remote(self, server: Hub, opening: Opened) -> Remote:
        remote: Remote = opening(server.source())
        return remote


class TestDataset(HubContract):
    pass


class TestModel(HubContract):
    how: ClassVar[dict[str, object]] = {"kind": "models", "page": 3, "cached": True}


class TestSpaceWithTimes(HubContract):
    how: ClassVar[dict[str, object]] = {"kind": "spaces"}

    @pytest.fixture
    async def remote(self, server: Hub, opening: Opened) -> Remote:
        remote: Remote = opening(f"{server.source()}&times=true")
        return remote

    async def test_stat_is_the_file(self, remote: Remote, root: Path) -> None:
        """Listing and stat have the date of the last commit; the bytes come without one."""
        entry = await remote.stat("plain.bin")
        assert entry == (await listed(remote))["plain.bin"]
        assert entry.mtime_ns == 1709294400_000_000_000

    async def test_a_whole_file(self, remote: Remote, root: Path) -> None:
        """The bytes come without a date, as the store has one of its own."""
        assert await whole(remote, "folder/deep.bin") == (root / "folder/deep.bin").read_bytes()


# -- commits ---------------------------------------------------------------------------------


async def test_a_branch_that_has_not_moved_is_not_listed_again(
    opening: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One small request confirms every listing; within a moment not even that is needed."""
    with hub(FILES) as server:
        remote = opening(server.source())
        listing = await remote.list("")
        commit = server.refs["main"]
        assert server.paths == [
            "GET /api/datasets/org/name/revision/main",
            f"GET /api/datasets/org/name/tree/{commit}",
        ]
        assert isinstance(await remote.list("", listing.validator), NotModified)
        assert len(server.seen) == 2
        monkeypatch.setattr(hub_remote, "AGAIN", 0.0)
        assert isinstance(await remote.list("", listing.validator), NotModified)
        assert len(server.seen) == 3


async def test_a_branch_that_moves(opening: Opened) -> None:
    """The new commit shows when a folder is listed anew; what it did not touch keeps its validator."""
    with hub(FILES) as server:
        old = opening(server.source())
        before = await listed(old)
        listing = await old.list("")
        server.push({**FILES, "small.txt": b"other", "new": b"n"})
        new = opening(server.source())
        after = await listed(new, "", listing.validator)
        assert after["none"] == before["none"]
        assert after["small.txt"].validator != before["small.txt"].validator
        assert (await listed(new, "data"))["large.bin"] == (await listed(old, "data"))["large.bin"]
        assert await whole(new, "new") == b"n"


async def test_an_older_commit_than_the_listing(opening: Opened) -> None:
    """Another process has listed since: its version is looked for at the newest commit."""
    with hub(FILES) as server:
        old = opening(server.source())
        was = (await listed(old))["small.txt"].validator
        server.push({**FILES, "small.txt": b"other", "new": b"n"})
        new = (await listed(opening(server.source())))["small.txt"].validator
        assert await whole(old, "small.txt", was) == SMALL
        assert await whole(old, "small.txt", new) == b"other"
        with pytest.raises(VersionChanged):
            await whole(old, "small.txt", was)


async def test_a_commit_is_asked_for_by_nobody(opening: Opened) -> None:
    """A source that names a commit in full shows it for ever."""
    with hub(FILES) as server:
        commit = server.refs["main"]
        remote = opening(server.source(f"@{commit}"))
        server.push({"other": b""})
        listing = await remote.list("")
        assert set(await listed(remote)) == {"small.txt", "data", "none"}
        assert isinstance(await remote.list("data", listing.validator), NotModified)
        assert not any("revision" in path for path in server.paths)


@pytest.mark.parametrize("ref", ["v1.0", "refs/pr/1", "a/b+c"])
async def test_other_revisions(ref: str, opening: Opened) -> None:
    with hub({"main": b""}) as server:
        server.push({"there": b"1"}, ref)
        remote = opening(server.source(f"@{quote(ref, safe='')}"))
        assert set(await listed(remote)) == {"there"}
        assert await whole(remote, "there") == b"1"


async def test_a_folder_of_a_repository(opening: Opened) -> None:
    """The tree begins where the source says."""
    with hub(FILES) as server:
        remote = opening(server.source("/data"))
        assert set(await listed(remote)) == {"large.bin", "more"}
        assert set(await listed(remote, "more")) == {"deep.txt"}
        assert (await remote.stat("more/deep.txt")).size == 4
        assert await whole(remote, "large.bin") == LARGE
        assert isinstance(remote, Scanner)
        pages = [page async for page in remote.scan()]
        assert [path for page in pages for path, _ in page.files] == ["large.bin", "more/deep.txt"]


async def test_a_renamed_repository(opening: Opened) -> None:
    """The Hub redirects, and the token goes along, for it is the same origin."""
    with hub(FILES, elsewhere=True, token="hf_right") as server:
        os.environ["MIRROR_HF_TOKEN"] = "hf_right"
        try:
            remote = opening(server.source().replace("org/name", "old/name"))
            assert (await listed(remote))["small.txt"] == await remote.stat("small.txt")
            assert await whole(remote, "data/large.bin") == LARGE
        finally:
            del os.environ["MIRROR_HF_TOKEN"]


# -- everything at once ----------------------------------------------------------------------


async def test_scan(opening: Opened) -> None:
    """All files, page by page; a cursor goes on behind its page, at the commit it began with."""
    files = {f"d{number % 7}/f{number}": b"%d" % number for number in range(40)}
    with hub(files, page=10) as server:
        remote = opening(server.source())
        pages = [page async for page in remote.scan()]
        assert len(pages) > 3
        assert {path for page in pages for path, _ in page.files} == set(files)
        assert all(entry.kind is Kind.FILE and entry.validator for page in pages for _, entry in page.files)
        assert pages[-1].cursor is None
        server.push({"other": b""})
        again = [page async for page in opening(server.source()).scan("", pages[1].cursor)]
        assert again == pages[2:]
        below = [page async for page in remote.scan("d3")]
        assert {path for page in below for path, _ in page.files} == {
            path for path in files if path[:3] == "d3/"
        }
        assert [page.files async for page in remote.scan("absent")] == [()]


# -- what is checked -------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [False, True])
async def test_what_git_keeps_is_held_against_its_id(opening: Opened, cached: bool) -> None:
    with hub(FILES, cached=cached, spoiled={"small.txt"}) as server:
        remote = opening(server.source())
        with pytest.raises(BrokenPromise, match=r"small\.txt"):
            await whole(remote, "small.txt")
        server.spoiled.clear()
        assert await whole(remote, "small.txt") == SMALL


async def test_what_lfs_keeps_has_a_digest(opening: Opened) -> None:
    """The SHA-256 comes with every part, whatever the store says of itself."""
    with hub(FILES) as server:
        remote = opening(server.source())
        entry = await remote.stat("data/large.bin")
        for start, stop in ((0, None), (5, 10)):
            async with remote.open_part("data/large.bin", start, stop, validator=entry.validator) as part:
                assert f"sha256:{part.digest.value.hex()}" == entry.validator == part.entry.validator
                assert await read(part) == LARGE[start:stop]
        assert len(server.stored) == 2


async def test_the_store_is_told_nothing(opening: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token goes to the Hub alone, and no condition that the store would misunderstand is sent."""
    monkeypatch.setenv("MIRROR_HF_TOKEN", "hf_right")
    with hub(FILES, token="hf_right") as server:
        remote = opening(server.source())
        await listed(remote)
        await whole(remote, "data/large.bin")
        assert {asked.headers.get("authorization") for asked in server.seen} == {"Bearer hf_right"}
        (stored,) = server.stored
        assert not {"authorization", "cookie", "if-match", "if-range"} & set(stored.headers)


# -- tokens ----------------------------------------------------------------------------------


def _in_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", " hf_right\n")


def _in_a_named_file(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    (home / "secret").write_text("hf_right\n")
    monkeypatch.setenv("HF_TOKEN_PATH", str(home / "secret"))


def _in_hf_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    (home / "token").write_text("hf_right")
    monkeypatch.setenv("HF_HOME", str(home))


def _in_the_cache(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    folder = home / ".cache" / "huggingface"
    folder.mkdir(parents=True)
    (folder / "token").write_text("hf_right\n")


def _in_settings(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    file = home / "mirror.toml"
    file.write_text('["hf://datasets/org"]\ntoken = "hf_right"\n')
    file.chmod(0o600)
    monkeypatch.setenv("MIRROR_CONFIG", str(file))


@pytest.mark.parametrize(
    "where", [_in_environment, _in_a_named_file, _in_hf_home, _in_the_cache, _in_settings]
)
async def test_where_the_token_is(
    where: Callable[[pytest.MonkeyPatch, Path], None],
    opening: Opened,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """In the places of the Hub's own tools; what is set for the source goes first."""
    where(monkeypatch, tmp_path)
    with hub(FILES, token="hf_right") as server:
        monkeypatch.setenv("HF_ENDPOINT", f"{server.endpoint}/")
        remote = opening("hf://datasets/org/name")
        assert "small.txt" in await listed(remote)
        assert remote.url == server.source() == key("hf://datasets/org/name")


async def test_the_token_of_the_tools_is_for_the_hub_that_the_user_chose(
    opening: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address in a URL may be anybody's: it gets a token only from mirror's own settings."""
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    with hub(FILES) as server:
        await listed(opening(server.source()))
        assert all("authorization" not in asked.headers for asked in server.seen)


@pytest.mark.parametrize("token", ["hf right", "hf_\u00fc"])
def test_a_token_that_is_none(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(SetupError) as caught:
        open_remote("hf://org/name")
    assert token not in str(caught.value)


def test_a_named_token_file_must_be_readable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path))
    with pytest.raises(SetupError, match="HF_TOKEN"):
        open_remote("hf://org/name")


# -- failures --------------------------------------------------------------------------------


async def failure(remote: Remote) -> MirrorError:
    with pytest.raises(MirrorError) as caught:
        await remote.list("")
    assert "\n" not in str(caught.value)
    return caught.value


async def test_no_token_or_a_wrong_one(opening: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a repository is private or not there, the Hub does not say: that is a refusal."""
    with hub(FILES, token="hf_right") as server:
        error = await failure(opening(server.source()))
        assert isinstance(error, AccessDenied)
        assert "HF_TOKEN" in str(error)
        monkeypatch.setenv("MIRROR_HF_TOKEN", "hf_wrong")
        error = await failure(opening(server.source()))
        assert isinstance(error, AccessDenied)
        assert "not valid" in str(error)
        assert "hf_wrong" not in str(error)


async def test_a_gated_repository(opening: Opened) -> None:
    """Its names are public, its bytes are not; the page to ask for access is named."""
    with hub(FILES, gated=True) as server:
        remote = opening(server.source())
        assert "small.txt" in await listed(remote)
        with pytest.raises(AccessDenied, match=f"gated.*{server.endpoint}/datasets/org/name"):
            await whole(remote, "small.txt")


async def test_no_such_repository_or_revision(opening: Opened) -> None:
    """The source as a whole is not there: no reason to take one of its files for deleted."""
    with hub(FILES) as server:
        error = await failure(opening(server.source().replace("org/name", "org/other")))
        assert isinstance(error, OriginFailed)
        assert "no repository org/other" in str(error)
        error = await failure(opening(server.source("@v2")))
        assert isinstance(error, OriginFailed)
        assert "no revision 'v2'" in str(error)


async def test_what_a_commit_does_not_have(opening: Opened) -> None:
    with hub(FILES) as server:
        remote = opening(server.source())
        for path in ("absent", "data/absent"):
            with pytest.raises(NotFound):
                await whole(remote, path)
            with pytest.raises(NotFound):
                await remote.list(path)
        with pytest.raises(IsAFolder):
            await whole(remote, "data")


async def test_too_many_requests(opening: Opened) -> None:
    """The Hub says when its window ends."""
    with hub(FILES, busy=1) as server:
        error = await failure(opening(server.source()))
        assert isinstance(error, Transient)
        assert error.retry_after == 1.0


async def test_the_store_fails(opening: Opened) -> None:
    """What the store does not have or allow says nothing about the file: the Hub has it."""
    with hub(FILES) as server:
        remote = opening(server.source())
        entry = await remote.stat("data/large.bin")
        server.links = _Forgetful()
        with pytest.raises(Transient, match="store"):
            await whole(remote, "data/large.bin", entry.validator)


class _Forgetful(dict[str, str]):
    def __setitem__(self, link: str, path: str) -> None:
        """Give out links that lead nowhere."""


def test_files_are_of_both_kinds() -> None:
    assert len(SMALL) < LFS_FROM < len(LARGE)
