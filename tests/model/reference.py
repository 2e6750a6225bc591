"""The reference: what an origin had and when, and so what a reader may get. Pure.

It knows nothing of how the mirror works. It keeps the whole history of the origin, by steps of the
sequence and by the sequence's own clock, and says of each answer whether it can be true:

- bytes are those of one version of their path, at their place, as many as were asked for;
- what a name stands for is what the origin had at some moment since it last told about the name;
- only what the origin did not have is not found, and only what the origin did can be an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from tests.cache.support import MTIME
from tests.cache.support import content as bytes_of

LONGEST_PAUSE = 60.0
"""Seconds for which cached answers may be used unasked after an outage (`mirror.health`)."""


@dataclass(frozen=True)
class Version:
    """What an origin has, or had, at a path."""

    path: str
    number: int
    """Of all versions of all paths; the content follows from it."""
    size: int
    mtime_ns: int
    validator: str | None

    @property
    def content(self) -> bytes:
        return _content(self.number, self.size)

    @property
    def listed(self) -> tuple[int, int]:
        """All that a listing says of it."""
        return self.size, self.mtime_ns


@cache
def _content(number: int, size: int) -> bytes:
    return bytes_of(number, 0, size)


@dataclass
class Seen:
    """A node that the mirror showed, and what is known of the version that it stands for."""

    path: str
    size: int | None
    mtime_ns: int
    validator: str | None
    fits: frozenset[Version] | None = None
    """Versions that the bytes which were read can be of; None: nobody has read any."""
    poisoned: bool = False
    """Its object was found damaged while it was in use: who has it open keeps what they have."""

    def can_be(self, version: Version) -> bool:
        return (
            self.size in (None, version.size)
            and self.mtime_ns == version.mtime_ns
            and self.validator in (None, version.validator)
            and (self.fits is None or version in self.fits)
        )


@dataclass
class Reference:
    """One origin's history, and what the mirror has shown of it."""

    ttl: float
    now: float = 1000.0
    step: int = 0
    nodes: dict[int, Seen] = field(default_factory=dict)
    _history: dict[str, list[tuple[int, Version | None]]] = field(default_factory=dict)
    _told: dict[str, tuple[int, float]] = field(default_factory=dict)
    _told_before: dict[str, tuple[int, float]] = field(default_factory=dict)
    _versions: list[Version] = field(default_factory=list)
    _failing_until: float = -1e9

    # -- what the origin does ----------------------------------------------------------------

    def put(self, path: str, size: int, *, sneaky: bool = False, validator: bool = True) -> Version:
        """Another version; a sneaky one has the size and the time of the one before."""
        old = self.current(path)
        number = len(self._versions) + 1
        etag = f'etag:"{number}"' if validator else None
        if sneaky and old is not None and validator:
            version = Version(path, number, old.size, old.mtime_ns, etag)
        else:
            version = Version(path, number, size, MTIME + number * 10**9, etag)
        self._versions.append(version)
        self.place(path, version)
        return version

    def place(self, path: str, version: Version | None) -> None:
        """What stands at a path from this step on; None: nothing."""
        self._history.setdefault(path, []).append((self.step, version))

    def current(self, path: str) -> Version | None:
        history = self._history.get(path)
        return history[-1][1] if history else None

    def past(self, path: str) -> list[Version]:
        """All that ever stood at a path, each once."""
        return list(dict.fromkeys(v for _, v in self._history.get(path, ()) if v is not None))

    def states(self, path: str, since: int) -> set[Version | None]:
        """What stood at a path at any moment from the beginning of a step on."""
        history = self._history.get(path, [])
        first = 0
        for index, (step, _) in enumerate(history):
            if step < since:
                first = index
        states = {version for _, version in history[first:]}
        if not history or history[0][0] >= since:
            states.add(None)
        return states

    def failed(self) -> None:
        """The origin fails at this moment, for some of its requests or all."""
        self._failing_until = self.now

    def heard_by_the_dead(self) -> None:
        """A process was killed: it may have been told, and have noted, what is not known here."""
        self._failing_until = self.now + self.ttl

    @property
    def must_be_asked(self) -> bool:
        """Whether nothing excuses an answer that is older than the TTL."""
        return self.now - self._failing_until > LONGEST_PAUSE

    def told(self, path: str) -> None:
        """The origin told about a path in this step."""
        known = self._told.get(path)
        if known is not None and known[0] < self.step:
            self._told_before[path] = known
        self._told[path] = self.step, self.now

    # -- what the mirror may say -------------------------------------------------------------

    def names(
        self, path: str, node: int, size: int | None, mtime_ns: int, validator: str | None
    ) -> str | None:
        """A look-up of a path gave a node; returns what is wrong with that."""
        seen = self.nodes.setdefault(node, Seen(path, size, mtime_ns, validator))
        if seen.path != path:
            return f"node {node} was {seen.path}"
        if None not in (seen.validator, validator) and seen.validator != validator:
            return f"node {node} of {path} was another version"
        seen.size = seen.size if size is None else size
        seen.validator = seen.validator or validator
        candidates = self.candidates(node)
        if not candidates:
            return f"node {node} of {path} stands for no version that ever was, or for two"
        allowed = {version.listed for version in self._since_told(path) if version is not None}
        if not any(version.listed in allowed for version in candidates):
            return f"{path} is an older version than the origin has told of"
        return self._stale(path)

    def candidates(self, node: int) -> frozenset[Version]:
        """The versions that a node can stand for: while it is unread, also later ones that look the same."""
        seen = self.nodes[node]
        return frozenset(version for version in self.past(seen.path) if seen.can_be(version))

    def is_absent(self, path: str) -> str | None:
        """A look-up found nothing; returns what is wrong with that."""
        if None not in self._since_told(path):
            return f"{path} was always there"
        # Whoever tells that a folder is gone tells it of all below.
        folder = path.rpartition("/")[0]
        return self._stale(path) and (self._stale(folder) if folder else self._stale(path))

    def _since_told(self, path: str) -> set[Version | None]:
        told = self._told.get(path, (0, 0.0))
        if told[0] == self.step:  # maybe after the answer was given: only what was told before counts
            told = self._told_before.get(path, (0, 0.0))
        return self.states(path, told[0])

    def _stale(self, path: str) -> str | None:
        if not self.must_be_asked:
            return None
        _, when = self._told.get(path, (0, -1e9))
        return (
            None
            if self.now - when <= self.ttl
            else f"{path} was last asked about at {when}, now is {self.now}"
        )

    def reads(self, node: int, offset: int, size: int, data: bytes) -> str | None:
        """A read of a node gave bytes; returns what is wrong with them."""
        seen = self.nodes[node]
        if seen.poisoned:
            return None
        candidates = self.candidates(node)
        fits = frozenset(v for v in candidates if v.content[offset : offset + size] == data)
        if not fits:
            what = ", ".join(f"{v.number} ({v.size} bytes)" for v in candidates)
            where = f"{len(data)} bytes at {offset} of {seen.path}, asked for {size}"
            return f"{where}: not of version {what}; {_describe(data, offset, self._versions)}"
        if data:
            seen.fits = fits
        return None

    def may_have_changed(self, node: int) -> bool:
        """Whether the origin may not have a node's version at some moment of this step."""
        candidates = self.candidates(node)
        return bool(self.states(self.nodes[node].path, self.step) - candidates) or len(candidates) > 1


def _describe(data: bytes, offset: int, versions: list[Version]) -> str:
    """Whose bytes these are, for the message."""
    pieces: list[str] = []
    at = 0
    while at < len(data) and len(pieces) < 6:
        best, length = "nobody", 1
        if data[at] == 0:
            best, length = "zeros", len(data[at:]) - len(data[at:].lstrip(b"\0"))
        for version in versions:
            right = version.content[offset + at :]
            count = 0
            while at + count < len(data) and count < len(right) and right[count] == data[at + count]:
                count += 1
            if count > length:
                best, length = f"version {version.number}", count
        pieces.append(f"{best} {offset + at} to {offset + at + length}")
        at += length
    return "they are " + ", ".join(pieces) if pieces else "they are none"
