"""What the worker tells the kernel by itself: names and pages to forget, backing files to take back.

Notifications may wait in the kernel for whoever holds the name, so they are sent from a thread and
nothing waits for them. Their order is kept. Some are sent at once, and the next ones once the kernel has got
those: so none is lost, however long it waits.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import cast

import pyfuse3
import trio

from cache import CacheError, Changes, Node
from mirror.attributes import Attributes
from mirror.keeper.control import NAMES_AT_ONCE, Registrar
from mirror.keeper.questions import NOTIFIED_AT_ONCE, Questions
from mirror.namespace import Namespace

log = logging.getLogger(__name__)


class _Special(Enum):
    ALL = 1
    """All names of the folder."""
    MARK = 2
    """Nothing: the number is that of a piece of news."""


_ALL, _MARK = _Special.ALL, _Special.MARK
_Notice = tuple[int, bytes | _Special | None]
"""Folder and name; a file and None: its pages; or a number that a `_Special` is about."""


class Kernel:
    """The kernel's side of one mount, as far as the worker may reach it."""

    def __init__(self, registrar: Registrar, questions: Questions) -> None:
        self._registrar = registrar
        self._questions = questions
        self._queue: deque[_Notice] = deque()
        self.told = 0
        """Id of the last piece of news (`cache.news`) that the kernel knows of, with all before."""
        self._wake = trio.Event()
        self.namespace: Namespace | None = None
        """Set once the source is open; nothing was told to the kernel before."""
        self._reached = trio.Event()

    def reached(self) -> None:
        """Note that the session with the kernel has begun: libfuse refuses notifications before."""
        self._reached.set()

    def register(self, node: Node, fd: int) -> None:
        """Give the kernel the backing file of a complete node; opens answered later use it."""
        with _keeper_may_be_gone():
            self._registrar.register(node.id, fd)

    async def let_go(self, nodes: Sequence[int]) -> set[int]:
        """Let go of the backing files of nodes; returns those that somebody has open."""
        return set(nodes) - await self._questions.let_go(nodes)

    def changed(self, changes: Changes) -> None:
        """Take back what is not true any more."""
        for node in changes.added:
            self._forget(node.parent, node.name)  # its absence may be remembered
        for old, _ in changes.changed:
            self._forget(old.parent, old.name)
            self._retire(old)
        for node in changes.removed:
            self._forget(node.parent, node.name)
            self._retire(node)

    def expect(self, attributes: Attributes, files: Sequence[Node]) -> None:
        """Have the keeper answer for files of one folder, which are in the index as they are here."""
        names = [name for file in files if (name := attributes.named(file)) is not None]
        with _keeper_may_be_gone():
            for start in range(0, len(names), NAMES_AT_ONCE):
                self._registrar.names(self._inode(files[0].parent), names[start : start + NAMES_AT_ONCE])

    def forget_pages(self, node: Node) -> None:
        """Take back the bytes of a file that readers got through the page cache."""
        self._put(node.id, None)

    def forget_folder(self, folder: int) -> None:
        """Take back every name in a folder, also those that are gone."""
        self._put(folder, _ALL)

    def mark(self, news: int) -> None:
        """Note in `told` when all that was asked for before has been done."""
        self._put(news, _MARK)

    def retire_all(self, nodes: Iterable[int]) -> None:
        """Take back the backing files of nodes whose objects are gone."""
        with _keeper_may_be_gone():
            for node in nodes:
                self._registrar.retire(node)

    def _retire(self, node: Node) -> None:
        self.retire_all([node.id])

    def _forget(self, folder: int, name: str) -> None:
        self._put(self._inode(folder), name.encode())

    def _inode(self, folder: int) -> int:
        is_root = self.namespace is not None and folder == self.namespace.root.id
        return pyfuse3.ROOT_INODE if is_root else folder

    def _put(self, number: int, what: bytes | _Special | None) -> None:
        self._queue.append((number, what))
        self._wake.set()

    async def run(self) -> None:
        """Send notifications for as long as the mount lives, from when it is `reached` on."""
        await self._reached.wait()
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                while self._queue:
                    await self._next()
        except OSError as exc:  # the keeper is gone, and so is the mount
            log.info("the kernel is told nothing any more: %s", exc)

    async def _next(self) -> None:
        number, what = self._queue[0]
        if what is _ALL:
            await self._send_all(number)
            self._queue.popleft()
        elif what is _MARK:
            self.told = number
            self._queue.popleft()
        else:
            batch: list[_Notice] = []
            while (
                self._queue and len(batch) < NOTIFIED_AT_ONCE and not isinstance(self._queue[0][1], _Special)
            ):
                batch.append(self._queue.popleft())
            await self._send(batch)

    async def _send(self, batch: Sequence[_Notice]) -> None:
        await trio.to_thread.run_sync(_send, batch)
        await self._questions.told()

    async def _send_all(self, folder: int) -> None:
        """Some names at a time: there may be a million of them."""
        assert self.namespace is not None, "folders are watched only while serving"
        inode = self._inode(folder)
        after, name = 0, ""
        try:
            while nodes := self.namespace.children(folder, after, NOTIFIED_AT_ONCE):
                await self._send([(inode, node.name.encode()) for node in nodes])
                after = nodes[-1].entry
            while names := self.namespace.past_names(folder, name):
                await self._send([(inode, each.encode()) for each in names])
                name = names[-1]
        except CacheError as exc:
            log.warning("names in folder %d are not taken back: %s", folder, exc)


@contextmanager
def _keeper_may_be_gone() -> Iterator[None]:
    try:
        yield
    except OSError as exc:  # then so is the mount, and the FUSE socket ends in a moment
        log.info("the keeper does not take registrations any more: %s", exc)


def _send(batch: Sequence[_Notice]) -> None:
    for number, name in batch:
        inode = pyfuse3.InodeT(number)
        try:
            if name is None:
                pyfuse3.invalidate_inode(inode)
            else:
                pyfuse3.invalidate_entry(inode, pyfuse3.FileNameT(cast("bytes", name)))
        except ConnectionError:
            raise
        except OSError as exc:
            # What the kernel does not know comes to the keeper, not here.
            log.warning("the kernel is not told to forget %d/%r: %s", number, name, exc)
