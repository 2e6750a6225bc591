"""What a source on the Hub is called: ``hf://KIND/ORG/NAME@REVISION/PATH``.

The same spelling as in other tools: models may be written without their kind, and a revision with
slashes is quoted (``@refs%2Fpr%2F1``), but for ``refs/pr/N`` and ``refs/convert/NAME``, which are known. The
branch ``main`` is what no revision means, so it is left out of the one spelling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from mirror.errors import UsageError
from mirror.remotes.names import BadNameError, decode, to_url

KINDS = ("datasets", "models", "spaces")
MAIN = "main"
FORM = "hf://datasets/ORG/NAME, hf://models/ORG/NAME or hf://spaces/ORG/NAME"

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
# What git allows in the name of a ref, as far as it matters where one is quoted completely.
_NOT_A_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|^[/-]|/$|^$")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of a repository, at a revision."""

    kind: str
    """One of `KINDS`."""
    repo: str
    """``ORG/NAME``."""
    revision: str
    """Branch, tag, other ref or commit; not quoted."""
    path: str
    """Of the folder that is the root of the tree; ``""``: the repository's own."""

    @property
    def commit(self) -> str | None:
        """The revision, if it is a commit in full: that never moves."""
        return self.revision if _COMMIT.fullmatch(self.revision) else None

    @property
    def page(self) -> str:
        """Where the repository has its page, below the Hub's address."""
        return self.repo if self.kind == "models" else f"{self.kind}/{self.repo}"

    def __str__(self) -> str:
        revision = "" if self.revision == MAIN else f"@{quote(self.revision, safe='')}"
        path = f"/{to_url(self.path)}" if self.path else ""
        return f"hf://{self.kind}/{self.repo}{revision}{path}"


def parse(source: str) -> Place:
    """Read a source, scheme in lower case, without a query.

    Raises:
        UsageError: one line with the cause and what to write.
    """
    if _CONTROL.search(source):
        raise UsageError(f"{source!a}: a URL has no spaces or control characters; write a space as %20")
    if "#" in source:
        raise UsageError(f"{source}: a '#' ends a URL; write it as %23 where it is part of a name")
    if not source.startswith("hf://"):
        raise UsageError(f"{source}: write {FORM}")
    words = source.removeprefix("hf://").rstrip("/").split("/")
    if "@" in words[0]:
        # Not shown: it may hold a password.
        raise UsageError(
            f"hf://…: what follows is no owner, and no place for a user or password; write {FORM}"
        )
    kind = words.pop(0) if words[0] in KINDS else "models"
    if len(words) < 2:
        raise UsageError(f"{source}: a repository has an owner and a name; write {FORM}")
    organisation, (name, at, revision) = words[0], words[1].partition("@")
    rest = words[2:]
    for word in (organisation, name):
        if not _REPO.fullmatch(word) or ".." in word:
            raise UsageError(f"{source}: {word!a} cannot be part of a repository's name; write {FORM}")
    if at and revision == "refs" and len(rest) >= 2 and rest[0] in ("pr", "convert"):
        revision, rest = "/".join(("refs", *rest[:2])), rest[2:]
    revision = unquote(revision, errors="surrogateescape") if at else MAIN
    if _NOT_A_REF.search(revision) or not revision.isprintable():
        raise UsageError(f"{source}: what follows the '@' cannot be a branch, tag or commit; correct it")
    try:
        path = "/".join(map(decode, rest))
    except BadNameError as exc:
        raise UsageError(f"{source}: the path has a name that cannot be used ({exc}); correct it") from exc
    return Place(kind, f"{organisation}/{name}", revision, path)


def canonical(source: str) -> str:
    """Return the one spelling of a source. Raises as `parse`."""
    return str(parse(source))
