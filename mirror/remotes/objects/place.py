"""What ``gs://BUCKET/PREFIX/`` means, and its like.

It is a URL, unlike what the stores' own tools take: a space is ``%20``, and a ``%`` is ``%25``. The
canonical form has each part of the prefix quoted in one way. A prefix is a folder or a file, never the
beginning of a name: ``gs://bucket/da`` has nothing to do with ``data/``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from mirror.errors import UsageError
from mirror.remotes.names import BadNameError, decode, to_url

_CONTROL = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Part:
    """One of the words in front of the prefix."""

    noun: str
    """What it is, for messages."""
    pattern: re.Pattern[str]
    """What it looks like; no character in it needs to be quoted in a URL."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How the sources of one kind of store are written."""

    name: str
    parts: Sequence[Part]
    form: str
    """An example, for messages."""
    secrets: str
    """Where its credentials belong, for messages."""

    def canonical(self, source: str) -> str:
        """Normalise a source.

        Raises:
            UsageError: one line with the cause and what to do about it.
        """
        begin = f"{self.name}://"
        rest = source[len(begin) :]
        if "@" in rest.partition("/")[0]:
            # Not shown: it may be a key.
            raise UsageError(f"{begin}…@…: a source holds no keys; {self.secrets}")
        if not source.startswith(begin):
            raise UsageError(f"{source!a}: write {self.form}")
        if _CONTROL.search(source):
            raise UsageError(f"{source!a}: a URL has no spaces or control characters; write a space as %20")
        if "#" in source:
            raise UsageError(f"{source}: a '#' ends a URL; write it as %23 where it is part of a name")
        words = rest.split("/", len(self.parts))
        for index, part in enumerate(self.parts):
            word = words[index] if index < len(words) else ""
            if not word:
                raise UsageError(f"{source}: there is no {part.noun}; write {self.form}")
            if not part.pattern.fullmatch(word):
                raise UsageError(
                    f"{source}: {word!a} cannot be the name of the {part.noun}; write {self.form}"
                )
        base = begin + "/".join(words[: len(self.parts)]) + "/"
        path = words[len(self.parts)] if len(words) > len(self.parts) else ""
        names = path.strip("/")
        if not names:
            return base
        try:
            quoted = "/".join(to_url(decode(segment)) for segment in names.split("/"))
        except BadNameError as exc:
            raise UsageError(
                f"{source}: the prefix has a name that cannot be used ({exc}); correct it"
            ) from exc
        return base + quoted + ("/" if path.endswith("/") else "")

    def place(self, url: str) -> Place:
        """Take a canonical source, without a query, apart."""
        words = url.removeprefix(f"{self.name}://").split("/", len(self.parts))
        path = words.pop()
        return Place(tuple(words), unquote(path.rstrip("/")), folder=not path or path.endswith("/"))


@dataclass(frozen=True, slots=True)
class Place:
    """A source taken apart."""

    words: tuple[str, ...]
    """Of each part of the scheme."""
    prefix: str
    """Decoded, without a slash at either end; ``""``: all that is there."""
    folder: bool
    """It is written as a folder; else it may be one object as well."""
