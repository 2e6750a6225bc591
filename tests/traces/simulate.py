"""What cache policies make of a trace: `cache.policy` against LRU, SIEVE, S3-FIFO and the offline optimum.

    python -m tests.traces.simulate [NAME]…

A policy has one method, `open`, which says whether the object was there, and puts it there if not. All count
bytes. What is larger than the whole cache is not kept by any.
"""

from __future__ import annotations

import heapq
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import Protocol

from cache.policy import Queue, Resident, choose, forget_ghosts_before, place
from tests.traces import trace
from tests.traces.trace import Open

OURS, LRU, SIEVE, S3_FIFO, OPTIMUM = "ours", "LRU", "SIEVE", "S3-FIFO", "optimum"


class Policy(Protocol):
    """A cache of some size."""

    def open(self, path: str, size: int) -> bool: ...


class Ours:
    """A cache that asks `cache.policy`: what an index of objects would do, with dictionaries."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.clock = 0
        self._nodes: dict[str, int] = {}
        self._queues: dict[Queue, OrderedDict[int, Resident]] = {queue: OrderedDict() for queue in Queue}
        self._bytes = dict.fromkeys(Queue, 0)
        self._ghosts: OrderedDict[int, int] = OrderedDict()
        """In order of eviction, which is nearly the order of last use."""

    def open(self, path: str, size: int) -> bool:
        self.clock += size
        node = self._nodes.setdefault(path, len(self._nodes))
        for queue in Queue:
            if node in self._queues[queue]:
                self._queues[queue][node] = Resident(node, size, queue, self.clock)
                if queue is Queue.MAIN:
                    self._queues[queue].move_to_end(node)
                return True
        if size <= self.cap:
            self._add(node, size)
        return False

    def _add(self, node: int, size: int) -> None:
        main = self._queues[Queue.MAIN]
        queue = place(
            ghost=self._ghosts.pop(node, None),
            occupied=size,
            main_bytes=self._bytes[Queue.MAIN],
            budget=self.cap,
            clock=self.clock,
            next_main_used=next((resident.used for resident in main.values()), None),
        )
        victims = choose(
            iter(self._queues[Queue.SMALL].values()),
            iter(main.values()),
            need=sum(self._bytes.values()) + size - self.cap,
            main_bytes=self._bytes[Queue.MAIN] + (size if queue is Queue.MAIN else 0),
            budget=self.cap,
            available=lambda _: True,
        )
        for victim in victims:
            del self._queues[victim.queue][victim.node]
            self._bytes[victim.queue] -= victim.occupied
            self._ghosts[victim.node] = victim.used
        self._queues[queue][node] = Resident(node, size, queue, self.clock)
        self._bytes[queue] += size
        forget = forget_ghosts_before(self.clock, self.cap)
        while self._ghosts and next(iter(self._ghosts.values())) < forget:
            self._ghosts.popitem(last=False)


class Lru:
    """Least recently used."""

    def __init__(self, cap: int) -> None:
        self._free = cap
        self._cap = cap
        self._sizes: OrderedDict[str, int] = OrderedDict()

    def open(self, path: str, size: int) -> bool:
        if path in self._sizes:
            self._sizes.move_to_end(path)
            return True
        if size <= self._cap:
            while self._free < size:
                self._free += self._sizes.popitem(last=False)[1]
            self._sizes[path] = size
            self._free -= size
        return False


class Sieve:
    """SIEVE (Zhang and others, NSDI 2024): a hand over the order of arrival spares what was opened again."""

    def __init__(self, cap: int) -> None:
        self._free = cap
        self._cap = cap
        self._sizes: dict[str, int] = {}
        self._visited: dict[str, bool] = {}
        self._newer: dict[str, str | None] = {}
        self._older: dict[str, str | None] = {}
        self._newest: str | None = None
        self._oldest: str | None = None
        self._hand: str | None = None

    def open(self, path: str, size: int) -> bool:
        if path in self._sizes:
            self._visited[path] = True
            return True
        if size <= self._cap:
            while self._free < size:
                self._evict()
            self._sizes[path], self._visited[path] = size, False
            self._free -= size
            self._newer[path], self._older[path] = None, self._newest
            if self._newest is not None:
                self._newer[self._newest] = path
            self._newest = path
            self._oldest = self._oldest or path
        return False

    def _evict(self) -> None:
        at = self._hand or self._oldest
        assert at is not None
        while self._visited[at]:
            self._visited[at] = False
            at = self._newer[at] or self._oldest
            assert at is not None
        self._free += self._sizes.pop(at)
        del self._visited[at]
        newer, older = self._newer.pop(at), self._older.pop(at)
        self._hand = newer
        if newer is None:
            self._newest = older
        else:
            self._older[newer] = older
        if older is None:
            self._oldest = newer
        else:
            self._newer[older] = newer


class S3Fifo:
    """S3-FIFO (Yang and others, SOSP 2023) as published: a tenth is small, ghosts for nine tenths."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._small: OrderedDict[str, int] = OrderedDict()
        self._main: OrderedDict[str, int] = OrderedDict()
        self._ghosts: OrderedDict[str, int] = OrderedDict()
        self._small_bytes = self._main_bytes = self._ghost_bytes = 0
        self._hits: dict[str, int] = {}

    def open(self, path: str, size: int) -> bool:
        if path in self._hits:
            self._hits[path] = min(3, self._hits[path] + 1)
            return True
        if size <= self._cap:
            while self._small_bytes + self._main_bytes + size > self._cap:
                if self._small_bytes > 0.1 * self._cap or not self._main:
                    self._evict_small()
                else:
                    self._evict_main()
            self._hits[path] = 0
            if path in self._ghosts:
                self._ghost_bytes -= self._ghosts.pop(path)
                self._main[path] = size
                self._main_bytes += size
            else:
                self._small[path] = size
                self._small_bytes += size
        return False

    def _evict_small(self) -> None:
        path, size = self._small.popitem(last=False)
        self._small_bytes -= size
        if self._hits[path] > 1:
            self._hits[path] = 0
            self._main[path] = size
            self._main_bytes += size
            return
        del self._hits[path]
        self._ghosts[path] = size
        self._ghost_bytes += size
        while self._ghost_bytes > 0.9 * self._cap:
            self._ghost_bytes -= self._ghosts.popitem(last=False)[1]

    def _evict_main(self) -> None:
        path, size = self._main.popitem(last=False)
        if self._hits[path] > 0:
            self._hits[path] -= 1
            self._main[path] = size
        else:
            del self._hits[path]
            self._main_bytes -= size


