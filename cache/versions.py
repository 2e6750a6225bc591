"""How the index changes when an origin says something: the transactions behind `Tree`.

Every function runs in the writer's thread, within its transaction, and is decided by `same_version`
alone: the same version keeps its node and may learn (a size, a validator, a more exact mtime);
another version is another node. Before a new node is made, the name's past is looked through: a
version that comes back gets its old node, and with it the bytes that are still here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from cache import bulk
from cache.index import Row
from cache.model import Changes, Entry, Kind, Node, same_version

COLUMNS = (
    "id, entry, source, parent, name, kind, size, mtime_ns, mtime_resolution_ns, validator, "
    "checked_at, listed_at, listing_validator, current, listed_size, object"
)

_KINDS = {kind.value: kind for kind in Kind}

_INSERT = f"INSERT INTO nodes ({COLUMNS}) VALUES {{rows}}"  # noqa: S608

_UPDATE = """
    UPDATE nodes SET size = new.column2, mtime_ns = new.column3, mtime_resolution_ns = new.column4,
                     validator = new.column5, checked_at = new.column6, current = new.column7,
                     listed_size = new.column8
    FROM (VALUES {rows}) AS new
    WHERE id = new.column1
"""

_RETIRE_FILES = "UPDATE nodes SET current = 0 WHERE id IN (SELECT value FROM json_each(?))"

# What the origin has replaced goes before everything else, unless it is opened again.
_GO_FIRST = "UPDATE objects SET queue = 0, position = -1 WHERE node IN (SELECT value FROM json_each(?))"
_ALL_GO_FIRST = """
    WITH RECURSIVE below (id) AS (
        SELECT ? UNION
        SELECT nodes.id FROM nodes JOIN below ON nodes.parent = below.id WHERE nodes.current = 1
    )
    UPDATE objects SET queue = 0, position = -1 WHERE node IN below
"""

# A folder that comes back has to be listed before it says anything.
_RETIRE_FOLDER = """
    WITH RECURSIVE below (id) AS (
        SELECT ? UNION
        SELECT nodes.id FROM nodes JOIN below ON nodes.parent = below.id WHERE nodes.current = 1
    )
    UPDATE nodes SET current = 0, listed_at = NULL, listing_validator = NULL WHERE id IN below
"""

DEEPEST = 4096
"""Levels that a path has at most: a damaged index may have a folder inside itself."""

# Up from a node; the root itself (parent 0) has no part in a path.
PATH = f"""
    WITH RECURSIVE up (parent, name, depth) AS (
        SELECT parent, name, 0 FROM nodes WHERE id = ? UNION ALL
        SELECT nodes.parent, nodes.name, depth + 1 FROM nodes JOIN up ON nodes.id = up.parent
        WHERE depth < {DEEPEST}
    )
    SELECT parent, name FROM up ORDER BY depth DESC
