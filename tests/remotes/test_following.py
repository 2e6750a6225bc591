"""Listings that do not come to an end: of every kind of source that lists by pages, however it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count, cycle, repeat

import pytest
import trio

from mirror.errors import ProtocolError
from mirror.paging import reading
from mirror.remotes import How, open_remote
from mirror.remotes.base import Pager, Remote, Scanner
from mirror.remotes.following import MOST_EMPTY, MOST_REPEATED, Onward
from mirror.retry import Schedule
from tests.support.clouds import ByBeginning
from tests.support.hostile import Seen, Wire, hostile

COMMIT = "0123456789abcdef0123456789abcdef01234567"
KINDS = {
    "s3": ("s3://bucket/?endpoint={url}&style=path&anonymous=true", "/bucket"),
    "gs": ("gs://bucket/?endpoint={url}", "/storage/v1/b/bucket/o?"),
    "az": ("az://account/container/?endpoint={url}&anonymous=true", "/container?"),
    "hf": (f"hf://datasets/org/name@{COMMIT}?endpoint={{url}}", "/api/datasets/org/name/tree/"),
}
"""By scheme: the source, and what its listings are asked for at."""

Names = Sequence[str]


def written(kind: str, names: Names, token: str, url: str) -> tuple[dict[str, str], bytes]:
    """A page, as an origin of this kind gives it: its headers and its body."""
    match kind:
        case "s3":
            keys = "".join(
                f"<Contents><Key>{name}</Key><Size>1</Size><ETag>&quot;1&quot;</ETag></Contents>"
                for name in names
            )
            after = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
            return {}, f"<ListBucketResult>{keys}{after}</ListBucketResult>".encode()
        case "gs":
            items = [{"name": name, "size": "1", "generation": "1"} for name in names]
            return {}, json.dumps({"items": items, "nextPageToken": token}).encode()
        case "az":
            blobs = "".join(
                f"<Blob><Name>{name}</Name><Properties><Etag>0x1</Etag><Content-Length>1</Content-Length>"
                "</Properties></Blob>"
                for name in names
            )
            after = f"<Blobs>{blobs}</Blobs><NextMarker>{token}</NextMarker>"
            return {}, f"<EnumerationResults>{after}</EnumerationResults>".encode()
        case _:
            rows = [{"type": "file", "oid": COMMIT, "size": 1, "path": name} for name in names]
            return {"Link": f'<{url}?cursor={token}>; rel="next"'}, json.dumps(rows).encode()


@contextmanager
def endless(
    kind: str, names: Iterator[Names], tokens: Iterator[str], *, hangs_up: bool = False
) -> Iterator[str]:
    """The source on a server whose every page has another one behind it; ``hangs_up``: after each page."""
    source, listing = KINDS[kind]
    turn = cycle([False, hangs_up])

    def behave(seen: Seen, wire: Wire) -> None:
        if next(turn):
            wire.reset()
        headers, body = written(kind, next(names), next(tokens), f"http://{seen.headers['host']}/")
        said = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        # In one go: a body behind its head waits 40 ms for the other side (Nagle), and there are many.
        wire.send(f"HTTP/1.1 200 OK\r\n{said}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    with hostile(ByBeginning({listing: behave})) as server:
        yield source.format(url=server.url)


async def read_all(remote: Remote, how: str) -> None:
    if how == "list":
        await remote.list("")
        return
    if how == "pages":
        assert isinstance(remote, Pager)
        pages = remote.pages("")
    else:
        assert isinstance(remote, Scanner)
        pages = remote.scan()
    async for _ in pages:
        pass


WAYS = [(kind, how) for kind in KINDS for how in ("list", "pages", "scan") if (kind, how) != ("hf", "pages")]


def numbers() -> Iterator[str]:
    return map(str, count())


@pytest.mark.parametrize(("kind", "how"), WAYS)
@pytest.mark.parametrize(
    ("names", "tokens", "words"),
    [
        (lambda: ([name] for name in numbers()), lambda: repeat("again"), "the same page twice"),
        (lambda: ([name] for name in numbers()), lambda: cycle("abcde"), "the same page twice"),
        (lambda: repeat(["a", "b"]), numbers, "the same names"),
        (lambda: cycle([["a"], ["b", "c"], ["d"]]), numbers, "the same names"),
        (lambda: repeat([]), numbers, "nothing on 1,001 pages"),
    ],
    ids=["same token", "tokens in a circle", "same names", "names in a circle", "nothing"],
)
async def test_a_listing_without_an_end_is_an_error(
    kind: str,
    how: str,
    names: Callable[[], Iterator[Names]],
    tokens: Callable[[], Iterator[str]],
    words: str,
) -> None:
    """A clear one, and soon; it is read neither for ever nor for what it is not."""
    with endless(kind, names(), tokens()) as source:
        remote = open_remote(source, How(deadline=5.0))
        try:
            with trio.fail_after(60), pytest.raises(ProtocolError, match=f"come to an end: .*{words}"):
                await read_all(remote, how)
        finally:
            await remote.aclose()


@pytest.mark.parametrize("kind", ["s3", "gs", "az"])
async def test_nor_is_it_asked_again_for_ever(kind: str) -> None:
    """A page and a failure in turn are progress only as long as the pages are others."""
    with endless(kind, repeat(["a"]), numbers(), hangs_up=True) as source:
        remote = open_remote(source, How(deadline=5.0))
        assert isinstance(remote, Pager)
        try:
            with trio.fail_after(60):
                async with reading(partial(remote.pages, ""), None, Schedule(first=0.001), source) as pages:
                    with pytest.raises(ProtocolError, match="the same names"):
                        [page async for page in pages]
        finally:
            await remote.aclose()


def test_a_listing_of_a_million_pages_ends_where_it_ends() -> None:
    """Stores give pages with nothing on them, many in a row, and a name on two pages: that is no circle."""
    onward = Onward("here")
    for number in range(1_000_000):
        onward.past(str(number), [] if number % MOST_EMPTY else [str(number)])
    for number in range(MOST_REPEATED):
        onward.past(f"again {number}", ["one and the same"])
