"""What is known of a version while it is fetched, and whether an answer is of it."""

from __future__ import annotations

from cache import Extents, Filler, Node, same_version
from mirror.errors import VersionChanged
from mirror.fetch.life import NotContinued
from mirror.fetch.promise import Promise
from mirror.remotes.base import Part


class Version:
    """What the listing said of one version, and the answers since."""

    __slots__ = ("_node", "_path", "promise", "ranged", "size", "validator")

    def __init__(self, node: Node, path: str) -> None:
        """``path`` is named in messages."""
        self._node = node
        self._path = path
        self.validator = node.validator
        self.size = node.size
        self.ranged: bool | None = None
        """Whether ranges of it can be asked for; None: the origin has not answered yet."""
        self.promise = Promise(path)

    def check(self, answer: Part, filler: Filler) -> None:
        """Hold an answer's headers against it; learn what the listing did not say.

        Raises:
            VersionChanged: it is of another.
            NotContinued: nothing tells whether it continues what ``filler`` has.
            BrokenPromise: another answer promised something else.
        """
        seen = answer.entry
        if not same_version(self._node, seen):
            raise self.changed()
        self.promise.heard(answer.digest)
        if self.size is None and answer.size is not None:
            self.size = answer.size
            filler.set_size(answer.size)
        if seen.validator is None:
            self.refuse_to_join(filler.present)
            filler.alone()
        elif self.validator is None:
            self.validator = seen.validator
            filler.learn(seen.validator)
        self.ranged = answer.ranges and seen.validator is not None and self.size is not None

    def refuse_to_join(self, present: Extents) -> None:
        """Raise where bytes are here: nothing tells whether an answer continues them.

        Size and time do not: a file can change twice within the second that Last-Modified counts in.
        """
        if present.total:
            raise NotContinued(f"{self._path} cannot be continued: the origin gives it no strong validator")

    def changed(self) -> VersionChanged:
        """The error of an answer that is of another."""
        return VersionChanged(f"{self._path} has changed at the origin")

    def other_size(self, received: int) -> VersionChanged:
        """The error of one that has another size."""
        return VersionChanged(f"{self._path} has changed at the origin: {received} bytes, not {self.size}")
