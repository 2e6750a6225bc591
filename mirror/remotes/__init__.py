"""Remotes: where sources come from, one kind each behind the protocol of `mirror.remotes.base`.

`canonical` says whether a source string can mean anything, and gives it its one spelling, without any
I/O; `key` names what is cached of it; `open_remote` makes the remote for it. A kind is a row in `KINDS`;
its module is imported when a source of that kind is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Protocol, cast
from urllib.parse import quote

from mirror.errors import UsageError
from mirror.remotes import settings
from mirror.remotes.base import Remote
from mirror.remotes.how import How
from mirror.remotes.options import Option, Options, in_environment, in_query, split, to_query

__all__ = ["KINDS", "How", "SourceKind", "canonical", "key", "open_remote"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_HOST = re.compile(r"(localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)(:[0-9]+)?(/[!-~]*)?\Z")


class _Module(Protocol):
    """What the module of a kind of source provides."""

    OPTIONS: Sequence[Option]

    def canonical(self, source: str) -> str:
        """Validate and normalise, scheme in lower case already, no query. Raises `UsageError`."""

    def key(self, url: str, options: Options) -> str:
        """Name what is cached: the URL, and those options that make it another tree."""

    def open_remote(self, url: str, how: How) -> Remote:
        """Make the remote of a canonical source without a query; its ``url`` is what `key` says."""


@dataclass(frozen=True, slots=True)
class SourceKind:
    """The sources of one scheme."""

    example: str
    """How such a source is written, for messages."""
    module: str

    def load(self) -> _Module:
        """Import the module, and with it whatever this kind of source needs."""
        return cast("_Module", import_module(self.module))


KINDS: dict[str, SourceKind] = {
    "https": SourceKind("https://HOST/PATH/", "mirror.remotes.http"),
    "http": SourceKind("http://HOST/PATH/", "mirror.remotes.http"),
    "s3": SourceKind("s3://BUCKET/PREFIX/", "mirror.remotes.s3"),
    "webdavs": SourceKind("webdavs://HOST/PATH/", "mirror.remotes.webdav"),
    "webdav": SourceKind("webdav://HOST/PATH/", "mirror.remotes.webdav"),
    "az": SourceKind("az://ACCOUNT/CONTAINER/PREFIX/", "mirror.remotes.azure"),
    "gs": SourceKind("gs://BUCKET/PREFIX/", "mirror.remotes.gcs"),
    "hf": SourceKind("hf://datasets/ORG/NAME", "mirror.remotes.hub"),
    "file": SourceKind("file:///FOLDER/", "mirror.remotes.file"),
    "manifest+https": SourceKind("manifest+https://HOST/LIST.jsonl", "mirror.remotes.manifest"),
    "manifest+http": SourceKind("manifest+http://HOST/LIST.jsonl", "mirror.remotes.manifest"),
    "manifest+file": SourceKind("manifest+file:///LIST.jsonl", "mirror.remotes.manifest"),
}
"""Every kind of source, by its scheme."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A source taken apart."""

    scheme: str
    module: _Module
    url: str
    """In its one spelling, without a query."""
    stated: dict[str, str]
    """The options in its query."""

    def options(self) -> Options:
        """All options, wherever they are set. Raises `UsageError`, `SetupError`."""
        known = self.module.OPTIONS
        if not known:
            return Options()
        return Options(
            settings.for_source(self.url, known, os.environ, KINDS)
            | in_environment(known, self.scheme, os.environ)
            | self.stated
        )


def canonical(source: str) -> str:
    """Return the one spelling of a source.

    Raises:
        UsageError: it is malformed or of no known kind; one line that says what to write instead.
    """
    parsed = _parse(source)
    return parsed.url + to_query(parsed.stated)


def key(source: str) -> str:
    """Return the name under which everything from a source is cached, free of secrets.

    Two spellings that differ in options which only say how to get there have one key.

    Raises:
        UsageError: as `canonical`, or an option in the environment is malformed.
        SetupError: the settings file cannot be used.
    """
    parsed = _parse(source)
    return parsed.module.key(parsed.url, parsed.options())


def open_remote(source: str, how: How | None = None) -> Remote:
    """Make the remote for a source. Nothing is sent yet; end it with ``aclose``.

    Args:
        source: in any spelling that `canonical` accepts.
        how: all but its ``options``, which are looked up here.

    Raises:
        UsageError: as `key`.
        SetupError: as `key`, or credentials for it are there but cannot be read.
    """
    parsed = _parse(source)
    return parsed.module.open_remote(parsed.url, replace(how or How(), options=parsed.options()))


def _meant(source: str) -> str | None:
    """What to write instead of a path, or of a URL without its scheme; None: it could be anything."""
    if source.startswith("/"):
        return f"file://{quote(source)} for that folder; a mount's source is shown by 'mirror status'"
    if _HOST.match(source):
        return f"https://{source} or http://{source} (as in https://HOST/PATH/)"
    return None


def _parse(source: str) -> _Source:
    found = _SCHEME.match(source)
    known = " or ".join(kind.example for kind in KINDS.values())
    # A word before a colon may also be a host with its port, or a user whose password follows.
    if found is None or (found[2] is None and found[1].lower() not in KINDS):
        shown = source if "@" not in source else "…" + source.rpartition("@")[2]
        raise UsageError(f"{shown!a} is not a source; write {_meant(source) or known}")
    scheme = found[1].lower()
    if (kind := KINDS.get(scheme)) is None:
        raise UsageError(f"{scheme}: is not a kind of source that is known; write {known}")
    module = kind.load()
    bare, query = split(scheme + source[len(scheme) :])
    url = module.canonical(bare)
    if query == "" and source.endswith("?"):
        raise UsageError(f"{url}?: leave out the '?' at the end")
    return _Source(scheme, module, url, in_query(module.OPTIONS, url, query))
