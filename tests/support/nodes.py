"""Nodes of the index that no index has."""

from __future__ import annotations

from typing import Any

from cache import Kind, Node


def file_node(number: int, folder: int = 7, name: str | None = None, **more: Any) -> Node:
    """A file in a folder, or what ``more`` makes of it."""
    fields: dict[str, Any] = {
        "id": number,
        "entry": number,
        "source": 1,
        "parent": folder,
        "name": f"{number:05}" if name is None else name,
        "kind": Kind.FILE,
        "size": 1000,
        "mtime_ns": None,
        "mtime_resolution_ns": 1,
        "validator": None,
        "checked_at": None,
        "listed_at": None,
        "listing_validator": None,
        "current": True,
    }
    return Node(**fields | more)
