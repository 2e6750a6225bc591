"""Which files of a source a list of patterns means: read from what a user wrote, and walked.

The walk lists folder after folder and never holds more than one page of names, whatever the tree's size.
Folders that nothing can match below are not listed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from cache import Cache, Kind, Node
from cache.errors import BadPattern
from cache.patterns import Patterns
from mirror.background import together
from mirror.errors import MirrorError, SetupError, UsageError
from mirror.namespace import Namespace
from mirror.walking import Failures

File = tuple[str, Node]
"""Path below the source, and node."""
Found = Callable[[Sequence[File]], Awaitable[None]]
"""Takes matching files: neighbours in one folder, in order."""
Failed = Callable[[str, MirrorError], None]
"""Takes what could not be had: the path of a folder (``"/"`` for the source), and why."""
LOOK_SECONDS = 0.02
"""Between looks at what another process sees in a folder that it lists."""


def read_patterns(patterns: Sequence[str]) -> Patterns:
    """Read what a user wrote; none means everything.

    Raises:
        UsageError: one of them can match nothing.
    """
    try:
        return Patterns(patterns)
    except BadPattern as exc:
        raise UsageError(str(exc)) from exc


def root_of(cache: Cache, source: str) -> Node:
    """The root of a canonical source that the cache has seen.

    Raises:
        SetupError: it has not.
    """
    root = cache.tree.child(0, source)
    if root is None:
        raise SetupError(f"never seen in this cache: {source} ('mirror du' lists the sources of a cache)")
    return root


async def walk(
    namespace: Namespace,
    patterns: Patterns,
    found: Found,
    failed: Failed,
    *,
    ask: bool = True,
) -> None:
    """Give every file that matches to ``found``, folder by folder.

    Args:
        namespace: the source.
        patterns: which files.
        found: awaited with each page of them; the walk goes no further until it returns.
        failed: called for a folder that cannot be listed; the walk goes on with the others.
        ask: list folders that are not fresh by the namespace's TTL; False: only those never listed.

    Raises:
        OriginFailed: many in a row could not be, for the origin does not answer.
    """
    folders = [("", namespace.root.id)]
    failures = Failures()
    while folders:
        path, folder = folders.pop()
        one = _Folder(namespace, patterns, found, path, folder)
        try:
            if ask or namespace.node(folder).listed_at is None:
                await one.listed()
                failures.succeeded()
        except MirrorError as exc:
            failed(path or "/", exc)
            failures.add(path, exc)
            continue
        while await one.look():
            pass
        folders.extend(reversed(one.below))


class _Folder:
    """One folder on the way."""

    def __init__(
        self, namespace: Namespace, patterns: Patterns, found: Found, path: str, folder: int
    ) -> None:
        self.below: list[tuple[str, int]] = []
        """Path and id of the folders in it that were come to and have to be walked."""
        self._namespace = namespace
        self._patterns = patterns
        self._found = found
        self._path = path
        self._folder = folder
        self._after = 0

    async def look(self) -> bool:
        """Go on with the next page of names; False: there is none by now."""
        nodes = self._namespace.children(self._folder, self._after)
        if not nodes:
            return False
        self._after = nodes[-1].entry
        matching: list[File] = []
        for node in nodes:
            child = f"{self._path}/{node.name}" if self._path else node.name
            if node.kind is Kind.FOLDER:
                if self._patterns.may_match_below(child):
                    self.below.append((child, node.id))
            elif self._patterns.matches(child):
                matching.append((child, node))
        if matching:
            await self._found(matching)
        await trio.lowlevel.checkpoint()
        return True

    async def listed(self) -> None:
        """Have it listed; of a large one that is new, the names are gone through as they come.

        Raises:
            MirrorError: it cannot be listed. What came before that was gone through.
        """
        if not self._namespace.readable_early(self._folder):
            await self._namespace.listed(self._folder)
            return
        ended: list[MirrorError | None] = []

        async def end() -> None:
            try:
                await self._namespace.listed(self._folder)
            except MirrorError as exc:
                ended.append(exc)
            else:
                ended.append(None)

        async with together() as nursery:
            nursery.start_soon(end)
            while not ended:
                if not await self.look():
                    await self._namespace.growth(LOOK_SECONDS)
        for error in filter(None, ended):
            raise error
