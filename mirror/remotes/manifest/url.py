"""``manifest+SCHEME:`` URLs: where a list is."""

from __future__ import annotations

from collections.abc import Callable

from mirror.errors import UsageError
from mirror.remotes.file.url import canonical_path
from mirror.remotes.http.url import canonical as canonical_http

PREFIX = "manifest+"


def canonical(source: str) -> str:
    """Return the one spelling of a manifest's URL.

    Raises:
        UsageError: one line with the cause and what to do about it.
    """
    bare = source.removeprefix(PREFIX)
    if bare.startswith("file:"):
        url = f"file://{canonical_path(bare, 'manifest+file:///FOLDER/LIST.jsonl')}"
    else:
        url = canonical_http(bare)
    if url.endswith("/"):
        raise UsageError(f"{source}: a manifest is a file; write its name behind the last '/'")
    return PREFIX + url


def checked_base(url: str, value: str, canonical_base: Callable[[str], str]) -> str:
    """Return the option ``base`` in its one spelling: a folder.

    Raises:
        UsageError: it is none.
    """
    if not value.lower().startswith(("https://", "http://")) or "?" in value:
        raise UsageError(f"{url}?…: base: write https://HOST/FOLDER/")
    scheme, _, rest = value.partition(":")
    return canonical_base(f"{scheme.lower()}:{rest}").rstrip("/") + "/"
