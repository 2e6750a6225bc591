"""httpx's headers and responses, made of what is known already.

An answer for a small file is looked at a dozen times and thrown away. httpx's own classes prepare for much
that is never asked of it: they cost more than all of what is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, KeysView
from typing import Any

import httpx

Raw = list[tuple[bytes, bytes]]
"""Header names and values as they are on the wire."""


def pairs(lines: str, encoding: str) -> Raw:
    """Names and values of header lines, each of which ends with a line break."""
    split = (line.partition(":") for line in lines.split("\r\n")[:-1])
    return [(name.encode(encoding), value.strip(" \t").encode(encoding)) for name, _, value in split]


class LightHeaders(httpx.Headers):
    """Headers that are all ASCII; what is asked for by name costs a look into a dictionary."""

    def __init__(self, lines: str, values: dict[str, str]) -> None:
        """``values`` are those of ``lines`` by their names in lower case, joined where one comes twice."""
        self._lines = lines
        self._values = values
        self._encoding = "ascii"

    @property
    def _list(self) -> list[tuple[bytes, bytes, bytes]]:  # type: ignore[override]  # what httpx keeps
        return [(name, name.lower(), value) for name, value in self.raw]

    @property
    def raw(self) -> Raw:
        """As they came."""
        return pairs(self._lines, "ascii")

    def keys(self) -> KeysView[str]:
        """The names, in lower case."""
        return self._values.keys()

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a name, in any case."""
        return self._values.get(key if key in self._values else key.lower(), default)

    def __getitem__(self, key: str) -> str:
        return self._values[key.lower()]

    def __contains__(self, key: object) -> bool:
        return key in self._values or (isinstance(key, str) and key.lower() in self._values)


class LightResponse(httpx.Response):
    """A response of a transport; read through httpx it is like any other."""

    # What httpx gives to each instance, and changes where it needs to.
    is_closed = False
    is_stream_consumed = False
    default_encoding: str | Callable[[bytes], str] = "utf-8"
    next_request: httpx.Request | None = None
    _request: httpx.Request | None = None
    _num_bytes_downloaded = 0

    def __init__(
        self, status: int, headers: httpx.Headers, stream: httpx.AsyncByteStream, extensions: dict[str, Any]
    ) -> None:
        self.status_code = status
        self.headers = headers
        self.stream = stream
        self.extensions = extensions
        self._body = stream

    async def aclose(self) -> None:
        """Give the connection back, or close it."""
        self.is_closed = True
        await self._body.aclose()
