"""Names and versions: what listings and answers make of them, and what lasts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cache import Cache, Entry, Kind, Node
from tests.cache.support import MTIME, URL, file, folder

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


async def test_a_source_has_one_root_that_lasts(home: Path) -> None:
    async with Cache.open(home) as cache:
        root = await cache.tree.root(URL)
        other = await cache.tree.root("http://other.test/")
        assert await cache.tree.root(URL) == root
        assert root.id != other.id
    async with Cache.open(home) as cache:
        assert await cache.tree.root(URL) == root
        assert cache.tree.sources() == [(URL, root), ("http://other.test/", other)]
        assert cache.tree.path(root.id) == ""
        assert (root.parent, root.kind, root.listed_at) == (0, Kind.FOLDER, None)


async def test_a_listing_is_answered_from_the_index_after_a_restart(home: Path) -> None:
    async with Cache.open(home) as cache:
        root = await cache.tree.root(URL)
        changes = await cache.tree.put_listing(
            root.id, [folder("sub"), file("ü %41"), file("b", None)], validator="etag:1", at=5.0
        )
        sub = changes.added[0]
        deeper = await cache.tree.put_listing(sub.id, [file("x")], validator=None, at=6.0)
    async with Cache.open(home) as cache:
        tree = cache.tree
        assert tree.children(root.id) == [replace(sub, listed_at=6.0), *changes.added[1:]]
        assert tree.child(sub.id, "x") == deeper.added[0] == tree.node(deeper.added[0].id)
        assert tree.path(deeper.added[0].id) == "sub/x"
        assert tree.place(deeper.added[0].id) == (URL, "sub/x")
        assert tree.count(root.id) == 3
        assert tree.child(root.id, "nothing") is None
        assert tree.node(999) is None
        listed = tree.node(root.id)
        assert listed is not None
        assert (listed.listed_at, listed.listing_validator) == (5.0, "etag:1")
        with pytest.raises(LookupError):
            tree.path(999)


async def test_unchanged_versions_keep_their_nodes(cache: Cache) -> None:
    root = await cache.tree.root(URL)
    before = await cache.tree.put_listing(root.id, [file("a"), file("b")], validator=None, at=1.0)
    changes = await cache.tree.put_listing(root.id, [file("b"), file("a")], validator=None, at=2.0)
    assert not changes
    assert cache.tree.children(root.id) == before.added
    listed = cache.tree.node(root.id)
    assert listed is not None
    assert listed.listed_at == 2.0


async def test_another_version_is_another_node_with_the_same_cookie(cache: Cache) -> None:
    root = await cache.tree.root(URL)
    old, other = (await cache.tree.put_listing(root.id, [file("a"), file("b")], validator=None, at=1.0)).added
    changes = await cache.tree.put_listing(root.id, [file("a", 2000), file("b")], validator=None, at=2.0)
    ((superseded, new),) = changes.changed
    assert superseded == replace(old, current=False) == cache.tree.node(old.id)
    assert new.id not in (old.id, other.id)
    assert (new.entry, new.size, new.current) == (old.entry, 2000, True)
    assert new.key != old.key
    assert cache.tree.child(root.id, "a") == new
    # A directory stream that stood between the two names goes on where it was.
    assert cache.tree.children(root.id, after=new.entry) == [other]
    assert cache.tree.children(root.id, limit=1) == [new]


async def test_a_version_that_comes_back_gets_its_node_back(cache: Cache) -> None:
    """A roll-back at the origin, or a name that was away for a moment, costs no new fetch."""
    root = await cache.tree.root(URL)
    first = (await cache.tree.put_listing(root.id, [file("a")], validator=None, at=1.0)).added[0]
    await cache.tree.put_listing(root.id, [file("a", 2000)], validator=None, at=2.0)
    back = await cache.tree.put_listing(root.id, [file("a")], validator=None, at=3.0)
    assert back.changed[0][1].id == first.id
    gone = await cache.tree.put_listing(root.id, [], validator=None, at=4.0)
    assert [node.id for node in gone.removed] == [first.id]
    assert cache.tree.children(root.id) == []
    again = await cache.tree.put_entry(root.id, file("a"), 5.0)
    assert (again.id, again.current, again.checked_at) == (first.id, True, 5.0)
    await cache.tree.remove(first.id)
    changes = await cache.tree.put_listing(root.id, [file("a")], validator=None, at=6.0)
    assert [node.id for node in changes.added] == [first.id]


async def test_a_version_that_is_not_quite_the_same_does_not_come_back(cache: Cache) -> None:
    root = await cache.tree.root(URL)
    first = await cache.tree.put_entry(root.id, file("a", validator="etag:1"), 1.0)
    await cache.tree.put_entry(root.id, file("a", validator="etag:2"), 2.0)
    third = await cache.tree.put_entry(root.id, file("a", validator="etag:3"), 3.0)
    assert third.entry == first.entry
    assert len({first.id, third.id}) == 2
    assert first.key != third.key


async def test_a_removed_folder_takes_all_below_with_it(cache: Cache) -> None:
    tree = cache.tree
    root = await tree.root(URL)
    sub = (await tree.put_listing(root.id, [folder("sub")], validator=None, at=1.0)).added[0]
    deep = (await tree.put_listing(sub.id, [folder("deep")], validator="v", at=1.0)).added[0]
    leaf = (await tree.put_listing(deep.id, [file("leaf")], validator=None, at=1.0)).added[0]
    await tree.remove(sub.id)
    for node in (sub, deep, leaf):
        now = tree.node(node.id)
        assert now is not None
        assert (now.current, now.listed_at, now.listing_validator) == (False, None, None)
    assert tree.child(deep.id, "leaf") is None
    assert tree.path(leaf.id) == "sub/deep/leaf"
    # What a listing of the old folder still brings is nobody's.
    assert not await tree.put_listing(sub.id, [file("late")], validator=None, at=2.0)
    assert tree.children(sub.id) == []
    # The folder comes back as itself, and has to be listed again.
    changes = await tree.put_listing(root.id, [folder("sub")], validator=None, at=3.0)
    assert [(node.id, node.listed_at) for node in changes.added] == [(sub.id, None)]


async def test_a_file_that_becomes_a_folder_is_another_node(cache: Cache) -> None:
    root = await cache.tree.root(URL)
    old = (await cache.tree.put_listing(root.id, [file("a")], validator=None, at=1.0)).added[0]
    changes = await cache.tree.put_listing(root.id, [folder("a")], validator=None, at=2.0)
    ((before, after),) = changes.changed
    assert (before.id, after.kind, after.key) == (old.id, Kind.FOLDER, b"")


async def test_a_folder_keeps_its_node_whenever_it_was_changed(cache: Cache) -> None:
    root = await cache.tree.root(URL)
    at_first = Entry("d", Kind.FOLDER, mtime_ns=MTIME)
    node = (await cache.tree.put_listing(root.id, [at_first], validator=None, at=1.0)).added[0]
    later = replace(at_first, mtime_ns=MTIME + MINUTE)
    assert not await cache.tree.put_listing(root.id, [later], validator=None, at=2.0)
    assert cache.tree.child(root.id, "d") == replace(node, mtime_ns=MTIME + MINUTE)


async def test_a_node_learns_what_its_listing_left_out(cache: Cache) -> None:
    root = await cache.tree.root(URL)
    coarse = MTIME - MTIME % MINUTE
    listed = Entry("a", Kind.FILE, mtime_ns=coarse, mtime_resolution_ns=MINUTE)
    node = (await cache.tree.put_listing(root.id, [listed], validator=None, at=1.0)).added[0]
    assert (node.size, node.checked_at, node.listed_size) == (None, None, False)
    learned = await cache.tree.put_entry(
        root.id, Entry("a", Kind.FILE, 7, coarse + 5 * SECOND, SECOND, "etag:1"), 2.0
    )
    assert learned == replace(
        node,
        size=7,
        mtime_ns=coarse + 5 * SECOND,
        mtime_resolution_ns=SECOND,
        validator="etag:1",
        checked_at=2.0,
    )
    # The next listing knows less: it confirms, and takes nothing back.
    assert not await cache.tree.put_listing(root.id, [listed], validator=None, at=3.0)
    assert cache.tree.child(root.id, "a") == learned
    # Nor does an answer without a validator.
    assert await cache.tree.put_entry(root.id, listed, 4.0) == replace(learned, checked_at=4.0)


async def test_the_name_of_an_object_is_fixed_before_more_is_learned(home: Path, tmp_path: Path) -> None:
    """Processes agree on an object's name by what was first known, and so do caches with the same listing."""
    async with Cache.open(home) as cache, Cache.open(tmp_path / "other") as other:
        nodes: list[Node] = []
        for tree in (cache.tree, other.tree):
            root = await tree.root(URL)
            nodes += (await tree.put_listing(root.id, [file("a")], validator=None, at=1.0)).added
        learned = await cache.tree.put_entry(nodes[0].parent, file("a", validator="etag:1"), 2.0)
        assert learned.key == nodes[0].key == nodes[1].key
        assert len(learned.key) == 20


