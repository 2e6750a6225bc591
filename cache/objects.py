"""The bytes."""

from __future__ import annotations

from dataclasses import dataclass

from cache.extents import Extents
from cache.model import Node


@dataclass(frozen=True, slots=True)
class ObjectState:
    complete: bool
    extents: Extents


class Filler:
    node: Node
    present: Extents

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        raise NotImplementedError

    def read(self, offset: int, size: int) -> bytes:
        raise NotImplementedError

    def set_size(self, size: int) -> None:
        raise NotImplementedError

    def complete(self) -> int:
        raise NotImplementedError

    def discard(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Objects:
    def state(self, node: Node) -> ObjectState:
        raise NotImplementedError

    def open_complete(self, node: Node) -> int | None:
        raise NotImplementedError

    def open_partial(self, node: Node) -> int | None:
        raise NotImplementedError

    def read_partial(self, node: Node, offset: int, size: int) -> bytes | None:
        raise NotImplementedError

    def fill(self, node: Node) -> Filler | None:
        raise NotImplementedError

    def touch(self, node: Node) -> None:
        raise NotImplementedError

    async def drop(self, node: Node) -> None:
        raise NotImplementedError

    async def sync(self) -> None:
        raise NotImplementedError
