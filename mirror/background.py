"""A nursery for work that ends with the code it serves.

A plain nursery wraps every exception of its body in a group and waits for its tasks; what opens a
source or a cache wants the opposite: background work is cancelled when the body ends, and an error
of the body comes out as itself, so that callers can tell `AccessDenied` from `Stalled`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio


@asynccontextmanager
async def background() -> AsyncIterator[trio.Nursery]:
    """A nursery that is cancelled when the body ends; a sole exception leaves it bare."""
    with _bare():
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            finally:
                nursery.cancel_scope.cancel()


@asynccontextmanager
async def together() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks are waited for; a sole exception leaves it bare."""
    with _bare():
        async with trio.open_nursery() as nursery:
            yield nursery


@contextmanager
def _bare() -> Iterator[None]:
    try:
        yield
    except BaseExceptionGroup as group:
        sole: BaseException = group
        while isinstance(sole, BaseExceptionGroup) and len(sole.exceptions) == 1:
            sole = sole.exceptions[0]
        if sole is group:
            raise
        raise sole from sole.__cause__
