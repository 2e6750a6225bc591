"""Going from page to page of a listing that has to come to an end.

A page says where the next one begins. An origin that errs, or means harm, says so for ever: it leads back to
a page that was seen, gives the same names under a new token each time, or pages with nothing on them. Each is
found out without keeping what was seen, for a listing may have a million pages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from mirror.errors import ProtocolError

MOST_EMPTY = 1000
"""Pages in a row with nothing on them: stores give some where many objects were removed."""
MOST_REPEATED = 8
"""Pages with the names of an earlier one. More than none, for a name at the end of a page may come again."""


class Found(Protocol):
    """A page, as an origin gives it."""

    @property
    def cursor(self) -> str | None:
        """Where the next one begins; None: it is the last."""

    def names(self) -> Sequence[str]:
        """What is on it."""


P = TypeVar("P", bound=Found)


class Following(Generic[P]):
    """The pages of one listing, each asked for with the cursor of the one before. To be read by one task."""

    def __init__(self, ask: Callable[[str | None], Awaitable[P]], cursor: str | None, where: object) -> None:
        """Begin behind ``cursor`` (None: at the first); ``where``: what is listed, for messages."""
        self._ask = ask
        self._cursor = cursor
        self._onward = Onward(where)
        self._ended = False

    def __aiter__(self) -> Following[P]:
        return self

    async def __anext__(self) -> P:
        """The next page. Raises what ``ask`` does, and `ProtocolError`: they do not come to an end."""
        if self._ended:
            raise StopAsyncIteration
        page = await self._ask(self._cursor)
        self._cursor = page.cursor
        self._ended = page.cursor is None
        if page.cursor is not None:
            self._onward.past(page.cursor, page.names())
        return page


class Onward:
    """Whether pages that one is led to lead on."""

    def __init__(self, where: object) -> None:
        """``where``: what is listed, for messages."""
        self._where = where
        self._cursors = _Circle()
        self._contents = _Circle()
        self._empty = 0
        self._repeated = 0

    def past(self, cursor: str, names: Sequence[str]) -> None:
        """Note a page that has another one behind it.

        Raises:
            ProtocolError: what comes is what came already, or nothing.
        """
        if self._cursors.closes(hash(cursor)):
            raise self._error("it leads to the same page twice")
        if not names:
            self._empty += 1
            if self._empty > MOST_EMPTY:
                raise self._error(f"there was nothing on {self._empty:,} pages")
            return
        self._empty = 0
        self._repeated += self._contents.closes(hash(tuple(names)))
        if self._repeated > MOST_REPEATED:
            raise self._error("the same names come again and again")

    def _error(self, why: str) -> ProtocolError:
        return ProtocolError(f"{self._where}: the listing does not come to an end: {why}")


class _Circle:
    """Whether a sequence goes round in circles (Brent): one value is kept, ever more seldom a later one."""

    def __init__(self) -> None:
        self._kept: int | None = None
        self._count = 0

    def closes(self, value: int) -> bool:
        """Whether the next value is the one that is kept; in a circle, one is sooner or later."""
        if value == self._kept:
            return True
        self._count += 1
        if self._count & (self._count - 1) == 0:
            self._kept = value
        return False
