"""Digests: what they are of, how they are written, which is the strongest."""

from __future__ import annotations

import hashlib
import zlib

import pytest

from cache.digests import Algorithm, Digest, hasher

# Of b"123456789": the check values of the CRC catalogue (RFC 3720 has the same for CRC-32C).
CHECKS = {
    Algorithm.CRC32: "cbf43926",
    Algorithm.CRC32C: "e3069283",
    Algorithm.MD5: hashlib.md5(b"123456789").hexdigest(),
    Algorithm.SHA1: hashlib.sha1(b"123456789").hexdigest(),
    Algorithm.SHA256: hashlib.sha256(b"123456789").hexdigest(),
    Algorithm.SHA512: hashlib.sha512(b"123456789").hexdigest(),
}


@pytest.mark.parametrize("algorithm", Algorithm)
def test_every_algorithm_is_the_one_of_its_name(algorithm: Algorithm) -> None:
    """In one piece or in several, of any kind of buffer."""
    hashing = hasher(algorithm)
    for piece in (b"123", bytearray(b"45"), memoryview(b""), memoryview(bytearray(b"6789"))):
        hashing.update(piece)
    assert Digest(algorithm, hashing.digest()) == Digest.parse(f"{algorithm.value}:{CHECKS[algorithm]}")


@pytest.mark.parametrize("algorithm", Algorithm)
def test_the_text_of_a_digest_is_read_back(algorithm: Algorithm) -> None:
    digest = Digest.parse(f"{algorithm.value.upper()}:{CHECKS[algorithm].upper()}")
    assert str(digest) == f"{algorithm.value}:{CHECKS[algorithm]}"
    assert Digest.parse(str(digest)) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "md5",
        "md5:",
        "sha-256",
        "sha-256:abc",
        f"sha-256:{'ab' * 31}",
        f"sha-256:{'ab' * 33}",
        f"md4:{'ab' * 16}",
        "crc32c:0x123456",
        "crc32c:12 34 56 78",
        "crc32c:\u0661\u0662\u0663\u0664abcd",
        "crc32c:-1234567",
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not|hexadecimal"):
        Digest.parse(text)


def test_the_strongest_comes_first() -> None:
    order = [algorithm.strength for algorithm in Algorithm]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == len(order)


def test_zlibs_checksum_is_the_one_of_zip_files() -> None:
    hashing = hasher(Algorithm.CRC32)
    hashing.update(b"abc" * 1000)
    assert int.from_bytes(hashing.digest(), "big") == zlib.crc32(b"abc" * 1000)
