"""A cache as a whole: a folder with an index, objects, and the two threads that write."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import trio

from cache import index
from cache.errors import CacheError, CacheUnusable
from cache.folder import make_folder
from cache.index import Reader
from cache.names import Names
from cache.news import News
from cache.objects import Hands, Objects
from cache.opening import open_index
from cache.pins import Pins
from cache.recalls import Recalls
from cache.reserve import Reserve
from cache.scan import Scans
from cache.space import Space
from cache.survey import Survey
from cache.sweep import Sweep
from cache.tree import Tree
from cache.turns import Turns
from cache.verification import Verification
from cache.writer import Work, Writer

T = TypeVar("T")


class Cache:
    """One cache that is open. Made by `open`; several processes may have one folder open at once."""

    def __init__(self, path: Path, hands: Hands, objects: Objects) -> None:
        self.path = path
        self.tree = hands.tree
        self.objects = objects
        self.space = hands.space
        self.pins = hands.pins
        self.recalls = hands.recalls
        self.news = hands.news
        self.scans = Scans(hands.reader, hands.tree, hands.news.author)
        self.verification = Verification(objects, hands.recalls, hands.behind, hands.writer)
        self.survey = Survey(hands.tree_behind, hands.behind, hands.pins)
        self.turns = Turns(path)
        self.sweep = Sweep(hands.names, hands.tree_behind, hands.behind, hands.writer, objects)
        self._writer = hands.writer

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Cache]:
        """Open a cache, made when it does not exist. On the way out everything is made safe.

        Opening takes the same time whatever is in the cache: nothing is scanned, unless the index is
        damaged or lost. Then it is made anew from the objects, with a warning in the log.

        Raises:
            CacheUnusable: the folder cannot be a cache; the message says why and what to do.
        """
        with ExitStack() as stack:
            cache = await trio.to_thread.run_sync(cls._start, path, stack)
            closing = stack.pop_all()
        try:
            yield cache
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(closing.close)

    def submit(self, work: Work[T]) -> T:
        """Do work in a transaction of its own, and wait for it. Blocks; raises as `Writer.submit` does."""
        return self._writer.submit(work).result()

    @classmethod
    def _start(cls, path: Path, stack: ExitStack) -> Cache:
        cache = cls(path, *start(path, stack))
        stack.callback(cache.turns.close)
        return cache


def start(path: Path, stack: ExitStack) -> tuple[Hands, Objects]:
    """What a cache consists of, for those who have no event loop; ``stack`` ends it. Blocks.

    Raises:
        CacheUnusable: the folder cannot be a cache.
    """
    make_folder(path)
    file = path / index.NAME
    reserve = Reserve(path)
    # The last thing on the way out: what the log of the index took is free by then.
    stack.callback(reserve.fill, plenty=1)
    reserve.open_up()
    # Closed after all connections: while there is one to it, nobody may replace the index.
    stack.callback(open_index(path, reserve.spend).close)
    after_connections = stack.enter_context(ExitStack())
    reader, behind = Reader(file), Reader(file)
    stack.callback(reader.close)
    stack.callback(behind.close)
    try:
        reader.data_version()
    except CacheError as exc:
        raise CacheUnusable(f"cache folder {path}: {exc}: make room or choose another folder") from exc
    shared = index.allocate_shared(file)
    if shared is not None:
        after_connections.callback(os.close, shared)
    writer = Writer(file, reserve.spend)
    stack.callback(writer.close)
    news = News(reader)
    tree_behind = Tree(behind, writer, news.author)
    space = Space(path, reader, writer)
    stack.callback(space.close)
    hands = Hands(
        names=Names(path),
        tree=Tree(reader, writer, news.author),
        news=news,
        reader=reader,
        behind=behind,
        tree_behind=tree_behind,
        writer=writer,
        space=space,
        recalls=Recalls(reader, writer),
        pins=Pins(tree_behind, behind, writer),
        reserve=reserve,
    )
    objects = Objects(hands)
    stack.callback(objects.close)
    objects.settle_the_dead()
    reserve.fill()
    return hands, objects