async def test_of_two_entries_with_one_name_the_first_counts(cache: Cache) -> None:
    root = await cache.tree.root(URL)
    for at in (1.0, 2.0):
        await cache.tree.put_listing(root.id, [file("a", 1), file("a", 2)], validator=None, at=at)
        assert [node.size for node in cache.tree.children(root.id)] == [1]


async def test_of_a_file_and_a_folder_with_one_name_the_folder_counts(cache: Cache) -> None:
    """An object store may have both; what is in the folder could not be reached beside the file."""
    root = await cache.tree.root(URL)
    for entries in ([file("a", 1), folder("a")], [folder("a"), file("a", 1)]):
        await cache.tree.put_listing(root.id, entries, validator=None, at=1.0)
        assert [node.kind.name for node in cache.tree.children(root.id)] == ["FOLDER"]


async def test_an_answer_about_a_new_name_makes_it_known(cache: Cache) -> None:
    root = await cache.tree.root(URL)
    node = await cache.tree.put_entry(root.id, file("a"), 3.0)
    assert cache.tree.child(root.id, "a") == node
    assert (node.checked_at, node.parent, node.source) == (3.0, root.id, root.id)
    with pytest.raises(LookupError):
        await cache.tree.put_entry(node.id, file("b"), 3.0)
    with pytest.raises(LookupError):
        await cache.tree.put_entry(999, file("b"), 3.0)


