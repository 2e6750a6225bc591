"""Whether the index agrees with itself: what SQLite checks, and what the schema cannot say.

An index of which any of this is not so cannot be mended row by row, for nobody knows which row is the
wrong one. It is made anew.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from cache import damage

# Each has no rows in an index that is right.
_NEVER = {
    "names are in no folder": """
        SELECT 1 FROM nodes AS child LEFT JOIN nodes AS folder ON folder.id = child.parent
        WHERE child.parent != 0 AND (folder.id IS NULL OR folder.kind != 2 OR folder.source != child.source)
    """,
    "a source is below a folder": "SELECT 1 FROM nodes WHERE (parent = 0) != (id = source)",
    "a file has no object's name, or a folder has one": """
        SELECT 1 FROM nodes WHERE (kind = 1) != coalesce(length(object) = 20, 0)
    """,
    "two versions share an object": """
        SELECT 1 FROM nodes WHERE object IS NOT NULL GROUP BY object HAVING count(*) > 1
    """,
    "a folder is inside itself": """
        WITH RECURSIVE reached (id) AS (
            SELECT id FROM nodes WHERE parent = 0 UNION
            SELECT nodes.id FROM nodes JOIN reached ON nodes.parent = reached.id WHERE nodes.kind = 2
        )
        SELECT 1 FROM nodes WHERE kind = 2 AND id NOT IN reached
    """,
}


def fault(index: Path) -> str | None:
    """What is wrong with an index, in a few words; None: nothing. Reads all of it; others may use it.

    Raises:
        sqlite3.OperationalError: it cannot be read now, for a reason that says nothing about it.
    """
    try:
        with closing(damage.connect_to_read(index)) as db:
            (said,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if said != "ok":
                return str(said).splitlines()[-1]
            for what, sql in _NEVER.items():
                if db.execute(f"{sql} LIMIT 1").fetchone() is not None:
                    return what
    except damage.UNREADABLE as exc:
        if damage.is_damage(exc):
            return str(exc)
        raise
    return None
