"""What the origin promises of a file, and a mount that holds it to that."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.data import KiB, MiB, noise, put
from tests.support.failures import errno_of
from tests.support.hostile import Seen, Wire, hostile
from tests.support.mounts import Mount, mounted
from tests.support.servers import apache, nginx
from tests.support.waiting import eventually


def sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def stating(digests: dict[str, bytes]) -> str:
    """Directives that make nginx state for each path the digest of the given bytes."""
    return "\n".join(
        f'location = /{name} {{ add_header Repr-Digest "sha-256=:{sha256(data)}:"; }}'
        for name, data in digests.items()
    )


@pytest.mark.parametrize("size", [100 * KiB, 20 * MiB])
def test_what_the_origin_promises_of_a_file_is_checked(size: int, folder: Path) -> None:
    """In answers with the whole file and with parts of it: what has another digest is never given out."""
    right, wrong = noise("right", size), noise("wrong", size)
    put(folder, "right.bin", right)
    put(folder, "wrong.bin", wrong)
    with (
        nginx(
            folder, autoindex="json", extra_conf=stating({"right.bin": right, "wrong.bin": right})
        ) as origin,
        mounted(origin.url, args=["--open", "wait"]) as mount,
    ):
        assert (mount.path / "right.bin").read_bytes() == right
        assert errno_of((mount.path / "wrong.bin").read_bytes) == "EIO"
        mount.assert_logged("does not match the SHA-256 that the origin itself promises")
        statuses = {r.status for r in origin.requests() if r.method == "GET" and r.uri == "/wrong.bin"}
        assert statuses == ({200} if size < MiB else {206})
        assert objects(mount) == [right]


def test_the_digest_of_a_whole_answer_counts_too(folder: Path) -> None:
    """Apache computes a Content-MD5 of what it sends."""
    data = noise("right", 100 * KiB)
    put(folder, "right.bin", data)
    put(folder, "wrong.bin", data)
    conf = (
        'ContentDigest On\n<Files "wrong.bin">\nHeader set Content-MD5 "AAAAAAAAAAAAAAAAAAAAAA=="\n</Files>'
    )
    with apache(folder, extra_conf=conf) as origin, mounted(origin.url) as mount:
        assert (mount.path / "right.bin").read_bytes() == data
        assert errno_of((mount.path / "wrong.bin").read_bytes) == "EIO"
        mount.assert_logged("wrong.bin does not match the MD5 that the origin itself promises")
        assert objects(mount) == [data]


def test_a_page_that_turned_out_to_be_wrong_is_not_read_twice() -> None:
    """What a reader of a large file got before the check is not what it gets afterwards."""
    data = noise("right", 20 * MiB)
    damaged = bytes([data[0] ^ 1]) + data[1:]
    with (
        hostile({"/data.bin": damaging(data, once=damaged)}) as origin,
        mounted(f"{origin.url}data.bin", args=["--open", "stream"]) as mount,
    ):
        fd = os.open(mount.path / "data.bin", os.O_RDONLY)
        try:
            assert os.pread(fd, 4096, 0) == damaged[:4096]
            eventually(lambda: mount.counters()["fills_completed"] == 1, "the second transfer is complete")
            eventually(lambda: os.pread(fd, 4096, 0) == data[:4096], "the reader gets the right bytes")
        finally:
            os.close(fd)
        assert (mount.path / "data.bin").read_bytes() == data


def damaging(data: bytes, *, once: bytes) -> Callable[[Seen, Wire], None]:
    """An origin without ranges; the first GET's body is another one than it promises."""
    bodies = [once]

    def behave(seen: Seen, wire: Wire) -> None:
        headers = {"Content-Length": len(data), "ETag": '"1"', "Repr-Digest": f"sha-256=:{sha256(data)}:"}
        wire.head(200, headers)
        if seen.method == "GET":
            wire.send(bodies.pop() if bodies else data)

    return behave


def objects(mount: Mount) -> list[bytes]:
    """The bytes of every object in the mount's cache."""
    return [path.read_bytes() for path in (mount.cache / "objects").rglob("*") if path.is_file()]
