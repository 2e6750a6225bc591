"""Certificates for servers on loopback: made for one test, trusted where a client is told to."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_KEYS = {"ec": _KEY, "rsa": ("-newkey", "rsa:2048", "-nodes")}


def certificate(folder: Path, *names: str, key: str = "ec") -> tuple[Path, Path]:
    """Make a certificate that is its own authority; returns it and its key, both PEM.

    Args:
        folder: where both files go.
        names: what it is for, as OpenSSL spells it (``IP:127.0.0.1``, ``DNS:example.org``).
        key: the kind of its key, ``ec`` or ``rsa``.
    """
    cert, keyfile = folder / "cert.pem", folder / "key.pem"
    _openssl(
        *("req", "-x509", *_KEYS[key], "-days", "1", "-subj", "/CN=test"),
        *("-addext", f"subjectAltName={','.join(names)}", "-keyout", keyfile, "-out", cert),
    )
    return cert, keyfile


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "authority.pem"
        """Its own certificate, to be trusted."""
        self._key = folder / "authority.key"
        extension = (
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign",
        )
        _openssl(
            *("req", "-x509", *_KEY, "-days", "2", "-subj", "/CN=authority", *extension),
            *("-keyout", self._key, "-out", self.file),
        )

    def issue(self, name: str, *, names: str = "IP:127.0.0.1") -> tuple[Path, Path]:
        """Certificate and key of a server (or of a client: the same will do)."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        _openssl("req", "-new", *_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key, "-CAcreateserial"),
            *("-days", "1", "-extfile", extensions, "-out", certificate),
        )
        return certificate, key

    def encrypted(self, key: Path, password: str) -> Path:
        """The same key, encrypted."""
        out = key.with_suffix(".encrypted")
        _openssl("ec", "-in", key, "-aes256", "-passout", f"pass:{password}", "-out", out)
        return out


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