"""  # noqa: S608 - a number of ours


def node_of(row: Row) -> Node:
    """The node of a row of `COLUMNS`. Raises sqlite3.DatabaseError: it is damaged."""
    (
        id_,
        entry,
        source,
        parent,
        name,
        kind,
        size,
        mtime,
        resolution,
        validator,
        checked,
        listed,
        listing,
        current,
        listed_size,
        key,
    ) = row
    if kind not in _KINDS:
        raise sqlite3.DatabaseError(f"no such kind of node: {kind!r}")
    return Node(
        id_,
        entry,
        source,
        parent,
        name,
        _KINDS[kind],
        size,
        mtime,
        resolution,
        validator,
        checked,
        listed,
        listing,
        current == 1,
        listed_size == 1,
        key or b"",
    )


def _row_of(node: Node) -> Row:
    return (
        node.id,
        node.entry,
        node.source,
        node.parent,
        node.name,
        node.kind.value,
        node.size,
        node.mtime_ns,
        node.mtime_resolution_ns,
        node.validator,
        node.checked_at,
        node.listed_at,
        node.listing_validator,
        int(node.current),
        int(node.listed_size),
        node.key or None,
    )


def path_of(rows: Sequence[Row]) -> tuple[str, str]:
    """Source URL and path from the rows of `PATH`.

    Raises:
        LookupError: there is no such node.
    """
    if not rows or rows[0][0] != 0:
        raise LookupError("no such node")
    return rows[0][1], "/".join(name for _, name in rows[1:])


def object_key(place: str, entry: Entry) -> bytes:
    """Name of the object of a version that is first known as ``entry``.

    ``place`` is what `place_of` says of the folder. Everything that was stated goes in: of two nodes
    of one name, something stated differs, so no two nodes share an object.
    """
    version = f"{entry.size}\0{entry.mtime_ns}\0{entry.mtime_resolution_ns}\0{entry.validator}"
    return sha256(f"{place}{entry.name}\0{version}".encode()).digest()[:20]


def put_root(db: sqlite3.Connection, url: str) -> Node:
    """The root of a source, made when it is new."""
    known = child(db, 0, url)
    if known is not None:
        return known
    id_ = free_id(db)
    root = Node(id_, id_, id_, 0, url, Kind.FOLDER, None, None, 1_000_000_000, None, None, None, None, True)
    bulk.execute(db, _INSERT, [_row_of(root)])
    return root


def put_listing(
    db: sqlite3.Connection,
    folder_id: int,
    entries: Sequence[Entry],
    validator: str | None,
    at: float,
) -> Changes:
    """Replace a folder's entries. A folder that is not current any more is left as it is.

    Of entries of one name the first counts, and a folder before a file.
    """
    folder = node_by_id(db, folder_id)
    if folder is None or not folder.current or folder.kind is not Kind.FOLDER:
        return Changes()
    known = {node.name: node for node in _children(db, folder_id, current=True)}
    past = past_of(_children(db, folder_id, current=False))
    merged = merge(known, past, of_one_name(entries), folder, place_of(db, folder_id), free_id(db), at)
    removed = [node for name, node in known.items() if name not in merged.seen]
    write(db, merged, removed)
    db.execute(
        "UPDATE nodes SET listed_at = ?, listing_validator = ? WHERE id = ?", (at, validator, folder_id)
    )
    return Changes(merged.added, merged.changed, [replace(node, current=False) for node in removed])


def of_one_name(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Entries without the files at whose names a folder stands as well: what is in it must be reached."""
    folders = {entry.name for entry in entries if entry.kind is Kind.FOLDER}
    if not folders:
        return entries
    return [entry for entry in entries if entry.kind is Kind.FOLDER or entry.name not in folders]


@dataclass(slots=True)
class Merged:
    """What becomes of the names of one folder when some entries of it are seen."""

    seen: set[str] = field(default_factory=set)
    retired: list[Node] = field(default_factory=list)
    updated: list[Node] = field(default_factory=list)
    inserted: list[Node] = field(default_factory=list)
    added: list[Node] = field(default_factory=list)
    changed: list[tuple[Node, Node]] = field(default_factory=list)


def merge(
    known: Mapping[str, Node],
    past: Mapping[str, Sequence[Node]],
    entries: Iterable[Entry],
    folder: Node,
    place: str,
    next_id: int,
    at: float,
    stamped: Callable[[Node], Node] = lambda node: node,
) -> Merged:
    """Decide which nodes stand for entries; nothing is written.

    Args:
        known: current nodes by name, at least those of the entries' names.
        past: earlier versions of the same names, the latest first.
        entries: what was seen; of several of one name the first counts.
        folder: the folder that they are in.
        place: what `place_of` says of it.
        next_id: the id of the first node that is new.
        at: epoch seconds when the origin was asked.
        stamped: what becomes of a node that stays, beside what it learns.
    """
    merged = Merged()
    for entry in entries:
        if entry.name in merged.seen:
            continue
        merged.seen.add(entry.name)
        old = known.get(entry.name)
        if old is not None and same_version(old, entry):
            node = stamped(_learned(old, entry, listed=True))
            if node is not old:
                merged.updated.append(node)
            continue
        returning = _returning(past.get(entry.name, ()), entry, at, listed=True)
        if returning is not None:
            node = stamped(returning)
            merged.updated.append(node)
        else:
            if old is None:
                cookie = _cookie(past.get(entry.name, ()), next_id)
            else:
                # A folder in the place of a file is for those to come to as well who have passed that by.
                cookie = old.entry if old.kind is entry.kind else next_id
            node = stamped(_new(next_id, cookie, folder, place, entry, at, listed=True))
            merged.inserted.append(node)
            next_id += 1
        if old is None:
            merged.added.append(node)
        else:
            merged.retired.append(old)
            merged.changed.append((replace(old, current=False), node))
    return merged


