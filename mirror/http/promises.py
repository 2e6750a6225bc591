"""What an origin promises of a file in the head of an answer: headers in, the strongest digest out.

Only what speaks of the *whole* file, without any content coding, is a promise here:

| header | where it is defined | counts in |
|---|---|---|
| ``Repr-Digest`` | RFC 9530, section 3: of the selected representation | 200, 206 |
| ``Digest`` | RFC 3230, section 4.3.2: of the instance, "not of the range" | 200, 206 |
| ``Content-Digest`` | RFC 9530, section 2: of the content of this very message | 200 |
| ``Content-MD5`` | RFC 1864, RFC 2616, section 14.15: of this body | 200 |
| ``x-amz-checksum-…`` | S3, GetObject: of the object, for a range it may be that of a part | 200 |
| ``x-goog-hash`` | Cloud Storage, "x-goog-hash": of the stored object | 200, 206 |
| ``x-ms-blob-content-md5`` | Azure, Get Blob: of the whole blob, beside the range's | 200, 206 |
| ``X-Checksum-…`` | Artifactory, Maven repositories: of the artifact | 200, 206 |

What cannot be read is no promise: an origin that writes nonsense into a header serves the file all the
same, as it did before anybody looked at that header.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx

from cache.digests import Algorithm, Digest, from_hex

log = logging.getLogger(__name__)

# RFC 9530, section 5, and the IANA registry "Hash Algorithms for HTTP Digest Fields". Unknown
# members of a dictionary are passed over, as are those that nobody should rely on (unixsum, adler).
_STRUCTURED = {
    "sha-512": Algorithm.SHA512,
    "sha-256": Algorithm.SHA256,
    "sha": Algorithm.SHA1,
    "md5": Algorithm.MD5,
    "crc32c": Algorithm.CRC32C,
}
# RFC 3230, section 4.1.1, RFC 5843, and the IANA registry "HTTP Digest Algorithm Values". "id-" says
# "without content coding" (draft-ietf-httpbis-digest-headers-05), which ours always is.
_INSTANCE = {
    "sha-512": Algorithm.SHA512,
    "id-sha-512": Algorithm.SHA512,
    "sha-256": Algorithm.SHA256,
    "id-sha-256": Algorithm.SHA256,
    "sha": Algorithm.SHA1,
    "md5": Algorithm.MD5,
    "crc32c": Algorithm.CRC32C,
}

# One member of a dictionary (RFC 8941, section 3.2) whose value is a byte sequence. Its parameters are
# passed over: RFC 9530 has none, and one that is a string is not worth understanding.
_MEMBER = re.compile(r'([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):(?:;[^",;]*)*')
_COMMA = re.compile(r"[ \t]*,[ \t]*")


def _structured(value: str) -> Iterator[Digest]:
    """A Structured Fields dictionary: ``sha-256=:BASE64:, md5=:BASE64:``. Half of one counts for nothing."""
    members: dict[str, str] = {}
    at = 0
    while True:
        found = _MEMBER.match(value, at)
        if found is None:
            raise ValueError("not a dictionary of byte sequences")
        members[found[1]] = found[2]  # RFC 8941, section 4.2.2: the last one of a name counts
        if found.end() == len(value):
            break
        comma = _COMMA.match(value, found.end())
        if comma is None:
            raise ValueError("not a dictionary of byte sequences")
        at = comma.end()
    for name, encoded in members.items():
        if name in _STRUCTURED:
            yield Digest(_STRUCTURED[name], _base64(encoded))


def _instance(value: str) -> Iterator[Digest]:
    """``SHA-256=BASE64,crc32c=HEX``: a list, names in any case."""
    for member in value.split(","):
        name, _, encoded = member.strip().partition("=")
        algorithm = _INSTANCE.get(name.lower())
        if algorithm is Algorithm.CRC32C:
            # In hexadecimal, up to 8 digits, leading zeros may be missing (IANA registry).
            yield Digest(algorithm, from_hex(encoded.rjust(8, "0")))
        elif algorithm is not None:
            yield Digest(algorithm, _base64(encoded))


def _google(value: str) -> Iterator[Digest]:
    """``crc32c=BASE64,md5=BASE64``."""
    for member in value.split(","):
        name, _, encoded = member.strip().partition("=")
        if name in ("crc32c", "md5"):
            yield Digest(Algorithm(name), _base64(encoded))


def _of_base64(algorithm: Algorithm) -> Callable[[str], Iterator[Digest]]:
    def read(value: str) -> Iterator[Digest]:
        yield Digest(algorithm, _base64(value))

    return read


def _of_hex(algorithm: Algorithm) -> Callable[[str], Iterator[Digest]]:
    def read(value: str) -> Iterator[Digest]:
        yield Digest(algorithm, from_hex(value))

    return read


def _base64(text: str) -> bytes:
    # binascii.Error is a ValueError.
    return base64.b64decode(text, validate=True)


@dataclass(frozen=True, slots=True)
class _Field:
    """How one header is to be read."""

    read: Callable[[str], Iterator[Digest]]
    in_parts: bool
    """It speaks of the whole file in a 206 too."""


_FIELDS = {
    b"repr-digest": _Field(_structured, in_parts=True),
    b"digest": _Field(_instance, in_parts=True),
    b"content-digest": _Field(_structured, in_parts=False),
    b"content-md5": _Field(_of_base64(Algorithm.MD5), in_parts=False),
    # The digest of a multipart upload's digests has a suffix "-PARTS", which is not base64: no promise.
    b"x-amz-checksum-sha256": _Field(_of_base64(Algorithm.SHA256), in_parts=False),
    b"x-amz-checksum-sha1": _Field(_of_base64(Algorithm.SHA1), in_parts=False),
    b"x-amz-checksum-crc32c": _Field(_of_base64(Algorithm.CRC32C), in_parts=False),
    b"x-amz-checksum-crc32": _Field(_of_base64(Algorithm.CRC32), in_parts=False),
    b"x-goog-hash": _Field(_google, in_parts=True),
    b"x-ms-blob-content-md5": _Field(_of_base64(Algorithm.MD5), in_parts=True),
    b"x-checksum-sha512": _Field(_of_hex(Algorithm.SHA512), in_parts=True),
    b"x-checksum-sha256": _Field(_of_hex(Algorithm.SHA256), in_parts=True),
    b"x-checksum-sha1": _Field(_of_hex(Algorithm.SHA1), in_parts=True),
    b"x-checksum-md5": _Field(_of_hex(Algorithm.MD5), in_parts=True),
}
_NAMES = frozenset(name.decode("ascii") for name in _FIELDS)
_IDENTITY = ("", "identity")


def promised(status: int, headers: httpx.Headers, where: object) -> Digest | None:
    """Return the strongest digest that an answer states of the whole file, or None.

    Args:
        status: 200 or 206; any other answer promises nothing.
        headers: as they came.
        where: what was asked, for the log.
    """
    if status not in (200, 206) or _NAMES.isdisjoint(headers.keys()):
        return None  # as nearly every answer, and small files are many
    stated: dict[bytes, list[str]] = {}
    coded: list[bytes] = []
    for name, value in headers.raw:
        lowered = name.lower()
        if lowered in _FIELDS:
            stated.setdefault(lowered, []).append(value.decode("latin-1").strip())
        elif lowered in _CODINGS and value.decode("latin-1").strip().lower() not in _CODINGS[lowered]:
            coded.append(lowered)
    if not stated or b"content-encoding" in coded:
        return None
    found: dict[Algorithm, Digest] = {}
    contradicted: set[Algorithm] = set()
    for name, values in stated.items():
        if any(name.startswith(prefix) for coding, prefix in _COVERS if coding in coded):
            continue
        field = _FIELDS[name]
        if status != 200 and not field.in_parts:
            continue
        for digest in _read(name, field, ", ".join(values), where):
            if found.setdefault(digest.algorithm, digest) != digest:
                contradicted.add(digest.algorithm)
    for algorithm in contradicted:
        log.warning("%s: the answer states two %s, neither is believed", where, algorithm.label)
        del found[algorithm]
    return max(found.values(), key=lambda digest: digest.algorithm.strength, default=None)


_CODINGS = {
    b"content-encoding": _IDENTITY,
    # Served decompressed, but hashed as it is stored ("decompressive transcoding").
    b"x-goog-stored-content-encoding": _IDENTITY,
    # A digest of digests, whatever it looks like.
    b"x-amz-checksum-type": ("full_object",),
}
"""Headers that say of what a digest is, and what they say when it is of the file's own bytes."""
_COVERS = ((b"x-goog-stored-content-encoding", b"x-goog-"), (b"x-amz-checksum-type", b"x-amz-"))
"""Which headers the last two speak of."""


def _read(name: bytes, field: _Field, value: str, where: object) -> list[Digest]:
    try:
        return list(field.read(value))
    except ValueError as exc:
        log.debug("%s: %s cannot be read: %s", where, name.decode("ascii"), exc)
        return []
