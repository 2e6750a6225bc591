"""Digests of whole files: named as HTTP names them, ordered by how much they prove.

`Digest` is what somebody says of all the bytes of a file, and what is computed to be held against
that. All of them find bytes that a network or a disk damaged; that is what they are here for, so MD5,
SHA-1 and checksums count too where an origin offers nothing better. Against somebody who can
change what an origin serves none of them helps: he changes the promise as well.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol, Self

from cache._files import crc32c


class Hasher(Protocol):
    """Takes the bytes of a file in order; gives the GIL back while it works on large pieces."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Go on with the next bytes."""

    def digest(self) -> bytes:
        """The digest of all bytes so far."""


class Algorithm(Enum):
    """What can be computed here, the strongest first. The values are the names used in HTTP and here."""

    SHA512 = "sha-512"
    SHA256 = "sha-256"
    SHA1 = "sha-1"
    MD5 = "md5"
    CRC32C = "crc32c"
    CRC32 = "crc32"

    @property
    def size(self) -> int:
        """Bytes of a digest."""
        return _KINDS[self].size

    @property
    def strength(self) -> int:
        """The larger, the more it proves."""
        return _KINDS[self].strength

    @property
    def label(self) -> str:
        """The name in a message, as its standard writes it."""
        return "CRC-32C" if self is Algorithm.CRC32C else self.value.upper()


class _Checksum:
    """A checksum of 32 bits in the manner of `hashlib`."""

    def __init__(self, function: Callable[[bytes | bytearray | memoryview, int], int]) -> None:
        self._function = function
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class _Algorithm:
    size: int
    strength: int
    hasher: Callable[[], Hasher]


# Nothing here protects from an attacker, so a machine in FIPS mode must not refuse it.
_KINDS = {
    Algorithm.SHA512: _Algorithm(64, 6, partial(hashlib.sha512, usedforsecurity=False)),
    Algorithm.SHA256: _Algorithm(32, 5, partial(hashlib.sha256, usedforsecurity=False)),
    Algorithm.SHA1: _Algorithm(20, 4, partial(hashlib.sha1, usedforsecurity=False)),
    Algorithm.MD5: _Algorithm(16, 3, partial(hashlib.md5, usedforsecurity=False)),
    Algorithm.CRC32C: _Algorithm(4, 2, partial(_Checksum, crc32c)),
    Algorithm.CRC32: _Algorithm(4, 1, partial(_Checksum, zlib.crc32)),
}


@dataclass(frozen=True, slots=True)
class Digest:
    """The digest of all bytes of a file, without any coding. ``str()`` and `parse` are inverse."""

    algorithm: Algorithm
    value: bytes
    """Of checksums: the number, its most significant byte first."""

    def __post_init__(self) -> None:
        """Refuse what no bytes can have.

        Raises:
            ValueError: the value has not the algorithm's length.
        """
        if len(self.value) != self.algorithm.size:
            raise ValueError(
                f"a digest of {self.algorithm.value} has {self.algorithm.size} bytes, not {len(self.value)}"
            )

    def __str__(self) -> str:
        return f"{self.algorithm.value}:{self.value.hex()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str()`` writes, ``sha-256:HEX``, in either case.

        Raises:
            ValueError: it is no digest that can be computed here.
        """
        name, _, value = text.partition(":")
        return cls(Algorithm(name.lower()), from_hex(value))


def from_hex(text: str) -> bytes:
    """Read hexadecimal digits and nothing else: `bytes.fromhex` would pass over blanks.

    Raises:
        ValueError: there is something else in it, or half a byte.
    """
    if not text.isascii() or not text.isalnum():
        raise ValueError(f"{text!a} is not hexadecimal")
    return bytes.fromhex(text)


def hasher(algorithm: Algorithm) -> Hasher:
    """A new one, that has seen no byte."""
    return _KINDS[algorithm].hasher()