def write(db: sqlite3.Connection, merged: Merged, removed: Sequence[Node] = ()) -> None:
    """Write what `merge` decided, and that other nodes are gone."""
    # First away with the old, for a name has one current version.
    retire(db, [*merged.retired, *removed])
    bulk.execute(db, _UPDATE, map(_update_of, merged.updated))
    bulk.execute(db, _INSERT, map(_row_of, merged.inserted))


def confirm_listing(db: sqlite3.Connection, folder: int, at: float) -> None:
    """Note that a folder's listing is what it was."""
    db.execute("UPDATE nodes SET listed_at = ? WHERE id = ? AND listed_at IS NOT NULL", (at, folder))


def put_entry(db: sqlite3.Connection, parent: int, entry: Entry, at: float) -> Node:
    """Note what an answer about one name said; returns the node that stands at the name now.

    Raises:
        LookupError: there is no such folder.
    """
    old = child(db, parent, entry.name)
    if old is not None and same_version(old, entry):
        node = replace(_learned(old, entry, listed=False), checked_at=at)
        bulk.execute(db, _UPDATE, [_update_of(node)])
        return node
    folder = node_by_id(db, parent)
    if folder is None or folder.kind is not Kind.FOLDER:
        raise LookupError(f"node {parent} is no folder")
    sql = f"SELECT {COLUMNS} FROM nodes WHERE parent = ? AND name = ? AND current = 0 ORDER BY id DESC"  # noqa: S608
    past = [node_of(row) for row in db.execute(sql, (parent, entry.name))]
    if old is not None:
        retire(db, [old])
    returning = _returning(past, entry, at, listed=False)
    if returning is not None:
        bulk.execute(db, _UPDATE, [_update_of(returning)])
        return returning
    id_ = free_id(db)
    cookie = old.entry if old is not None else _cookie(past, id_)
    node = _new(id_, cookie, folder, place_of(db, parent), entry, at, listed=False)
    bulk.execute(db, _INSERT, [_row_of(node)])
    return node


def remove(db: sqlite3.Connection, id_: int) -> None:
    """Note that a node is gone from its name, and with a folder all below it."""
    node = node_by_id(db, id_)
    if node is not None and node.current:
        retire(db, [node])


def renew(db: sqlite3.Connection, id_: int) -> Node | None:
    """Let a new node stand for the same version of a file; None when the old one is not current.

    Its object has another name: that of the old one may still be in use.
    """
    old = node_by_id(db, id_)
    if old is None or not old.current or old.kind is not Kind.FILE:
        return None
    retire(db, [old])
    new = free_id(db)
    node = replace(old, id=new, key=sha256(old.key + new.to_bytes(8, "little")).digest()[:20])
    bulk.execute(db, _INSERT, [_row_of(node)])
    return node


# -- rows ----------------------------------------------------------------------------------------


def node_by_id(db: sqlite3.Connection, id_: int) -> Node | None:
    """The node of an id."""
    row = db.execute(f"SELECT {COLUMNS} FROM nodes WHERE id = ?", (id_,)).fetchone()  # noqa: S608
    return None if row is None else node_of(row)


def child(db: sqlite3.Connection, parent: int, name: str) -> Node | None:
    """The current node of a name."""
    sql = f"SELECT {COLUMNS} FROM nodes WHERE parent = ? AND name = ? AND current = 1"  # noqa: S608
    row = db.execute(sql, (parent, name)).fetchone()
    return None if row is None else node_of(row)


def _children(db: sqlite3.Connection, folder: int, *, current: bool) -> list[Node]:
    # The literal lets SQLite use the partial index.
    which = "current = 1" if current else "current = 0"
    rows = db.execute(f"SELECT {COLUMNS} FROM nodes WHERE parent = ? AND {which}", (folder,))  # noqa: S608
    return [node_of(row) for row in rows]


