"""What the tests of the kinds of object stores share: a hostile server by the beginnings of paths."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.support.hostile import Behaviour, Seen, Wire


class ByBeginning(dict[str, Behaviour]):
    """Behaviours for `tests.support.hostile.hostile`, by how paths begin; the longest counts."""

    def get(self, path: str, default: Any = None) -> Any:
        found = max((begin for begin in self if path.startswith(begin)), key=len, default=None)
        return default if found is None else self[found]


def said(document: object, code: int = 200) -> Behaviour:
    """JSON."""
    body = json.dumps(document).encode()

    def behave(_seen: Seen, wire: Wire) -> None:
        wire.head(code, {"Content-Type": "application/json", "Content-Length": len(body)})
        wire.send(body)

    return behave


def guarded(allowed: Callable[[Seen], bool], then: Behaviour) -> Behaviour:
    """401 unless it is allowed."""

    def behave(seen: Seen, wire: Wire) -> None:
        if allowed(seen):
            then(seen, wire)
        else:
            wire.head(401, {"Content-Length": 0, "WWW-Authenticate": "Bearer"})

    return behave
