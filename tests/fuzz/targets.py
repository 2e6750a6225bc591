"""What the fuzzer drives, and what has to hold whatever comes."""

from __future__ import annotations

import random

import httpx
import trio
import trio.testing

from cache import Kind
from mirror.errors import MirrorError
from mirror.http import answers
from mirror.http.connection import CHUNK, Asked, Connection
from mirror.http.files import Dialect
from mirror.http.parts import HttpPart
from mirror.http.places import redirected
from mirror.http.promises import promised
from mirror.remotes.base import Entry
from mirror.remotes.listings import NotAListingError, parse
from mirror.remotes.names import check
from tests.fuzz import inputs

URL = "http://h/data/"
_BASE = httpx.URL(URL)
_DIALECT = Dialect()


def listing(body: bytes, content_type: str) -> None:
    """Entries with names that can be, or the one error there is."""
    try:
        entries = parse(body, content_type, URL)
    except NotAListingError:
        return
    names = [entry.name for entry in entries]
    assert len(set(names)) == len(names)
    for entry in entries:
        assert check(entry.name) == entry.name
        assert entry.size is None or (0 <= entry.size < 2**63 and entry.kind is Kind.FILE)
        assert entry.mtime_ns is None or -(2**63) <= entry.mtime_ns < 2**63


def head(status: int, raw: list[tuple[bytes, bytes]]) -> None:
    """Every question that is put to headers has an answer or one of our errors."""
    stated = httpx.Headers(raw)
    response = httpx.Response(status, headers=raw)
    validator = answers.validator(stated)
    if validator is not None:
        assert validator.isascii()
        assert _DIALECT.condition(validator, ranged=True)
    answers.modified(stated)
    answers.whole(stated)
    answers.unsatisfied_size(stated)
    answers.settled(stated)
    wait = answers.retry_after(stated.get("retry-after"))
    assert wait is None or wait >= 0
    promised(status, stated, URL)
    assert "\n" not in str(answers.failure(response, URL, conditional=True))
    for question in (
        lambda: answers.partial(stated, 0, 10, URL),
        lambda: answers.partial(stated, 5, None, URL),
        lambda: answers.refuse_encoded(stated, URL),
        lambda: _DIALECT.check_version(stated, 'etag:"one"', URL),
        lambda: _DIALECT.check_version(stated, f"modified:{inputs.TIMES[2]}", URL),
        lambda: redirected(_BASE, stated.get("location", "x")),
    ):
        try:
            question()
        except MirrorError as exc:
            assert "\n" not in str(exc)  # noqa: PT017 - the message is what is tested


class _Wire:
    """The socket of a connection, as far as it is asked anything: there are no bytes in it but those."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def close(self) -> None:
        self._pieces.clear()


class _Connection(Connection):
    """It receives what it was given, in two pieces."""

    def __init__(self, data: bytes, cut: int) -> None:
        self._pieces = [piece for piece in (data[:cut], data[cut:]) if piece]
        super().__init__(_Wire(self._pieces), None, public=False)  # type: ignore[arg-type]

    async def _over_wire(self, request: bytes | None, most: int, least: int = 0) -> bytes:
        del request, least
        most = most or CHUNK
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if len(piece) > most:
            self._pieces.insert(0, piece[most:])
        return piece[:most]


async def answer(data: bytes, cut: int) -> None:
    """A whole answer: exactly the bytes that its head promised, or one of the errors that are expected."""
    connection = _Connection(data, cut)
    ended: list[bool] = []
    asked = Asked("GET", b"/f", [(b"Host", b"h"), (b"Range", b"bytes=0-9")], 5.0)
    try:
        response = await connection.exchange(asked, lambda _connection, reusable: ended.append(reusable))
    except httpx.TransportError:
        assert not ended
        return
    try:
        if response.status_code not in (200, 206):
            answers.failure(response, URL, conditional=True)
            return
        span = (
            answers.partial(response.headers, 0, 10, URL)
            if response.status_code == 206
            else answers.whole(response.headers)
        )
        part = HttpPart(
            response,
            span,
            Entry("f", Kind.FILE, span.size),
            ranges=True,
            digest=promised(response.status_code, response.headers, URL),
            where=URL,
            deadline=5.0,
        )
        got = b"".join([bytes(chunk) async for chunk in part])
        assert span.stop is None or len(got) == span.stop - span.start
        assert got in data or b"chunked" in data.lower()
    except MirrorError:
        pass
    finally:
        await response.aclose()
    assert len(ended) == 1


def run(count: int, seed: int) -> None:
    """So many inputs: a third of them listings, heads and answers each.

    Raises:
        AssertionError: of the input that was not borne, with its number.
    """

    async def all_of_them() -> None:
        for number in range(count):
            await one(seed, number)

    trio.run(all_of_them)


async def one(seed: int, number: int) -> None:
    """Input ``number`` of a run."""
    luck = random.Random(f"{seed}:{number}")
    shown: object = None
    try:
        match number % 3:
            case 0:
                shown = page = inputs.page(luck)
                listing(*page)
            case 1:
                status, raw = luck.choice(inputs.STATUSES), inputs.headers(luck)
                shown = status, raw
                head(status, raw)
            case _:
                shown = data = inputs.message(luck)
                await answer(data, luck.randrange(len(data) + 1))
    except BaseException as exc:
        exc.add_note(f"input {number} of seed {seed}: {shown!r}"[:4000])
        raise