class Belady:
    """What is used last of all goes first, also the newcomer itself. Knows the future.

    The optimum where all objects have one size; where not, only near it: to choose among sizes is a knapsack.
    """

    def __init__(self, cap: int, opens: Sequence[Open]) -> None:
        self._free = cap
        self._next = self._uses(opens)
        self._at = 0
        self._kept: dict[str, tuple[int, int]] = {}
        """Path → next use, size."""
        self._last: list[tuple[int, str]] = []
        """Heap, latest next use first; entries that `_kept` does not confirm are void."""

    @staticmethod
    def _uses(opens: Sequence[Open]) -> list[int | None]:
        found: list[int | None] = []
        later: dict[str, int] = {}
        for at in range(len(opens) - 1, -1, -1):
            found.append(later.get(opens[at].path))
            later[opens[at].path] = at
        return found[::-1]

    def open(self, path: str, size: int) -> bool:
        again = self._next[self._at]
        self._at += 1
        hit = path in self._kept
        if hit:
            self._free += self._kept.pop(path)[1]
        if again is not None:
            self._kept[path] = again, size
            self._free -= size
            heapq.heappush(self._last, (-again, path))
            while self._free < 0:
                use, last = heapq.heappop(self._last)
                if last in self._kept and self._kept[last][0] == -use:
                    self._free += self._kept.pop(last)[1]
        return hit


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy came to on a trace."""

    hits: list[bool]
    """One for each open."""
    sizes: list[int]

    @property
    def ratio(self) -> float:
        """Opens of what was there / opens."""
        return sum(self.hits) / len(self.hits)

    @property
    def byte_ratio(self) -> float:
        """The same, each open weighed with the object's size."""
        return sum(size for size, hit in zip(self.sizes, self.hits, strict=True) if hit) / sum(self.sizes)

    def by_part(self, lengths: Sequence[int]) -> Iterator[float]:
        """`byte_ratio` of the first so many opens, of the next so many, and so on."""
        for start, stop in pairwise(accumulate(lengths, initial=0)):
            yield Outcome(self.hits[start:stop], self.sizes[start:stop]).byte_ratio

    def among(self, positions: Sequence[int]) -> float:
        """The hit ratio of some opens only."""
        return sum(self.hits[at] for at in positions) / len(positions)


POLICIES: dict[str, Callable[[int, Sequence[Open]], Policy]] = {
    OURS: lambda cap, _: Ours(cap),
    LRU: lambda cap, _: Lru(cap),
    SIEVE: lambda cap, _: Sieve(cap),
    S3_FIFO: lambda cap, _: S3Fifo(cap),
    OPTIMUM: Belady,
}


def simulate(policy: str, cap: int, opens: Sequence[Open]) -> Outcome:
    """Run a policy over some opens."""
    made = POLICIES[policy](cap, opens)
    return Outcome([made.open(seen.path, seen.size) for seen in opens], [seen.size for seen in opens])


recorded = cache(trace.load)


@cache
def outcome(policy: str, name: str) -> Outcome:
    """Run a policy over a recorded trace, with the cap that the trace is about."""
    return simulate(policy, recorded(name).cap, recorded(name).opens)


def main() -> None:
    """Print hit ratios, and in brackets those by bytes."""
    print(f"{'':12}" + "".join(f"{policy:>18}" for policy in POLICIES))
    for name in sys.argv[1:] or trace.names():
        figures = [outcome(policy, name) for policy in POLICIES]
        print(f"{name:12}" + "".join(f"{one.ratio:10.3f} ({one.byte_ratio:.3f})" for one in figures))


if __name__ == "__main__":
    main()
