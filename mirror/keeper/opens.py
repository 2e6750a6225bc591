"""Opens on their way from the channel to the worker, which never saw them.

They wait in the channel's own array, which is bounded and has each node once, until a worker reads its
link; what was taken out of it and could not be sent is kept here for the next time or the next worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mirror.keeper.link import OPENED, OPENS_MAX

_PART = OPENS_MAX * OPENED.size
"""Bytes in one message."""


class Receiver(Protocol):
    """The keeper's end of a link (`mirror.keeper.link.KeeperEnd`)."""

    def has_room(self, seconds: float = 0.0) -> bool:
        """Whether the worker has read most of what it was sent, within so many seconds."""

    def opened(self, packed: bytes) -> bool:
        """Send opens; False when they could not be sent."""


class Opens:
    """What the worker has not been told yet."""

    def __init__(self, take: Callable[[], bytes]) -> None:
        """Take opens from there (`mirror.keeper._channel.Channel.take_opens`)."""
        self._take = take
        self._left = b""

    def send(self, to: Receiver, seconds: float = 0.0) -> bool:
        """Send what there is; False when the worker did not read it in time, and some is left.

        Args:
            to: a worker that is prepared.
            seconds: how long to wait for it to read, for each message; 0: never wait.
        """
        taken = False
        while to.has_room(seconds):
            if not self._left:
                if taken:  # once, or a busy mount would keep us here
                    return True
                self._left, taken = self._take(), True
            if self._left and not to.opened(self._left[:_PART]):
                return False
            self._left = self._left[_PART:]
        return False
