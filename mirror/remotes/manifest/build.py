"""From a manifest's file to its table, in a thread, all of it or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, cast

from mirror.errors import ProtocolError
from mirror.remotes.manifest.formats import PARQUET, BadListError, by_extension, rows
from mirror.remotes.manifest.later import Going
from mirror.remotes.manifest.links import Links
from mirror.remotes.manifest.rows import BadRowError, Row, read_row
from mirror.remotes.manifest.table import Table

STEP = 128
"""Rows between two steps: 2 ms."""


def build(
    content: Callable[[], AbstractContextManager[BinaryIO]],
    name: str,
    links: Links,
    where: object,
    known: str | None,
    going: Going,
) -> Table | None:
    """Read a manifest. Blocking.

    Args:
        content: opens it.
        name: the manifest's, for its extension.
        links: resolves its URLs.
        where: the manifest, for messages.
        known: `Table.version` of the table that there is already.
        going: whether anybody wants it.

    Returns:
        The table; None: the content is that of ``known``.

    Raises:
        ProtocolError: it is no manifest; the message says in which line that shows.
        StoppedError: nobody wants it any more.
        MirrorError: it cannot be read or kept now.
    """
    try:
        with content() as file:
            version = f"manifest:{hashlib.file_digest(cast('Any', file), 'sha256').hexdigest()}"
            if version == known:
                return None
            file.seek(0)
            return _filled(file, name, links, version, going)
    except BadListError as exc:
        unit = "row" if by_extension(name) == PARQUET else "line"
        at = "" if exc.line is None else f", {unit} {exc.line:,}"
        raise ProtocolError(f"{where}{at}: {exc}; nothing of this manifest is used") from exc


def _filled(file: BinaryIO, name: str, links: Links, version: str, going: Going) -> Table:
    table = Table()
    try:
        for line, fields in rows(file, name):
            if not table.rows % STEP:
                going.step()
            table.add(line, _checked(line, fields, links))
        table.complete(version)
    except BaseException:
        table.retire()
        raise
    return table


def _checked(line: int, fields: Mapping[str, object], links: Links) -> Row:
    try:
        return read_row(fields, links)
    except BadRowError as exc:
        raise BadListError(str(exc), line) from exc
