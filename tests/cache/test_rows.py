"""The rows of objects that are sealed together: they have to be those of one after the other."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st

from cache import damage, rows
from cache.model import Arrival
from cache.rows import Payer, Sealed

NODES = 12
CLAIM = "mine"
CAPACITY = 1000
"""So little that it matters where objects begin."""

TABLES = ("objects", "extents", "queues", "space", "claims", "ghosts", "nodes")


def _index(had: dict[int, int], ghosts: dict[int, int], clock: int, claim: int) -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    damage.make_schema(db)
    db.execute("PRAGMA foreign_keys = ON")
    db.executemany(
        "INSERT INTO nodes (id, entry, source, parent, name, kind, mtime_resolution_ns, current, listed_size)"
        " VALUES (?1, ?1, 1, 0, 'name' || ?1, 1, 1, 1, 0)",
        [(node,) for node in range(1, NODES + 1)],
    )
    db.execute("INSERT INTO claims VALUES (?, ?)", (CLAIM, claim))
    db.execute("UPDATE space SET clock = ?", (clock,))
    db.executemany(
        "INSERT INTO objects (node, inode, occupied, used_at, queue, position, used_clock)"
        " VALUES (?1, ?1, ?2, 1.0, ?1 % 2, ?1, ?1)",
        had.items(),
    )
    db.executemany("INSERT INTO extents VALUES (?, 0, 1, NULL)", [(node,) for node in had])
    db.executemany("INSERT INTO ghosts VALUES (?, ?)", ghosts.items())
    return db


def _contents(db: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    return {table: db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in TABLES}


numbers = st.integers(1, NODES)
amounts = st.integers(0, 400)
sealed = st.builds(
    Sealed,
    node=numbers,
    inode=numbers,
    size=amounts,
    occupied=amounts,
    validator=st.sampled_from([None, "etag"]),
    crc=st.sampled_from([None, 7]),
    arrival=st.builds(Arrival, opened=st.booleans(), wanted=st.booleans()),
)
OPENED = Arrival(opened=True)


@given(
    st.dictionaries(numbers, amounts),
    st.dictionaries(numbers, amounts),
    st.integers(NODES, 400),  # the clock is behind all that was opened
    amounts,
    st.lists(sealed, max_size=NODES),
)
# The second finds the first among the objects that are used for ever; the third was here before.
@example({}, {3: 5}, 100, 1000, [Sealed(node, node, 350, 350, arrival=OPENED) for node in (1, 2, 3)])
# One that is sealed, dropped and sealed again within a moment.
@example({}, {}, 100, 1000, [Sealed(1, 1, 350, 350), Sealed(1, 2, 300, 300)])
def test_many_that_are_sealed_together_are_as_one_after_the_other(
    had: dict[int, int], ghosts: dict[int, int], clock: int, claim: int, objects: Sequence[Sealed]
) -> None:
    ghosts = {node: at for node, at in ghosts.items() if node not in had}
    payer = Payer((CLAIM, "gone"), CAPACITY)
    one, many = _index(had, ghosts, clock, claim), _index(had, ghosts, clock, claim)
    with patch("time.time", return_value=99.0):
        paid = [bytes_ for each in objects for bytes_ in rows.put_sealed(one, [each], payer)]
        assert rows.put_sealed(many, objects, payer) == paid
    assert _contents(many) == _contents(one)
