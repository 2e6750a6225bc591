"""Certificates for servers on loopback: made for one test, trusted where a client is told to."""

from __future__ import annotations

import subprocess
from pathlib import Path


def certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """Make a certificate that is its own authority; returns it and its key, both PEM.

    Args:
        folder: where both files go.
        names: what it is for, as OpenSSL spells it (``IP:127.0.0.1``, ``DNS:example.org``).
    """
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "1", "-subj", "/CN=test", "-addext", f"subjectAltName={','.join(names)}"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key
