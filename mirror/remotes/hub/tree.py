"""What the Hub's API says of a repository's tree, as entries.

A row of ``/api/…/tree/…`` and of ``/api/…/paths-info/…`` is one of

    {"type": "file", "oid": "GIT BLOB", "size": 11, "path": "data/a.csv"}
    {"type": "file", "oid": "…", "size": 7, "path": "b.bin", "lfs": {"oid": "SHA-256", "size": 7}}
    {"type": "directory", "oid": "GIT TREE", "size": 0, "path": "data"}

with a ``lastCommit`` that has a ``date`` when it was asked to ``expand``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cache import Entry, Kind
from mirror.errors import ProtocolError
from mirror.remotes.hub.dialect import named
from mirror.remotes.listings.rows import LARGEST, LeftOut
from mirror.remotes.names import BadNameError, check
from mirror.times import rfc3339

_GIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEXT = re.compile(r'<([^<>]*)>\s*;[^<>]*?\brel="?next"?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """One row: where it is in the repository, and what it is."""

    path: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Rows:
    """One page."""

    found: Sequence[Found]
    cursor: str | None
    """Where the next one begins; None: this was the last one."""

    def names(self) -> list[str]:
        """Return all that is on it."""
        return [found.path for found in self.found]


def rows(body: bytes, where: object) -> Sequence[Found]:
    """Read one page of rows, names checked, bad ones left out.

    Raises:
        ProtocolError: it is no such page.
    """
    page = document(body, where)
    if not isinstance(page, list):
        raise ProtocolError(f"{where}: the answer is no list of files")
    left_out = LeftOut(str(where))
    found = list(_checked(page, where, left_out))
    left_out.report()
    return found


def document(body: bytes, where: object) -> Any:
    """Read JSON. Raises `ProtocolError`."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise ProtocolError(f"{where}: the answer is not JSON") from exc


def _checked(page: list[Any], where: object, left_out: LeftOut) -> Iterator[Found]:
    for row in page:
        path = row.get("path") if isinstance(row, dict) else None
        kind = row.get("type") if isinstance(row, dict) else None
        if not isinstance(path, str) or not isinstance(kind, str):
            raise ProtocolError(f"{where}: the answer is no list of files")
        try:
            name = [check(word) for word in path.split("/")][-1]
        except BadNameError as exc:
            left_out.add(path, str(exc))
            continue
        if kind not in ("file", "directory"):
            left_out.add(path, "it is neither a file nor a folder")  # another repository, say
            continue
        entry = Entry(name, Kind.FOLDER) if kind == "directory" else _file(name, row, where)
        yield Found(path, entry)


def _file(name: str, row: dict[str, Any], where: object) -> Entry:
    lfs = row.get("lfs")
    size, oid, form = row.get("size"), row.get("oid"), _GIT
    if isinstance(lfs, dict):
        # Beside it ``oid`` is that of the pointer that git keeps, and says nothing of the bytes.
        size, oid, form = lfs.get("size", size), lfs.get("oid"), _SHA256
    if type(size) is not int or not 0 <= size < LARGEST:
        raise ProtocolError(f"{where}: a file has the size {str(size)[:40]!a}")
    commit = row.get("lastCommit")
    date = commit.get("date") if isinstance(commit, dict) else None
    return Entry(
        name,
        Kind.FILE,
        size,
        rfc3339(date) if isinstance(date, str) else None,
        validator=named(oid) if isinstance(oid, str) and form.fullmatch(oid) else None,
    )


def cursor(link: str | None, where: object) -> str | None:
    """Return where the next page begins, from the header ``Link``; None: this was the last one.

    Raises:
        ProtocolError: there is a next page, but not where.
    """
    if link is None or not (found := _NEXT.search(link)):
        return None
    # Only that is taken from it: what is asked next, and of whom, we know ourselves.
    values = parse_qs(urlsplit(found[1]).query).get("cursor")
    if not values:
        raise ProtocolError(f"{where}: the listing goes on, but does not say where")
    return values[0]
