"""What every remote promises (`mirror.remotes.base`), as tests to be run against a real server of each.

A subclass says what its server can do and gives two fixtures: ``root``, the folder on disk, and
``remote``, opened on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import trio

from mirror.errors import IsAFolder, MirrorError, NotAFolder, NotFound, ProtocolError, VersionChanged
from mirror.remotes.base import Asked, Bulk, Kind, Listing, Pager, Part, Remote


async def read(part: Part) -> bytes:
    return b"".join([bytes(chunk) async for chunk in part])


async def begun(
    remote: Bulk, name: str, validator: str | None = None, patience: float = 10.0
) -> Asked | None:
    """Ask for a file with nobody waiting, and return once something has come; it is waited for so long."""
    came = trio.Event()
    asked = await remote.begin(name, validator, lambda _: came.set())
    if asked is None:
        return None
    with trio.move_on_after(patience):
        await came.wait()
    if not came.is_set():
        asked.cancel()
        await came.wait()
    return asked


class RemoteContract:
    """The suite."""

    lists_sizes: ClassVar[bool] = True
    """Listings state sizes in bytes."""
    lists_hidden: ClassVar[bool] = True
    """Listings have names with a leading dot."""
    ranges: ClassVar[bool] = True
    validators: ClassVar[bool] = True
    """Files have strong validators."""

    keeps_times: ClassVar[bool] = True
    """Files have the modification times that they have on disk: object stores say when they came."""
    states_times: ClassVar[bool] = True
    """Files have modification times at all."""
    parts_state_times: ClassVar[bool] = True
    """What comes with the bytes has the modification time too."""
    keeps_empty_folders: ClassVar[bool] = True
    """A folder may hold nothing: in object stores it is there because of its files."""
    foreign: ClassVar[str] = 'etag:"of another"'
    """A validator of the origin's kind that none of its files has."""

    unwaited: ClassVar[bool] = True
    """Files can be asked for with nobody waiting: over connections of HTTP/1.1 that the server keeps."""

    unserved: ClassVar[frozenset[str]] = frozenset()
    """Names that the server lists but does not serve."""
    unlisted: ClassVar[frozenset[str]] = frozenset()
    """Names that cannot be in this origin at all."""

    def is_folder(self, path: Path) -> bool:
        return path.is_dir() and (self.keeps_empty_folders or any(path.iterdir()))

    def files(self, root: Path) -> Iterator[tuple[str, Path]]:
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.name not in self.unserved | self.unlisted:
                yield str(path.relative_to(root)), path

    async def test_the_pages_of_a_folder_are_its_listing(self, remote: Remote, root: Path) -> None:
        """Where a remote lists by pages: their names, by path, and a folder that is not there."""
        if not isinstance(remote, Pager):
            return
        folders = {name.rpartition("/")[0] for name, _ in self.files(root)}
        assert len(folders) > 1
        for path in folders:
            listing = await remote.list(path)
            assert isinstance(listing, Listing)
            found = [each async for page in remote.pages(path) for each in page.files]
            prefix = f"{path}/" if path else ""
            assert found == [(prefix + entry.name, entry) for entry in listing.entries]
        with pytest.raises(NotFound):
            await anext(aiter(remote.pages("absent")))

    async def test_a_listing_is_the_folder(self, remote: Remote, root: Path) -> None:
        """Names, kinds, and sizes where they are stated, are those on disk, in every folder."""
        folders = ["", *(str(path.relative_to(root)) for path in root.rglob("*") if self.is_folder(path))]
        for folder in folders:
            listing = await remote.list(folder)
            assert isinstance(listing, Listing)
            found = {entry.name: entry for entry in listing.entries}
            assert len(found) == len(listing.entries)
            there = {
                path.name: path
                for path in (root / folder).iterdir()
                if (self.lists_hidden or not path.name.startswith("."))
                and path.name not in self.unlisted
                and (path.is_file() or self.is_folder(path))
            }
            assert set(found) == set(there)
            for name, path in there.items():
                entry = found[name]
                if path.is_dir():
                    assert (entry.kind, entry.size) == (Kind.FOLDER, None)
                    continue
                assert entry.kind is Kind.FILE
                assert entry.size == (path.stat().st_size if self.lists_sizes else None)
                if entry.mtime_ns is not None and self.keeps_times:
                    resolution = entry.mtime_resolution_ns
                    assert entry.mtime_ns // resolution == path.stat().st_mtime_ns // resolution

    async def test_stat_is_the_file(self, remote: Remote, root: Path) -> None:
        """Size and mtime of every file, whatever its name; a validator where the server has one."""
        for name, path in self.files(root):
            entry = await remote.stat(name)
            assert (entry.name, entry.kind, entry.size) == (path.name, Kind.FILE, path.stat().st_size)
            assert (entry.mtime_ns is not None) == self.states_times
            resolution = max(entry.mtime_resolution_ns, 1_000_000_000)
            if self.keeps_times and entry.mtime_ns is not None:
                assert entry.mtime_ns // resolution == path.stat().st_mtime_ns // resolution
            assert (entry.validator is not None) == self.validators

    async def test_a_whole_file(self, remote: Remote, root: Path) -> None:
        """Without a range: all bytes, and the same entry as stat."""
        for name, path in self.files(root):
            async with remote.open_part(name) as part:
                assert (part.start, part.stop, part.size) == (0, path.stat().st_size, path.stat().st_size)
                assert part.ranges == self.ranges
                assert await read(part) == path.read_bytes()
            entry = await remote.stat(name)
            assert part.entry == (
                entry
                if self.parts_state_times
                else replace(entry, mtime_ns=None, mtime_resolution_ns=part.entry.mtime_resolution_ns)
            )

    async def test_a_whole_file_that_nobody_waits_for(self, remote: Remote, root: Path) -> None:
        """Where a remote can be asked so: all that comes is as if it had been waited for."""
        if not isinstance(remote, Bulk):
            return
        plain = 0
        for name, _path in self.files(root):
            async with remote.open_part(name) as part:
                body = await read(part)
            asked = await begun(remote, name, part.entry.validator)
            if asked is None:
                continue
            answer = asked.plain()
            if answer is not None:
                assert bytes(answer[1]) == body
                asked.close()
                plain += 1
            async with nullcontext(answer[0]) if answer is not None else asked.open() as again:
                for what in ("start", "stop", "size", "entry", "ranges", "digest"):
                    assert getattr(again, what) == getattr(part, what)
                assert answer is not None or await read(again) == body
        assert (plain > 0) == self.unwaited

    async def test_what_is_wrong_where_nobody_waits(self, remote: Remote) -> None:
        """It is no plain answer, and whoever goes on hears what it is."""
        if not isinstance(remote, Bulk):
            return
        other: type[MirrorError] = VersionChanged if self.validators else ProtocolError
        for name, validator, error in (("absent", None, NotFound), ("plain.bin", self.foreign, other)):
            async with remote.open_part("plain.bin") as part:
                await read(part)
            asked = await begun(remote, name, validator)
            assert (asked is not None) == self.unwaited
            if asked is not None:
                assert asked.plain() is None
                with pytest.raises(error):
                    async with asked.open():
                        pytest.fail("something was handed out")

    @pytest.mark.parametrize(
        ("start", "stop"), [(0, 1), (1, 7), (0, 256_000), (255_999, 256_000), (100, None), (5, 10**12)]
    )
    async def test_a_range(self, remote: Remote, root: Path, start: int, stop: int | None) -> None:
        """Exactly the bytes asked for, as far as there are any; the whole file where there are no ranges."""
        name = "folder/deep.bin"
        whole = (root / name).read_bytes()
        validator = (await remote.stat(name)).validator
        async with remote.open_part(name, start, stop, validator=validator) as part:
            body = await read(part)
        assert (part.ranges, part.size) == (self.ranges, len(whole))
        expected = whole[start:stop] if self.ranges else whole
        assert (part.start, part.stop) == (start if self.ranges else 0, part.start + len(expected))
        assert body == expected

    async def test_many_at_once(self, remote: Remote, root: Path) -> None:
        """Requests of many tasks do not mix."""
        whole = (root / "folder/deep.bin").read_bytes()

        async def one(start: int) -> None:
            async with remote.open_part("folder/deep.bin", start, start + 1000) as part:
                body = await read(part)
            assert body == (whole[start : start + 1000] if self.ranges else whole)

        async with trio.open_nursery() as nursery:
            for start in range(0, 40_000, 1000):
                nursery.start_soon(one, start)

    async def test_a_part_may_be_left_early(self, remote: Remote, root: Path) -> None:
        """Leaving a body unread does no harm to the next request."""
        for _ in range(3):
            async with remote.open_part("folder/deep.bin"):
                pass
            async with remote.open_part("folder/deep.bin") as part:
                async for _chunk in part:
                    break
        async with remote.open_part("folder/deep.bin") as part:
            assert await read(part) == (root / "folder/deep.bin").read_bytes()

    async def test_another_version(self, remote: Remote) -> None:
        """Asked for a version it does not hold, the origin delivers not one byte."""
        expected: type[MirrorError] = VersionChanged if self.validators else ProtocolError
        for stop in (None, 10):
            with pytest.raises(expected):
                async with remote.open_part("plain.bin", stop=stop, validator=self.foreign):
                    pytest.fail("a part of the wrong version was handed out")

    @pytest.mark.parametrize("name", ["absent", "folder/absent", "absent/absent", "plain.bin.gz"])
    async def test_what_is_not_there(self, remote: Remote, name: str) -> None:
        """NotFound from each question."""
        with pytest.raises(NotFound):
            await remote.stat(name)
        with pytest.raises(NotFound):
            await remote.list(name)
        with pytest.raises(NotFound):
            async with remote.open_part(name):
                pass

    async def test_a_folder_is_no_file(self, remote: Remote, root: Path) -> None:
        """IsAFolder for a folder asked about as a file, the root too."""
        for name in (
            "",
            *(name for name in ("folder", "two words") if self.is_folder(root / name)),
        ):
            with pytest.raises(IsAFolder):
                await remote.stat(name)
            with pytest.raises(IsAFolder):
                async with remote.open_part(name):
                    pass

    async def test_a_file_is_no_folder(self, remote: Remote) -> None:
        """A file is never listed as an empty folder; most servers only say 404."""
        with pytest.raises((NotAFolder, NotFound, ProtocolError)):
            await remote.list("folder/deep.bin")
