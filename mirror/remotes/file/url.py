"""``file:`` URLs: what one means, and its one spelling.

Paths are written as in every other source: quoted, so that ``?`` begins options and ``%41`` is an ``A``.
A host that is not this machine is refused: ``file:`` says nothing about how to get there.
"""

from __future__ import annotations

from urllib.parse import unquote

from mirror.errors import UsageError
from mirror.remotes.names import BadNameError, decode, to_url

_LOCAL = ("", "localhost")


def canonical(source: str) -> str:
    """Return ``file:///PATH/`` for a folder, however it is written; nothing is looked at.

    Raises:
        UsageError: one line with the cause and what to do about it.
    """
    path = canonical_path(source, "file:///FOLDER/")
    return f"file://{path.rstrip('/')}/"


def canonical_path(source: str, example: str) -> str:
    """Return the quoted absolute path in ``SCHEME:PATH`` or ``SCHEME://HOST/PATH``.

    Raises:
        UsageError: as `canonical`; ``example`` is what to write instead.
    """
    scheme, _, path = source.partition(":")
    if "\n" in source or "\0" in source:
        raise UsageError(f"{source!a}: write what is no plain character as %0A or the like")
    if path.startswith("//"):
        host, slash, rest = path[2:].partition("/")
        if "@" in host:
            raise UsageError(f"{scheme}://…@…: a source holds no user or password; write {example}")
        if host.lower() not in _LOCAL:
            raise UsageError(
                f"{source}: {host} is no part of a path; write {example}, of a folder that is mounted here"
            )
        path = slash + rest
    if not path.startswith("/"):
        raise UsageError(f"{source}: the path has to begin at the root; write {example}")
    if "#" in path:
        raise UsageError(f"{source}: a '#' ends a URL; write it as %23 where it is part of a name")
    names = path.strip("/")
    try:
        quoted = "/".join(to_url(decode(segment)) for segment in names.split("/")) if names else ""
    except BadNameError as exc:
        raise UsageError(f"{source}: the path has a name that cannot be used ({exc}); correct it") from exc
    return f"/{quoted}/" if names and path.endswith("/") else f"/{quoted}"


def to_path(url: str) -> str:
    """The path of a canonical ``file:`` URL, without a slash at its end."""
    return unquote(url.partition("://")[2], errors="strict").rstrip("/") or "/"
