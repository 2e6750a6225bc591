"""Which paths of a source a list of shell globs names. Pure.

A pattern is compared with the path relative to the source, name by name:

    ``*`` ``?`` ``[a-z]`` ``[!a-z]``   within one name, as in the shell, leading dots included
    ``**``                              as a whole name: any number of folders, also none
    ``train``                           a pattern that names a folder means everything below it
    ``[*]``                             a literal ``*``

So ``*.tar`` is the archives at the top, ``**/*.tar`` all of them, ``train`` and ``train/**`` everything in
that folder. Case counts. A list matches what any of its patterns matches; an empty list matches everything.

Each pattern is walked as the automaton it is (the set of its names that may come next), one step for each
name of the path. So a folder that nothing can match below is known before it is listed, and no pattern,
however many ``**`` it has, takes more steps than its own length times the path's.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import Final

from cache.errors import BadPattern

_ANY_FOLDERS: Final = None
"""What stands in a compiled pattern for ``**``."""


class Patterns:
    """A list of globs, read once and matched often."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Read the patterns; raises BadPattern for one that can match nothing."""
        self._patterns = [_read(pattern) for pattern in patterns]

    def matches(self, path: str) -> bool:
        """Whether the file at ``path`` (relative, ``/``-separated) is meant."""
        return not self._patterns or any(_walk(pattern, path)[1] for pattern in self._patterns)

    def may_match_below(self, folder: str) -> bool:
        """Whether any path below ``folder`` could be meant; False: it need not be listed."""
        return not self._patterns or not folder or any(any(_walk(p, folder)) for p in self._patterns)


_Pattern = tuple[re.Pattern[str] | None, ...]


def _read(pattern: str) -> _Pattern:
    names = [name for name in pattern.split("/") if name not in {"", "."}]
    if ".." in names:
        raise BadPattern(f"the pattern {pattern!r} has '..': patterns name paths below the source")
    if not names and pattern.strip("/") != ".":
        raise BadPattern(f"the pattern {pattern!r} names nothing: leave it out to mean everything")
    # DOTALL is fnmatch's own; a name may hold a newline.
    return tuple(_ANY_FOLDERS if name == "**" else re.compile(fnmatch.translate(name)) for name in names)


def _walk(pattern: _Pattern, path: str) -> tuple[bool, bool]:
    """Take ``path`` through the pattern.

    Returns:
        Whether a longer path could match (some of the pattern's names may still come), and whether this one
        does: the whole pattern matched it, or a folder above it.
    """
    end = len(pattern)
    at = _past_any({0}, pattern)
    for name in path.split("/"):
        if end in at:
            return True, True
        after = set[int]()
        for position in at:
            wanted = pattern[position]
            if wanted is _ANY_FOLDERS:
                after.add(position)
            elif wanted.match(name):
                after.add(position + 1)
        at = _past_any(after, pattern)
    return bool(at), end in at


def _past_any(at: set[int], pattern: _Pattern) -> set[int]:
    """Add where a ``**`` that stands for no folder leads."""
    reached = set(at)
    for position in at:
        following = position
        while following < len(pattern) and pattern[following] is _ANY_FOLDERS:
            following += 1
            reached.add(following)
    return reached
