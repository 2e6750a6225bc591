"""Which headers promise something of a whole file, and what."""

from __future__ import annotations

import base64
import hashlib
import logging
import time

import httpx
import pytest

from cache.digests import Algorithm, Digest, hasher
from mirror.http.promises import promised

DATA = b"the bytes of a file"


def of(algorithm: Algorithm, data: bytes = DATA) -> Digest:
    hashing = hasher(algorithm)
    hashing.update(data)
    return Digest(algorithm, hashing.digest())


def b64(algorithm: Algorithm, data: bytes = DATA) -> str:
    return base64.b64encode(of(algorithm, data).value).decode()


SHA512, SHA256, SHA1 = b64(Algorithm.SHA512), b64(Algorithm.SHA256), b64(Algorithm.SHA1)
MD5, CRC32C, CRC32 = b64(Algorithm.MD5), b64(Algorithm.CRC32C), b64(Algorithm.CRC32)
HEX_CRC32C = of(Algorithm.CRC32C).value.hex()

EVERY_ANSWER = [
    ("Repr-Digest", f"sha-256=:{SHA256}:", Algorithm.SHA256),
    ("Repr-Digest", f"sha-512=:{SHA512}:,sha-256=:{SHA256}:", Algorithm.SHA512),
    ("Repr-Digest", f"md5=:{MD5}:;q=1; w , \t crc32c=:{CRC32C}:", Algorithm.MD5),
    ("Repr-Digest", f"sha=:{SHA1}:, unixsum=:AAAA:, x-new=:QUJD:", Algorithm.SHA1),
    ("Repr-Digest", f"sha-256=:AAAA:, sha-256=:{SHA256}:", Algorithm.SHA256),
    ("Digest", f"SHA-256={SHA256}", Algorithm.SHA256),
    ("Digest", f"sha={SHA1}, MD5={MD5},UNIXsum=30637", Algorithm.SHA1),
    ("Digest", f"id-sha-512={SHA512}", Algorithm.SHA512),
    ("Digest", f"crc32c={HEX_CRC32C}", Algorithm.CRC32C),
    ("x-goog-hash", f"crc32c={CRC32C},md5={MD5}", Algorithm.MD5),
    ("x-goog-hash", f"crc32c={CRC32C}", Algorithm.CRC32C),
    ("x-ms-blob-content-md5", MD5, Algorithm.MD5),
    ("X-Checksum-Sha256", of(Algorithm.SHA256).value.hex(), Algorithm.SHA256),
    ("X-Checksum-Sha1", of(Algorithm.SHA1).value.hex().upper(), Algorithm.SHA1),
    ("X-Checksum-Md5", of(Algorithm.MD5).value.hex(), Algorithm.MD5),
    ("X-Checksum-Sha512", of(Algorithm.SHA512).value.hex(), Algorithm.SHA512),
]
WHOLE_ANSWERS = [
    ("Content-Digest", f"sha-256=:{SHA256}:", Algorithm.SHA256),
    ("Content-MD5", MD5, Algorithm.MD5),
    ("x-amz-checksum-sha256", SHA256, Algorithm.SHA256),
    ("x-amz-checksum-sha1", SHA1, Algorithm.SHA1),
    ("x-amz-checksum-crc32c", CRC32C, Algorithm.CRC32C),
    ("x-amz-checksum-crc32", CRC32, Algorithm.CRC32),
]


@pytest.mark.parametrize("status", [200, 206])
@pytest.mark.parametrize(("name", "value", "algorithm"), EVERY_ANSWER)
def test_these_speak_of_the_whole_file_whatever_part_comes(
    status: int, name: str, value: str, algorithm: Algorithm
) -> None:
    assert promised(status, httpx.Headers({name: value}), "x") == of(algorithm)


@pytest.mark.parametrize(("name", "value", "algorithm"), WHOLE_ANSWERS)
def test_these_speak_of_what_comes(name: str, value: str, algorithm: Algorithm) -> None:
    """So they promise something of the file only where the whole of it comes."""
    headers = httpx.Headers({name: value})
    assert promised(200, headers, "x") == of(algorithm)
    assert promised(206, headers, "x") is None


