"""What the tests of manifests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mirror.remotes.base import Remote
from mirror.remotes.manifest import ManifestRemote
from tests.remotes.contract import read
from tests.support.lists import Fields, jsonl

Opened = Callable[..., ManifestRemote]
"""Writes rows into a list, and opens it."""

GOOD: Fields = {"path": "ok", "url": "https://example.org/ok"}


def write(path: Path, rows: list[Fields] | bytes) -> None:
    """Put a list in its place at once."""
    (path.with_name("new")).write_bytes(rows if isinstance(rows, bytes) else jsonl(rows))
    (path.with_name("new")).rename(path)


async def content(remote: Remote, path: str, validator: str | None = None) -> bytes:
    async with remote.open_part(path, validator=validator) as part:
        return await read(part)
