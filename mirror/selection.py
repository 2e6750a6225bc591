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
from mirror.errors import MirrorError, SetupError, UsageError
from mirror.namespace import Namespace

File = tuple[str, Node]
"""Path below the source, and node."""
Found = Callable[[Sequence[File]], Awaitable[None]]
"""Takes matching files: neighbours in one folder, in order."""
Failed = Callable[[str, MirrorError], None]
"""Takes what could not be had: the path of a folder (``"/"`` for the source), and why."""


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
    """
    folders = [("", namespace.root.id)]
    while folders:
        path, folder = folders.pop()
        try:
            if ask or namespace.node(folder).listed_at is None:
                await namespace.listed(folder)
        except MirrorError as exc:
            failed(path or "/", exc)
            continue
        below: list[tuple[str, int]] = []
        after = 0
        while nodes := namespace.children(folder, after):
            after = nodes[-1].entry
            matching: list[File] = []
            for node in nodes:
                child = f"{path}/{node.name}" if path else node.name
                if node.kind is Kind.FOLDER:
                    if patterns.may_match_below(child):
                        below.append((child, node.id))
                elif patterns.matches(child):
                    matching.append((child, node))
            if matching:
                await found(matching)
            await trio.lowlevel.checkpoint()
        folders.extend(reversed(below))
