"""How many bytes an answer takes over TLS: never fewer than are waited for, or each would cost that wait."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trio

from mirror.http.tls import Tls
from tests.support.certificates import certificate

V2, V3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("size", [1, 16 * 1024, 16 * 1024 + 1, 100_000, 1_000_000])
@pytest.mark.parametrize(
    ("version", "cipher"),
    [
        (V3, "TLS_CHACHA20_POLY1305_SHA256"),
        (V2, "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-CHACHA20-POLY1305"),
        (V2, "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"),
    ],
)
def test_no_more_is_waited_for_than_comes(
    tmp_path: Path, version: ssl.TLSVersion, cipher: str, size: int
) -> None:
    cert, key = certificate(tmp_path, "DNS:localhost")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(cert, key)
    theirs.minimum_version = theirs.maximum_version = version
    if version is V2:
        theirs.set_ciphers(f"{cipher}:@SECLEVEL=0")
    ours = ssl.create_default_context(cafile=str(cert))
    upwards, downwards = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = theirs.wrap_bio(upwards, downwards, server_side=True)
    client = ours.wrap_bio(downwards, upwards, server_hostname="localhost")
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    said = server.cipher()
    assert said is not None
    assert said[0] in cipher or version is V3
    downwards.read()  # session tickets
    server.write(bytes(size))

    async def least() -> int:
        a, b = socket.socketpair()
        with a, b:
            return Tls(trio.socket.from_stdlib_socket(a), ours, "localhost").least(size)

    assert size < trio.run(least) <= downwards.pending
