"""Opens that only the keeper saw: the worker hears of them, soon and once."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from mirror.keeper import client, link
from mirror.keeper.opens import Opens
from tests.keeper.conftest import Home
from tests.support.waiting import eventually


class Reader:
    """A worker that reads so many messages and no more."""

    def __init__(self, messages: int, *, gone: bool = False) -> None:
        self.left = messages
        self.gone = gone
        self.heard: list[bytes] = []
        self.waited = 0.0

    def has_room(self, seconds: float = 0.0) -> bool:
        self.waited += 0.0 if self.left > 0 else seconds
        return self.left > 0

    def opened(self, packed: bytes) -> bool:
        if not self.gone:
            self.left -= 1
            self.heard.append(packed)
        return not self.gone


def packed(count: int, first: int = 1) -> bytes:
    """So many opens of different nodes."""
    return b"".join(link.OPENED.pack(node, 1000) for node in range(first, first + count))


def test_nothing_is_taken_for_a_worker_that_does_not_read() -> None:
    """What cannot be sent stays in the channel, and nobody waits."""
    opens = Opens(lambda: pytest.fail("taken"))
    reader = Reader(0)
    assert not opens.send(reader)
    assert reader.waited == 0.0


def test_what_was_taken_and_not_sent_is_kept() -> None:
    """Opens that one worker did not read, or died over, the next one hears of; in messages of a size."""
    taken = [packed(2 * link.OPENS_MAX + 5), b"", b""]
    opens = Opens(lambda: taken.pop(0))
    first, dead, second = Reader(1), Reader(5, gone=True), Reader(5)
    assert not opens.send(first)
    assert not opens.send(dead)
    assert opens.send(second)
    assert [len(part) // link.OPENED.size for part in first.heard] == [link.OPENS_MAX]
    assert [len(part) // link.OPENED.size for part in second.heard] == [link.OPENS_MAX, 5]
    assert b"".join(first.heard + second.heard) == packed(2 * link.OPENS_MAX + 5)
    assert opens.send(second)


def test_a_busy_mount_does_not_keep_the_keeper() -> None:
    """However fast opens come, they are taken once at a time; what was left before goes first."""
    taken = iter([packed(link.OPENS_MAX + 1), packed(3, first=10_000), packed(1)])
    opens = Opens(lambda: next(taken))
    first, second = Reader(1), Reader(9)
    assert not opens.send(first)
    assert opens.send(second)
    assert [len(part) // link.OPENED.size for part in second.heard] == [1, 3]


def test_the_last_opens_may_wait_for_the_worker() -> None:
    """At the end the keeper waits for a worker that does not read, but only so long."""
    opens = Opens(lambda: packed(1))
    reader = Reader(0)
    assert not opens.send(reader, 0.5)
    assert reader.waited == 0.5


def test_opens_leave_room_for_requests() -> None:
    """A worker that reads nothing is still told to end: opens never fill the link."""
    ours, theirs = link.pair()
    keeper, worker = link.KeeperEnd(ours), link.WorkerEnd(theirs)
    sent = 0
    while keeper.has_room():
        assert keeper.opened(packed(link.OPENS_MAX))
        sent += 1
    assert sent > 0
    assert keeper.ask(link.Request.STATS)
    assert keeper.ask(link.Request.QUIT)
    for _ in range(sent):
        assert isinstance(worker.receive(), link.Opens)
    assert worker.receive() is link.Request.STATS
    assert worker.receive() is link.Request.QUIT
    assert keeper.has_room()
    theirs.close()
    assert not keeper.opened(packed(1))
    keeper.close()


def test_an_end_of_the_link_with_a_high_number_has_room() -> None:
    """The number of the descriptor does not matter: the keeper has thousands of them."""
    ours, theirs = link.pair()
    high = os.dup2(ours.fileno(), 3000)
    keeper = link.KeeperEnd(socket.socket(fileno=high))
    assert keeper.has_room()
    keeper.close()
    ours.close()
    theirs.close()


def test_a_worker_hears_what_the_keeper_opened(home: Home) -> None:
    """Within seconds, and each file once in that time; not what it answered itself."""
    home.add(whole=1000, plain=1000)
    home.start()
    for _ in range(4):
        (home.path / "whole").read_bytes()
        (home.path / "plain").read_bytes()
    told = eventually(lambda: home.status()["counters"]["told"], "the worker hears")
    assert told.keys() == {"whole"}
    assert told["whole"] <= 2  # the opens may fall into two intervals
    assert home.counters()["opens_by_keeper"] == 3
    assert home.counters()["opens_dropped"] == 0


def test_the_last_opens_are_told_at_the_end(home: Home) -> None:
    """What was opened right before unmounting is not lost."""
    home.add(whole=1000)
    home.start()
    for _ in range(2):
        (home.path / "whole").read_bytes()
    client.unmount(home.config.mountpoint)
    assert 'told of {"whole": 1}' in home.log


def test_opens_without_a_worker_are_told_to_the_next_one(home: Home) -> None:
    """What the keeper answers while no worker is there its successor hears of."""
    home.add(whole=1000)
    home.start()
    (home.path / "whole").read_bytes()
    worker = home.status()["worker_pid"]
    os.kill(worker, signal.SIGKILL)
    (home.path / "whole").read_bytes()
    eventually(lambda: home.status()["worker_pid"] not in (worker, None), "another worker starts")
    eventually(lambda: home.status()["counters"].get("told") == {"whole": 1}, "it hears")
