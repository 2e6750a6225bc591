"""From a manifest's file to its table, in a thread, all of it or nothing."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, cast

from mirror.errors import ProtocolError
from mirror.remotes.manifest.formats import PARQUET, BadListError, by_extension, rows
from mirror.remotes.manifest.later import StoppedError
from mirror.remotes.manifest.links import Links
from mirror.remotes.manifest.rows import BadRowError, Row, read_row
from mirror.remotes.manifest.table import Table

LOOK = 512
"""Rows after which the thread looks whether it is still wanted."""


def build(
    content: Callable[[], AbstractContextManager[BinaryIO]],
    name: str,
    links: Links,
    where: object,
    known: str | None,
    stop: threading.Event,
) -> Table | None:
    """Read a manifest. Blocking.

    Args:
        content: opens it.
        name: the manifest's, for its extension.
        links: resolves its URLs.
        where: the manifest, for messages.
        known: `Table.version` of the table that there is already.
        stop: set when nobody wants the result any more.

    Returns:
        The table; None: the content is that of ``known``.

    Raises:
        ProtocolError: it is no manifest; the message says in which line that shows.
        StoppedError: ``stop`` was set.
        MirrorError: it cannot be read or kept now.
    """
    try:
        with content() as file:
            version = f"manifest:{hashlib.file_digest(cast('Any', file), 'sha256').hexdigest()}"
            if version == known:
                return None
            file.seek(0)
            return _filled(file, name, links, version, stop)
    except BadListError as exc:
        unit = "row" if by_extension(name) == PARQUET else "line"
        at = "" if exc.line is None else f", {unit} {exc.line:,}"
        raise ProtocolError(f"{where}{at}: {exc}; nothing of this manifest is used") from exc


def _filled(file: BinaryIO, name: str, links: Links, version: str, stop: threading.Event) -> Table:
    table = Table()
    try:
        for line, fields in rows(file, name):
            if not table.rows % LOOK and stop.is_set():
                raise StoppedError  # noqa: TRY301 - the table is closed below, whatever happens
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