@pytest.mark.parametrize(("name", "value", "_algorithm"), EVERY_ANSWER + WHOLE_ANSWERS)
def test_what_is_compressed_promises_nothing_of_the_file(
    name: str, value: str, _algorithm: Algorithm
) -> None:
    coded = httpx.Headers({name: value, "Content-Encoding": "gzip"})
    assert promised(200, coded, "x") is None
    plain = httpx.Headers({name: value, "Content-Encoding": " Identity"})
    assert promised(200, plain, "x") is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Repr-Digest", f"sha-256=:{SHA256}"),
        ("Repr-Digest", f"sha-256={SHA256}"),
        ("Repr-Digest", f"SHA-256=:{SHA256}:"),
        ("Repr-Digest", f"sha-256=:{SHA256}:,"),
        ("Repr-Digest", f"sha-256=:{SHA256}: md5=:{MD5}:"),
        ("Repr-Digest", f"sha-256=:{MD5}:"),
        ("Repr-Digest", f"sha-256=:{SHA256}:, md5=7"),
        ("Repr-Digest", "sha-256=:=:"),
        ("Repr-Digest", ""),
        ("Repr-Digest", "crc64=:AAAAAAAAAAA=:"),
        ("Digest", f"SHA-256={MD5}"),
        ("Digest", f"SHA-256=:{SHA256}:"),
        ("Digest", "crc32c=123456789"),
        ("Digest", "crc32c=0x12"),
        ("Digest", "adler32=03da0195"),
        ("Digest", "SHA-256"),
        ("Content-MD5", of(Algorithm.MD5).value.hex()),
        ("Content-MD5", f"{MD5}, {MD5}"),
        ("Content-MD5", "d\xe9j\xe0"),
        ("x-amz-checksum-sha256", f"{SHA256}-3"),
        ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
        ("x-goog-hash", "md5"),
        ("X-Checksum-Sha256", SHA256),
        ("X-Checksum-Md5", "none"),
        ("ETag", f'"{of(Algorithm.MD5).value.hex()}"'),
    ],
)
def test_what_cannot_be_read_is_no_promise(name: str, value: str) -> None:
    """And no error either: the origin served the file before anybody looked."""
    assert promised(200, httpx.Headers({name: value.encode("latin-1")}), "x") is None  # type: ignore[dict-item]


def test_a_broken_header_does_not_hide_another_one() -> None:
    headers = httpx.Headers({"Repr-Digest": "sha-256=nonsense", "Content-MD5": MD5})
    assert promised(200, headers, "x") == of(Algorithm.MD5)


def test_the_strongest_promise_counts_whatever_its_place() -> None:
    headers = httpx.Headers({"Content-MD5": MD5, "X-Checksum-Sha1": of(Algorithm.SHA1).value.hex()})
    assert promised(200, headers, "x") == of(Algorithm.SHA1)
    several = httpx.Headers([("x-goog-hash", f"crc32c={CRC32C}"), ("X-Goog-Hash", f"md5={MD5}")])
    assert promised(206, several, "x") == of(Algorithm.MD5)


def test_a_digest_of_digests_is_none_of_the_object() -> None:
    composite = {"x-amz-checksum-crc32c": CRC32C, "x-amz-checksum-type": "COMPOSITE"}
    assert promised(200, httpx.Headers(composite), "x") is None
    whole = composite | {"x-amz-checksum-type": "FULL_OBJECT"}
    assert promised(200, httpx.Headers(whole), "x") == of(Algorithm.CRC32C)


def test_what_was_stored_compressed_and_comes_plain_has_another_digest() -> None:
    stored = {"x-goog-hash": f"md5={MD5}", "x-goog-stored-content-encoding": "gzip"}
    assert promised(200, httpx.Headers(stored), "x") is None
    plain = stored | {"x-goog-stored-content-encoding": "identity"}
    assert promised(200, httpx.Headers(plain), "x") == of(Algorithm.MD5)


def test_headers_that_contradict_each_other_are_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    """A weaker promise, that nothing contradicts, still counts."""
    other = b64(Algorithm.SHA256, b"something else")
    headers = {"Repr-Digest": f"sha-256=:{SHA256}:", "Digest": f"SHA-256={other}", "Content-MD5": MD5}
    assert promised(200, httpx.Headers(headers), "x") == of(Algorithm.MD5)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "two SHA-256" in caplog.text


def test_only_answers_with_bytes_promise_something() -> None:
    assert promised(304, httpx.Headers({"Content-MD5": MD5}), "x") is None


def test_a_long_header_is_read_in_no_time() -> None:
    """No header can be written that takes more than linear time."""
    began = time.perf_counter()
    for value in ("sha-256=::" + ";a" * 200_000, "a=:" + "A" * 400_000, "a=::," * 100_000 + "!"):
        assert promised(200, httpx.Headers({"Repr-Digest": value}), "x") is None
    assert time.perf_counter() - began < 5


def test_the_digest_of_nothing_is_a_promise_too() -> None:
    empty = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    digest = promised(200, httpx.Headers({"Repr-Digest": f"sha-256=:{empty}:"}), "x")
    assert digest == of(Algorithm.SHA256, b"")
