"""How the Hub speaks of files and failures.

A file is kept in git or, if it is large, in a store of its own (LFS, Xet). Of both the Hub names the content:
by the id of the git blob, a SHA-1 of its length and bytes, or by the SHA-256 of the bytes. Listings say
it (``oid``, ``lfs.oid``), and answers: as ``ETag`` when the Hub itself sends the bytes, as
``X-Linked-ETag`` when it redirects to the store. That is the validator of a version here, so a file
that a commit did not touch stays what it was.

What the store says of itself does not count: its ETag is one of its own, and it knows of no versions. So
the Hub's word in the redirect is what is compared, no condition is sent along (the store would
compare it with its own ETag), and the SHA-256 is what the bytes are held against.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator

import httpx

from cache.digests import Algorithm, Digest
from mirror.errors import (
    AccessDenied,
    BrokenPromise,
    MirrorError,
    NotFound,
    OriginFailed,
    Transient,
    VersionChanged,
)
from mirror.http import answers
from mirror.http.auth import Headers
from mirror.http.connection import Chunk
from mirror.http.exchange import Answer
from mirror.http.files import Dialect
from mirror.http.parts import HttpPart
from mirror.remotes.hub.url import Place

GIT = "git:"
"""Prefix of a validator that is the id of a git blob."""
SHA256 = "sha256:"
"""Prefix of one that is the SHA-256 of the bytes."""

# Weak where a proxy on the way could have compressed it: it names the content all the same.
_ETAG = re.compile(r'(?:W/)?"([0-9a-f]{40}|[0-9a-f]{64})"')
_RESET = re.compile(r"(?:^|[;,\s])t=(\d{1,6})(?:$|[;,\s])")

_OWN_WORDS = ("etag", "x-linked-etag")


def named(oid: str) -> str:
    """Return the validator that is an id of 40 or 64 hexadecimal digits."""
    return (GIT if len(oid) == 40 else SHA256) + oid


class HubDialect(Dialect):
    """The Hub, asked for one repository."""

    def __init__(self, place: Place, endpoint: str, *, known: bool) -> None:
        """``known``: a token is shown."""
        self._place = place
        self._page = f"{endpoint}/{place.page}"
        self._known = known

    def headers(self, answer: Answer) -> httpx.Headers:
        """Return the answer's headers, with the Hub's words in place of the store's."""
        said = answer.head.headers
        linked = next(
            (seen["x-linked-etag"] for seen in reversed(answer.redirects) if "x-linked-etag" in seen), None
        )
        if answer.own and linked is None:
            return said
        kept = [(name, value) for name, value in said.raw if name.lower().decode("ascii") not in _OWN_WORDS]
        return httpx.Headers(kept if linked is None else [*kept, (b"etag", linked.encode("latin-1"))])

    def validator(self, headers: httpx.Headers) -> str | None:
        """Return what names the content."""
        found = _ETAG.fullmatch(headers.get("x-linked-etag") or headers.get("etag", ""))
        return named(found[1]) if found else None

    def modified(self, headers: httpx.Headers) -> int | None:
        """Return nothing: the store says when it was given the bytes, not when the file was changed."""
        del headers
        return None

    def condition(self, validator: str, *, ranged: bool) -> Headers:
        """Return nothing: the commit in the URL is the condition. Raises `VersionChanged`."""
        del ranged
        if not validator.startswith((GIT, SHA256)):
            raise VersionChanged(f"{validator!a} is no id of a file on the Hub")
        return []

    def check_version(self, headers: httpx.Headers, expected: str, where: object) -> None:
        """Check that an answer is of the version that was asked for."""
        seen = self.validator(headers)
        answers.check_version(seen, expected, where, stated=seen is not None)

    def digest(self, status: int, headers: httpx.Headers, where: object) -> Digest | None:
        """Return the SHA-256 of the whole file where it is known; other promises are the store's."""
        del status, where
        seen = self.validator(headers) or ""
        if not seen.startswith(SHA256):
            return None
        return Digest(Algorithm.SHA256, bytes.fromhex(seen.removeprefix(SHA256)))

    async def failure(self, answer: Answer, *, conditional: bool) -> MirrorError:
        """Return the error that an answer stands for, by the Hub's own code for it."""
        head = answer.head
        status, code = head.status_code, head.headers.get("x-error-code", "")
        said = f"{answer.where}: the Hub answered {status}"
        what = f"the repository {self._place.repo} ({self._place.kind})"
        if not answer.own:
            if status in (401, 403, 404, 410):
                # The Hub has the file, and signed the link for this very request: another try gets another.
                return Transient(f"{answer.where}: the Hub's store refused the Hub's own link ({status})")
            return await super().failure(answer, conditional=conditional)
        if status in (401, 403):
            return AccessDenied(f"{said}: {self._refused(what, code, head.headers)}")
        if status == 404 and code == "RepoNotFound":
            return OriginFailed(
                f"{said}: there is no {what.removeprefix('the ')}, or it is private; check it"
            )
        if status == 404 and code == "RevisionNotFound":
            return OriginFailed(f"{said}: {what} has no revision {self._place.revision!a}; check the name")
        if status == 404:
            return NotFound(said)
        if status == 429:
            return Transient(f"{said} Too Many Requests", _asked_to_wait(head.headers))
        return await super().failure(answer, conditional=conditional)

    def _refused(self, what: str, code: str, headers: httpx.Headers) -> str:
        if code == "GatedRepo":
            return f"{what} is gated; ask for access at {self._page}" + (
                ", with the account of the token" if self._known else ", and set HF_TOKEN"
            )
        said = headers.get("x-error-message", "")
        if said.startswith("Invalid credentials"):
            return "the token is not valid; run 'hf auth login', or correct HF_TOKEN"
        if said.startswith("Access to this resource is disabled"):
            return f"{what} was disabled by the Hub"
        if self._known:
            return f"there is no {what.removeprefix('the ')}, or the token has no access to it"
        return f"there is no {what.removeprefix('the ')}, or it is private; check the name, or set HF_TOKEN"


def _asked_to_wait(headers: httpx.Headers) -> float | None:
    """Seconds, from Retry-After, or from ``RateLimit: "api";r=0;t=55`` as the Hub says it."""
    stated = answers.retry_after(headers.get("retry-after"))
    if stated is None and (found := _RESET.search(headers.get("ratelimit", ""))):
        return float(found[1])
    return stated


class BlobPart:
    """A whole file that is kept in git, held against its id while it comes."""

    def __init__(self, part: HttpPart, oid: str, where: str) -> None:
        """``part`` has a size and is all of the file; ``oid``: 40 hexadecimal digits."""
        self.start = part.start
        self.stop = part.stop
        self.size = part.size
        self.entry = part.entry
        self.ranges = part.ranges
        self.digest: Digest | None = None
        self._part = part
        self._oid = oid
        self._where = where
        self._hashing = hashlib.sha1(b"blob %d\0" % (part.size or 0), usedforsecurity=False)

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        try:
            chunk = await self._part.__anext__()
        except StopAsyncIteration:
            if self._hashing.hexdigest() != self._oid:
                raise BrokenPromise(f"{self._where} does not match the id that the Hub gives it") from None
            raise
        # Of what git keeps no file is large: a chunk takes a millisecond at most.
        self._hashing.update(chunk)
        return chunk
