"""A connection that hangs or crawls holds nobody up for long, and costs little."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import trio

from cache import Filler
from mirror.engine import open_engine
from mirror.fetch import Priority
from mirror.fetch.pace import Pace
from mirror.fetch.part import COST, SHARE, Chunk, Hedges, PartUnderWay, lags
from mirror.retry import Attempts, Schedule
from tests.support.data import MiB, noise
from tests.support.hostile import Behaviour, Hangup, Seen, Wire, good, hostile, page

BODY = noise("hedge", 24 * MiB)
LISTING = page('<html><title>Index of /</title><h1>Index of /</h1><a href="f">f</a></html>')
SCHEDULE = Schedule()


def hanging(
    body: bytes, *, at: int, requests: tuple[int, ...], etag: str = '"one"'
) -> tuple[Behaviour, list[Seen]]:
    """Ranges of ``body``; of the requests with these numbers only the first ``at`` bytes ever come."""
    seen_by_number: list[Seen] = []
    lock = threading.Lock()

    class Cut:
        """A wire that hangs."""

        def __init__(self, wire: Wire) -> None:
            self._wire = wire
            self.head = wire.head

        def send(self, data: bytes) -> None:
            self._wire.send(data[:at])
            self._wire.pause(None)

    def behave(seen: Seen, wire: Wire) -> None:
        if seen.method == "HEAD":
            good(body, etag=etag)(seen, wire)
            return
        with lock:
            number = len(seen_by_number)
            seen_by_number.append(seen)
        # Its `head` and `send` are all that the behaviour uses.
        good(body, etag=etag)(seen, Cut(wire) if number in requests else wire)  # type: ignore[arg-type]

    return behave, seen_by_number


async def fetched(url: str, folder: Path) -> tuple[bytes, int, int]:
    """Fetch the one file; returns its bytes, the hedges, and the bytes that came twice."""
    async with open_engine(url, folder, ttl=60.0, deadline=30.0) as engine:
        await engine.namespace.check_source()
        node = await engine.namespace.lookup(engine.namespace.root.id, "f")
        node = await engine.namespace.fresh(node)
        with trio.fail_after(20):
            await engine.fetcher.whole(node, Priority.DEMAND)
        await trio.testing.wait_all_tasks_blocked()
        fd = engine.cache.objects.open_complete(node)
        assert fd is not None
        with os.fdopen(fd, "rb") as file:
            return file.read(), engine.fetcher.counters.hedges, engine.fetcher.counters.bytes_twice


@pytest.mark.parametrize("at", [0, 100_000])
async def test_a_connection_that_hangs_is_replaced_by_another_one(tmp_path: Path, at: int) -> None:
    """Long before its deadline; what it had brought is kept, and the rest is asked for once."""
    behaviour, seen = hanging(BODY, at=at, requests=(2,))
    with hostile({"/": LISTING, "/f": behaviour}) as server:
        data, hedges, twice = await fetched(server.url, tmp_path)
    assert data == BODY
    assert hedges == 1
    assert twice <= SHARE * len(BODY)
    hung = seen[2].range
    assert hung is not None
    assert sum(each.range == (hung[0] + at, hung[1]) for each in seen) == (1 if at else 2)


async def test_a_hedge_is_of_the_same_version_or_none(tmp_path: Path) -> None:
    """The file changes while a connection hangs: nothing of the other version is let in."""
    old, _ = hanging(BODY, at=1000, requests=(2,))
    new = good(noise("another", len(BODY)), etag='"two"')
    asked = 0

    def changing(seen: Seen, wire: Wire) -> None:
        nonlocal asked
        if seen.method != "HEAD":
            asked += 1
        (old if asked <= 3 else new)(seen, wire)

    with hostile({"/": LISTING, "/f": changing}) as server:
        async with open_engine(server.url, tmp_path, ttl=60.0, deadline=30.0) as engine:
            await engine.namespace.check_source()
            node = await engine.namespace.lookup(engine.namespace.root.id, "f")
            node = await engine.namespace.fresh(node)
            with trio.fail_after(20), pytest.raises(Exception, match="another version"):
                await engine.fetcher.whole(node, Priority.DEMAND)
            assert engine.cache.objects.open_complete(node) is None


async def test_a_hedge_that_breaks_leaves_its_part_alone(tmp_path: Path) -> None:
    """And there is no second one."""
    broken = threading.Event()
    asked: list[Seen] = []
    lock = threading.Lock()

    class Slow:
        """A wire that goes on once the hedge is broken."""

        def __init__(self, wire: Wire) -> None:
            self._wire = wire
            self.head = wire.head

        def send(self, data: bytes) -> None:
            self._wire.send(data[:1000])
            broken.wait(15)
            self._wire.send(data[1000:])

    def behave(seen: Seen, wire: Wire) -> None:
        if seen.method == "HEAD":
            good(BODY)(seen, wire)
            return
        with lock:
            number = len(asked)
            asked.append(seen)
        slow = asked[2].range if number > 2 else None
        if slow is not None and seen.range == (slow[0] + 1000, slow[1]):
            broken.set()
            raise Hangup
        good(BODY)(seen, Slow(wire) if number == 2 else wire)  # type: ignore[arg-type]

    with hostile({"/": LISTING, "/f": behave}) as server:
        data, hedges, twice = await fetched(server.url, tmp_path)
    assert broken.is_set()
    assert (data == BODY, hedges, twice) == (True, 1, 0)


# -- the decisions ---------------------------------------------------------------------------


async def part(start: int, stop: int, came: int, seconds: float, quiet: float = 0.0) -> PartUnderWay:
    made = PartUnderWay(start, stop, Attempts(SCHEDULE))
    now = trio.current_time()
    made.asks(now - seconds)
    made.came, made.last_at = came, now - quiet
    return made


async def test_a_part_is_slow_compared_with_its_siblings() -> None:
    siblings = [await part(0, 64 * MiB, 30 * MiB, 3.0) for _ in range(3)]
    slow = await part(0, 64 * MiB, MiB, 3.0)
    now = trio.current_time()
    assert lags(slow, [*siblings, slow], 1.0, None, now)
    assert not lags(siblings[0], [*siblings, slow], 1.0, None, now)
    assert not lags(slow, [slow], 1.0, None, now)  # nothing to compare with
    assert lags(slow, [slow], 1.0, 10.0 * MiB, now)  # but with what is usual there


async def test_no_byte_for_too_long_is_slow_and_none_asked_for_is_not() -> None:
    silent = await part(0, 64 * MiB, MiB, 1.5, quiet=1.2)
    now = trio.current_time()
    assert lags(silent, [silent], 1.0, None, now)
    assert not lags(silent, [silent], 2.0, None, now)
    silent.asked_at = None  # it waits for a connection, or for its next try
    assert not lags(silent, [silent], 1.0, None, now)


async def test_never_more_than_one_hedge_for_a_part_and_a_share_of_the_file() -> None:
    silent = await part(0, 64 * MiB, MiB, 9.0, quiet=8.0)
    hedges, pace = Hedges(), Pace(16)
    hedge = hedges.make(silent, [silent], 64 * MiB, pace, SCHEDULE)
    assert hedge is not None
    assert hedges.make(silent, [silent], 64 * MiB, pace, SCHEDULE) is None
    hedge.asks(trio.current_time() - 60)
    assert hedges.make(hedge, [hedge], 64 * MiB, pace, SCHEDULE) is None
    other = await part(0, 64 * MiB, MiB, 9.0, quiet=8.0)
    hedges.wasted = int(64 * MiB * SHARE) - COST + 1
    assert hedges.make(other, [other], 64 * MiB, pace, SCHEDULE) is None


async def test_what_is_being_written_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes its time looks like a connection that does: nobody takes over what has come."""
    put = Filler.put

    async def slowly(filler: Filler, offset: int, chunks: list[Chunk], size: int) -> None:
        await trio.sleep(0.3)
        await put(filler, offset, chunks, size)

    monkeypatch.setattr(Filler, "put", slowly)
    body = BODY[: 3 * MiB]
    answer, asked = good(body, etag='"one"'), list[Seen]()

    def behave(seen: Seen, wire: Wire) -> None:
        asked.append(seen)
        wire.pause(0.05)  # not so near that a connection or two would be enough
        answer(seen, wire)

    with hostile({"/": LISTING, "/f": behave}) as server:
        data, _, _ = await fetched(server.url, tmp_path)
    assert data == body
    ranges = sorted(seen.range for seen in asked if seen.range is not None)
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])], ranges
