"""What the JSON API says of objects, as values: pure functions."""

from __future__ import annotations

import json
from typing import Any

from mirror.errors import ProtocolError
from mirror.remotes.objects.keys import Keys, Object, size
from mirror.times import rfc3339

GENERATION = "generation:"
"""Prefix of the validator: the number that Cloud Storage gives each version of an object's bytes."""

MILLISECOND = 1_000_000
"""How exact times are."""

OF_OBJECT = "name,size,generation,timeCreated"
"""The fields that are asked for: all of them would be ten times as much to read.

Not ``updated``, which a change of metadata moves too: of the bytes that are a version it says nothing.
"""
OF_LISTING = f"nextPageToken,prefixes,items({OF_OBJECT})"


def document(body: bytes, where: object) -> dict[str, Any]:
    """Read the JSON of an answer.

    Raises:
        ProtocolError: it is none, or no object.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise ProtocolError(f"{where}: the answer is not JSON, or cut short") from exc
    if not isinstance(found, dict):
        raise ProtocolError(f"{where}: the answer is JSON, but not of this API")
    return found


def page(body: bytes, where: object) -> Keys:
    """Read a page of a listing. Raises `ProtocolError`."""
    said = document(body, where)
    items, prefixes, token = said.get("items", []), said.get("prefixes", []), said.get("nextPageToken")
    usable = (
        isinstance(items, list)
        and isinstance(prefixes, list)
        and all(isinstance(prefix, str) for prefix in prefixes)
        and (token is None or isinstance(token, str))
        and (said.keys() & {"items", "prefixes", "nextPageToken", "kind"} or not said)
    )
    if not usable:
        raise ProtocolError(f"{where}: the answer is no listing of a bucket")
    return Keys([of(item, where) for item in items], prefixes, token or None)


def of(item: object, where: object) -> Object:
    """Read one object. Raises `ProtocolError`."""
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ProtocolError(f"{where}: the answer has an object without a name")
    created = item.get("timeCreated")
    return Object(
        item["name"],
        size(item.get("size")),
        rfc3339(created) if isinstance(created, str) else None,
        MILLISECOND,
        validator(item.get("generation")),
    )


def validator(generation: object) -> str | None:
    """Return a generation as a validator; None: it is none."""
    known = isinstance(generation, str) and generation.isascii() and generation.isdigit()
    return GENERATION + generation if known and isinstance(generation, str) else None