async def test_a_confirmed_listing_is_as_fresh_as_a_new_one(cache: Cache) -> None:
    root = await cache.tree.root(URL)
    await cache.tree.confirm_listing(root.id, 1.0)
    assert await cache.tree.root(URL) == root, "what was never listed cannot be confirmed"
    await cache.tree.put_listing(root.id, [], validator="v", at=2.0)
    await cache.tree.confirm_listing(root.id, 3.0)
    assert await cache.tree.root(URL) == replace(root, listed_at=3.0, listing_validator="v")


async def test_ids_are_never_used_again(cache: Cache) -> None:
    root = await cache.tree.root(URL)
    seen = {root.id}
    for size in range(5):
        node = await cache.tree.put_entry(root.id, file("a", size), 1.0)
        assert node.id not in seen
        seen.add(node.id)
        await cache.tree.remove(node.id)
    await cache.tree.remove(999)


async def test_ten_thousand_entries_are_listed_in_pages(cache: Cache) -> None:
    root = await cache.tree.root(URL)
    entries = [file(f"{number:05}") for number in range(10_000)]
    changes = await cache.tree.put_listing(root.id, entries, validator=None, at=1.0)
    assert len(changes.added) == 10_000
    names: list[str] = []
    after = 0
    while page := cache.tree.children(root.id, after):
        names += [node.name for node in page]
        after = page[-1].entry
    assert names == [entry.name for entry in entries]
    assert cache.tree.count(root.id) == 10_000
    assert not await cache.tree.put_listing(root.id, entries[::-1], validator=None, at=2.0)
