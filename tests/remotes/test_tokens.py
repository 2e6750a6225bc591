"""Tokens are fetched once for all who need one, ahead of their end, and anew when one is refused."""

from __future__ import annotations

import threading

import httpx
import pytest
import trio

from mirror.errors import AccessDenied
from mirror.http.places import Place
from mirror.http.tokens import Token, Tokens

WHERE = Place(httpx.URL("https://example.org/"))
REFUSED = httpx.Response(401)


class Giver:
    """Gives out tokens, each another."""

    def __init__(self, lifetime: float = 3600.0) -> None:
        self.now = 1000.0
        self.lifetime = lifetime
        self.asked: list[bool] = []
        self.same = False
        self.threads: set[int] = set()

    def __call__(self, refused: bool) -> Token:
        self.asked.append(refused)
        self.threads.add(threading.get_ident())
        number = 1 if self.same else len(self.asked)
        return Token(f"token-{number}", self.now + self.lifetime)

    def tokens(self) -> Tokens:
        return Tokens(self, clock=lambda: self.now)


async def shown(tokens: Tokens) -> bytes:
    [(_, value)] = await tokens.headers("GET", WHERE, [], b"")
    return value


async def test_one_token_for_all() -> None:
    giver = Giver()
    tokens = giver.tokens()
    seen = []

    async def ask() -> None:
        seen.append(await shown(tokens))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    assert seen == [b"Bearer token-1"] * 50
    assert giver.asked == [False]
    assert threading.get_ident() not in giver.threads


async def test_a_token_is_replaced_before_its_end() -> None:
    giver = Giver()
    tokens = giver.tokens()
    await shown(tokens)
    giver.now += 3300
    assert await shown(tokens) == b"Bearer token-1"
    giver.now += 100
    assert await shown(tokens) == b"Bearer token-2"
    assert giver.asked == [False, False]


async def test_a_token_for_a_minute_is_used_for_most_of_it() -> None:
    giver = Giver(lifetime=60)
    tokens = giver.tokens()
    await shown(tokens)
    giver.now += 40
    assert await shown(tokens) == b"Bearer token-1"
    giver.now += 10
    assert await shown(tokens) == b"Bearer token-2"


async def test_a_refusal_fetches_one_for_all_who_were_refused() -> None:
    """Those too whose refusal comes when the new one is there already."""
    giver = Giver()
    tokens = giver.tokens()
    await shown(tokens)
    renewed = []

    async def ask() -> None:
        renewed.append(await tokens.renew(REFUSED))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    await ask()
    assert renewed == [True] * 21
    assert giver.asked == [False, True]
    assert await shown(tokens) == b"Bearer token-2"


async def test_the_same_token_again_is_no_other_try() -> None:
    giver = Giver()
    giver.same = True
    tokens = giver.tokens()
    await shown(tokens)
    assert not await tokens.renew(REFUSED)


async def test_what_one_may_not_do_another_token_does_not_change() -> None:
    giver = Giver()
    tokens = giver.tokens()
    await shown(tokens)
    assert not await tokens.renew(httpx.Response(403))
    assert giver.asked == [False]


async def test_a_failure_is_told_and_tried_again() -> None:
    failing = True

    def fetch(refused: bool) -> Token:
        del refused
        if failing:
            raise AccessDenied("no credentials")
        return Token("token", 1e12)

    tokens = Tokens(fetch)
    with pytest.raises(AccessDenied):
        await shown(tokens)
    failing = False
    assert await shown(tokens) == b"Bearer token"


def test_a_token_is_not_shown() -> None:
    assert "s3cret" not in repr(Token("s3cret", 0))
