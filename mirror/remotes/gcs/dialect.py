"""What Cloud Storage says in its answers: of versions, of codings, of failures.

An object may be stored compressed and say so (``Content-Encoding: gzip``). Asked by somebody who does not
accept gzip, the store decompresses it on the way ("decompressive transcoding"): other bytes than the
listing has the size and the checksums of, and without ranges. So files are asked for with
``Accept-Encoding: gzip``, what comes is what is stored, and an answer that is something else is refused.
"""

from __future__ import annotations

import re
from base64 import b64decode

import httpx

from cache.digests import Algorithm, Digest
from mirror.errors import AccessDenied, MirrorError, ProtocolError, VersionChanged
from mirror.http import answers
from mirror.http.auth import Headers
from mirror.http.exchange import Answer
from mirror.http.files import Dialect
from mirror.http.parts import read_whole
from mirror.http.promises import promised
from mirror.remotes.gcs.objects import GENERATION, validator

_AS_STORED: Headers = [(b"Accept", b"*/*"), (b"Accept-Encoding", b"gzip")]

_CRC32C = re.compile(rb"(?:^|,)[ \t]*crc32c=([A-Za-z0-9+/]{6}==)[ \t]*(?=,|$)")
_OF_CODING = (b"content-encoding", b"x-goog-stored-content-encoding")

_STORED = "x-goog-stored-content-encoding"
_IDENTITY = ("", "identity")

MAX_SAID = 64 * 1024
"""Most bytes of an error's body that are looked at."""


class GcsDialect(Dialect):
    """What a bucket's answers say."""

    def __init__(self, bucket: str, deadline: float, *, known: bool, pays: bool) -> None:
        """``known``: credentials are shown; ``pays``: a project that pays is named."""
        self._bucket = bucket
        self._deadline = deadline
        self._known = known
        self._pays = pays

    def question(self, *, ranged: bool) -> Headers:
        """Ask for what is stored."""
        del ranged
        return _AS_STORED

    def validator(self, headers: httpx.Headers) -> str | None:
        """Return the generation."""
        return validator(headers.get("x-goog-generation"))

    def modified(self, headers: httpx.Headers) -> int | None:
        """Nothing: Last-Modified is another time than a listing's, which a change of metadata moves."""
        del headers
        return None

    def condition(self, validator: str, *, ranged: bool) -> Headers:
        """Nothing: a generation is part of the question itself (see `GcsStore.open`)."""
        del ranged
        if not validator.startswith(GENERATION):
            raise VersionChanged(f"{validator!a} is no generation to ask for")
        return []

    def check_version(self, headers: httpx.Headers, expected: str, where: object) -> None:
        """Check that it is the generation that was asked for."""
        stated = "x-goog-generation" in headers
        answers.check_version(self.validator(headers), expected, where, stated=stated)

    def refuse_coded(self, headers: httpx.Headers, where: object) -> None:
        """Refuse what was compressed or decompressed on the way."""
        coded = headers.get("content-encoding", "").strip().lower()
        stored = headers.get(_STORED, "").strip().lower()
        if coded in _IDENTITY and stored in _IDENTITY:
            return
        if coded != stored:
            raise ProtocolError(
                f"{where}: the object is stored {stored or 'as it is'} and came {coded or 'decompressed'}, "
                "although that was refused"
            )

    def digest(self, status: int, headers: httpx.Headers, where: object) -> Digest | None:
        """Return what is promised; it is of what is stored, which is what came (`refuse_coded`).

        Of the two that an object may have the CRC-32C, which each of them has: it finds damage as well, and
        to compute the MD5 of a small file takes as long as all the rest of fetching it.
        """
        stated = b",".join([value for name, value in headers.raw if name.lower() == b"x-goog-hash"])
        if len(found := _CRC32C.findall(stated)) == 1:
            return Digest(Algorithm.CRC32C, b64decode(found[0]))
        if "content-encoding" in headers:
            raw = [(name, value) for name, value in headers.raw if name.lower() not in _OF_CODING]
            headers = httpx.Headers(raw)
        return promised(status, headers, where)

    async def failure(self, answer: Answer, *, conditional: bool) -> MirrorError:
        """Return the error that an answer stands for, with what to do about it."""
        status = answer.head.status_code
        if status in (400, 403):
            said = await read_whole(answer.head, answer.where, self._deadline, MAX_SAID)
            if b"requester pays" in said.lower() or b"userproject" in said.lower():
                hint = (
                    "the project that user-project names may not be billed by these credentials"
                    if self._pays
                    else "its readers pay; name a project of yours by ?user-project=PROJECT"
                )
                return AccessDenied(f"gs://{self._bucket}: the server answered {status}: {hint}")
        if status in (401, 403):
            return AccessDenied(f"gs://{self._bucket}: the server answered {status}: {self._hint(status)}")
        return answers.failure(answer.head, answer.where, conditional=conditional)

    def _hint(self, status: int) -> str:
        if not self._known:
            return "it is not public, or not there; leave out anonymous=true to show credentials"
        if status == 401:
            return "the credentials are not taken; run 'gcloud auth application-default login'"
        return (
            "these credentials may not read it; it takes storage.objects.list and storage.objects.get, "
            "as the role Storage Object Viewer has"
        )