def past_of(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    """Earlier versions by name, the latest first."""
    past: dict[str, list[Node]] = {}
    for node in sorted(nodes, key=lambda node: -node.id):
        past.setdefault(node.name, []).append(node)
    return past


def free_id(db: sqlite3.Connection) -> int:
    """The id that AUTOINCREMENT would give; the transaction is ours, so nobody else takes it."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'nodes'").fetchone()
    return 1 if row is None else row[0] + 1


def place_of(db: sqlite3.Connection, folder: int) -> str:
    """What the names of a folder's objects begin with, before they are digested."""
    source, path = path_of(db.execute(PATH, (folder,)).fetchall())
    return f"{source}\0{path}/" if path else f"{source}\0"


def _update_of(node: Node) -> Row:
    return (
        node.id,
        node.size,
        node.mtime_ns,
        node.mtime_resolution_ns,
        node.validator,
        node.checked_at,
        int(node.current),
        int(node.listed_size),
    )


def retire(db: sqlite3.Connection, nodes: Sequence[Node]) -> None:
    """Let nodes stand at their names no more; with folders all below them."""
    files = bulk.array(node.id for node in nodes if node.kind is Kind.FILE)
    folders = [(node.id,) for node in nodes if node.kind is Kind.FOLDER]
    db.execute(_GO_FIRST, (files,))
    db.executemany(_ALL_GO_FIRST, folders)
    db.execute(_RETIRE_FILES, (files,))
    db.executemany(_RETIRE_FOLDER, folders)


# -- nodes ---------------------------------------------------------------------------------------


def _new(id_: int, cookie: int, folder: Node, place: str, entry: Entry, at: float, *, listed: bool) -> Node:
    vouched = not listed or entry.size is not None or entry.kind is Kind.FOLDER
    return Node(
        id=id_,
        entry=cookie,
        source=folder.source,
        parent=folder.id,
        name=entry.name,
        kind=entry.kind,
        size=entry.size if entry.kind is Kind.FILE else None,
        mtime_ns=entry.mtime_ns,
        mtime_resolution_ns=entry.mtime_resolution_ns,
        validator=entry.validator if entry.kind is Kind.FILE else None,
        checked_at=at if vouched else None,
        listed_at=None,
        listing_validator=None,
        current=True,
        listed_size=listed and entry.size is not None,
        key=object_key(place, entry) if entry.kind is Kind.FILE else b"",
    )


def _cookie(past: Sequence[Node], otherwise: int) -> int:
    return past[0].entry if past else otherwise


def _returning(past: Sequence[Node], entry: Entry, at: float, *, listed: bool) -> Node | None:
    """The latest earlier node of this name that ``entry`` can be, current again."""
    for node in past:
        if same_version(node, entry):
            vouched = not listed or entry.size is not None or entry.kind is Kind.FOLDER
            checked_at = at if vouched else None
            return replace(_learned(node, entry, listed=listed), current=True, checked_at=checked_at)
    return None


def _learned(node: Node, entry: Entry, *, listed: bool) -> Node:
    """The node with what ``entry`` of the same version adds; the node itself when that is nothing."""
    listed_size = entry.size is not None if listed else node.listed_size
    if node.kind is Kind.FOLDER:
        # A folder's mtime is no part of its identity: it follows the origin.
        if entry.mtime_ns is None or (entry.mtime_ns, entry.mtime_resolution_ns) == (
            node.mtime_ns,
            node.mtime_resolution_ns,
        ):
            return node
        return replace(node, mtime_ns=entry.mtime_ns, mtime_resolution_ns=entry.mtime_resolution_ns)
    finer = entry.mtime_ns is not None and (
        node.mtime_ns is None or entry.mtime_resolution_ns < node.mtime_resolution_ns
    )
    learns = (
        finer
        or (node.size is None and entry.size is not None)
        or (node.validator is None and entry.validator is not None)
        or node.listed_size != listed_size
    )
    if not learns:
        return node
    return replace(
        node,
        size=entry.size if node.size is None else node.size,
        validator=entry.validator if node.validator is None else node.validator,
        mtime_ns=entry.mtime_ns if finer else node.mtime_ns,
        mtime_resolution_ns=entry.mtime_resolution_ns if finer else node.mtime_resolution_ns,
        listed_size=listed_size,
    )
