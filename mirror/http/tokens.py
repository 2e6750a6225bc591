"""Bearer tokens that expire: fetched in a thread, ahead of their end, once for all who need one.

Cloud SDKs know many ways to a token, all of which block. So one is asked for in a thread, by one task
while the others wait; anew when its end is near, and when the origin refuses it before that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import trio

from mirror.flight import SingleFlight
from mirror.http.auth import Headers
from mirror.http.places import Place

EARLY = 240.0
"""Seconds before its end at which a token is replaced: a request must not outlive it, nor a clock differ."""

SETTLED = 10.0
"""Seconds after a refusal in which a token that is newer is not doubted: the requests that were under
way with the one before it are all refused too, and shall not each fetch another."""


@dataclass(frozen=True, slots=True)
class Token:
    """What shows who asks."""

    value: str = field(repr=False)
    expires_at: float
    """Epoch seconds."""


class Tokens:
    """The `mirror.http.auth.Auth` that shows a token which is kept fresh."""

    def __init__(self, fetch: Callable[[bool], Token], *, clock: Callable[[], float] = time.time) -> None:
        """Prepare; nothing is fetched before the first request.

        Args:
            fetch: returns a token; called in a thread, and once more while it runs if whoever waited for
                it was cancelled. True: the last one was
                refused, so do not answer with it from a cache. Raises what `Auth.headers` may raise.
            clock: epoch seconds.
        """
        self._fetch = fetch
        self._clock = clock
        self._token: Token | None = None
        self._headers: Headers = []
        self._fetched_at = 0.0
        self._renewed_at = -SETTLED
        self._fetching: SingleFlight[None, None] = SingleFlight()

    async def headers(self, method: str, where: Place, headers: Headers, body: bytes) -> Headers:
        """Return the header with a token that is good for a while. See `mirror.http.auth.Auth`."""
        del method, where, headers, body
        if self._token is None or self._token.expires_at - self._clock() < self._early(self._token):
            await self._fetching.run(None, lambda: self._fetched(refused=False))
        return self._headers

    def _early(self, token: Token) -> float:
        # Some are handed out for less than `EARLY`, or from a cache near their end: not one for each request.
        return min(EARLY, (token.expires_at - self._fetched_at) / 4)

    async def renew(self, refused: httpx.Response) -> bool:
        """Fetch another token, once for all who were refused at about the same time."""
        if refused.status_code != 401 or self._token is None:
            return False  # a 403 is about what somebody may do, whoever it is
        if self._clock() - self._renewed_at < SETTLED:
            return True
        before = self._token.value
        await self._fetching.run(None, lambda: self._fetched(refused=True))
        return self._token.value != before

    async def _fetched(self, *, refused: bool) -> None:
        # A hanging SDK must not keep a cancelled request; its token is not missed.
        token = await trio.to_thread.run_sync(self._fetch, refused, abandon_on_cancel=True)
        self._token, self._fetched_at = token, self._clock()
        if refused:
            self._renewed_at = self._fetched_at
        self._headers = [(b"Authorization", b"Bearer " + token.value.encode("latin-1"))]
