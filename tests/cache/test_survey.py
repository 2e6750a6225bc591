"""Sums over many files, against the same sums made file by file."""

from __future__ import annotations

import pytest

from cache import Cache, Entry, Kind, Node
from cache.patterns import Patterns
from cache.space import footprint
from cache.survey import Tally
from tests.cache.support import URL, complete, file, fill, write

TREE = {
    "a": {"1.bin": 1000, "2.bin": 2000, "b": {"3.bin": 3000, "4.txt": 40}},
    "c": {"5.bin": 5000},
    "6.bin": 6000,
}


async def listed(cache: Cache) -> Node:
    """The tree above, listed; its root."""
    root = await cache.tree.root(URL)
    folders: list[tuple[int, dict[str, object]]] = [(root.id, dict(TREE))]
    while folders:
        folder, names = folders.pop()
        entries = [
            Entry(name, Kind.FOLDER) if isinstance(what, dict) else file(name, what)  # type: ignore[arg-type]
            for name, what in names.items()
        ]
        await cache.tree.put_listing(folder, entries, validator=None, at=1.0)
        for name, what in names.items():
            if isinstance(what, dict):
                child = cache.tree.child(folder, name)
                assert child is not None
                folders.append((child.id, what))
    return root


def node_at(cache: Cache, root: Node, path: str) -> Node:
    node: Node | None = root
    for name in path.split("/"):
        assert node is not None
        node = cache.tree.child(node.id, name)
    assert node is not None
    return node


async def test_a_folder_shows_what_is_here_of_each_name(cache: Cache) -> None:
    root = await listed(cache)
    folder = node_at(cache, root, "a")
    complete(cache, node_at(cache, root, "a/1.bin"))
    filler = fill(cache, node_at(cache, root, "a/2.bin"))
    write(filler, 0, 500)
    filler.close()
    await cache.objects.sync()
    names = {found.node.name: found for found in cache.survey.folder(folder.id)}
    assert list(names) == ["1.bin", "2.bin", "b"]
    assert (names["1.bin"].complete, names["1.bin"].cached, names["1.bin"].percent) == (True, 1000, 100.0)
    assert (names["2.bin"].complete, names["2.bin"].cached, names["2.bin"].percent) == (False, 500, 25.0)
    assert names["b"].percent is None
    assert cache.survey.holding(root.id) == {0, root.id, folder.id}


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("**", ["a/1.bin", "a/2.bin", "a/b/3.bin", "a/b/4.txt", "c/5.bin", "6.bin"]),
        ("a", ["a/1.bin", "a/2.bin", "a/b/3.bin", "a/b/4.txt"]),
        ("a/b", ["a/b/3.bin", "a/b/4.txt"]),
        ("**/*.txt", ["a/b/4.txt"]),
        ("*.bin", ["6.bin"]),
        ("*", ["a/1.bin", "a/2.bin", "a/b/3.bin", "a/b/4.txt", "c/5.bin", "6.bin"]),
        ("*/[15].bin", ["a/1.bin", "c/5.bin"]),
        ("nothing", []),
    ],
)
async def test_a_tally_is_the_sum_over_what_matches(cache: Cache, pattern: str, paths: list[str]) -> None:
    root = await listed(cache)
    complete(cache, node_at(cache, root, "a/b/3.bin"))
    await cache.objects.sync()
    sizes = [node_at(cache, root, path).size or 0 for path in paths]
    there = 1 if "a/b/3.bin" in paths else 0
    assert cache.survey.tally(root.id, Patterns([pattern])) == Tally(
        files=len(paths),
        bytes=sum(sizes),
        room=sum(map(footprint, sizes)),
        cached_files=there,
        cached_bytes=3000 * there,
    )


async def test_what_was_never_listed_and_what_has_no_size_is_counted_as_such(cache: Cache) -> None:
    root = await cache.tree.root(URL)
    await cache.tree.put_listing(
        root.id, [Entry("new", Kind.FOLDER), file("unknown", None)], validator=None, at=1.0
    )
    for pattern in ("**", "*/x", "new"):
        assert cache.survey.tally(root.id, Patterns([pattern])).unlisted == 1
    assert cache.survey.tally(root.id, Patterns(["unknown"])) == Tally(files=1, unsized=1)


async def test_all_that_is_pinned_is_counted_once(cache: Cache) -> None:
    root = await listed(cache)
    await cache.pins.add(root.id, ["a", "a/1.bin", "**/3.bin"])
    assert cache.survey.pinned().files == 4
    assert cache.survey.pinned().bytes == 6040


async def test_a_footprint_is_never_less_than_what_a_file_takes(cache: Cache) -> None:
    """Else a run that was found to fit would not."""
    root = await listed(cache)
    for path in ("a/1.bin", "a/b/4.txt", "6.bin"):
        complete(cache, node_at(cache, root, path))
    await cache.objects.sync()
    for _, found in cache.survey.objects():
        assert found.occupied <= footprint(found.node.size or 0), found.node.name


async def test_totals_tell_versions_apart(cache: Cache) -> None:
    root = await listed(cache)
    complete(cache, node_at(cache, root, "6.bin"))
    complete(cache, node_at(cache, root, "c/5.bin"))
    filler = fill(cache, node_at(cache, root, "a/2.bin"))
    write(filler, 0, 500)
    filler.close()
    await cache.objects.sync()
    await cache.pins.add(root.id, ["c"])
    await cache.tree.put_entry(root.id, file("6.bin", 7), at=2.0)
    (total,) = cache.survey.totals()
    assert (total.source, total.complete, total.partial, total.superseded) == (URL, 1, 1, 1)
    occupied = {path: found.occupied for path, found in cache.survey.objects()}
    assert total.pinned_bytes == occupied["c/5.bin"]
    assert total.occupied == sum(occupied.values())
    past = list(cache.survey.objects(past_only=True))
    assert [(path, found.node.current) for path, found in past] == [("6.bin", False)]
