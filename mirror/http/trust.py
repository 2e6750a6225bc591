"""Whom to trust over TLS, and which certificate to show.

OpenSSL is used in two ways: by our own thread (`_wire`), and by Python's `ssl` for HTTP/2 and in httpx, for
proxies. Both get the same files, at once: later this process may not be allowed to read them. Python's comes
first, for it says more exactly what is wrong with a file.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import certifi

from mirror.errors import SetupError
from mirror.http._wire import Context


@dataclass(frozen=True, slots=True)
class Trust:
    """The settings of TLS for an origin, for either use. Of a key's password nothing is kept."""

    context: ssl.SSLContext
    """For Python's `ssl`."""
    wire: Context
    """For our own thread."""

    @classmethod
    def usual(cls) -> Trust:
        """The authorities that everybody trusts, unless the user names others, as for OpenSSL's own programs.

        Raises:
            SetupError: those cannot be read.
        """
        return cls.of(None)

    @classmethod
    def of(
        cls,
        authorities: str | None,
        certificate: str | None = None,
        key: str | None = None,
        password: str | None = None,
    ) -> Trust:
        """Read the files, all PEM.

        Args:
            authorities: the option ``ca``: whom to trust; None: the usual ones.
            certificate: the option ``client-cert``: our own, and its chain; None: we show none.
            key: the option ``client-key``: where that is not in the same file.
            password: the option ``client-key-password``: what the key is encrypted with.

        Raises:
            SetupError: one of them cannot be used.
        """
        file, context = _usual() if authorities is None else (authorities, _trusting(authorities))
        if certificate is not None:
            _show(context, certificate, key, password)
        try:
            wire = Context(file, certificate, key, password, context.verify_flags)
        except OSError as exc:
            files = " or ".join(name for name in (file, certificate, key) if name is not None)
            raise SetupError(f"{files}: cannot be used for TLS ({exc.strerror})") from None
        return cls(context, wire)


def _usual() -> tuple[str, ssl.SSLContext]:
    named = os.environ.get("SSL_CERT_FILE")
    file = named or certifi.where()
    try:
        return file, ssl.create_default_context(cafile=file)
    except OSError as exc:  # ssl.SSLError is one
        hint = "correct SSL_CERT_FILE or unset it" if named else "install the package certifi again"
        raise SetupError(f"{file}: no certificates can be read there ({exc}); {hint}") from exc


def _trusting(file: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise SetupError(f"{file}: there is no certificate in it; name a PEM file by ca") from None
    except OSError as exc:
        raise SetupError(f"{file}: cannot be read ({exc.strerror}); correct the option ca") from exc
    return context


def _show(context: ssl.SSLContext, certificate: str, key: str | None, password: str | None) -> None:
    for name, file in (("client-cert", certificate), ("client-key", key)):
        if file is not None:
            _refuse_unreadable(name, file)
    asked = _Password(password)
    try:
        context.load_cert_chain(certificate, key, password=asked)
    except (ssl.SSLError, ValueError) as exc:  # ValueError: no password is that long
        raise SetupError(_why_unusable(exc, certificate, key, asked)) from None


class _Password:
    """What OpenSSL asks for the password of a key; else it would ask the terminal."""

    def __init__(self, password: str | None) -> None:
        self.password = password
        self.asked = False

    def __call__(self) -> str:
        self.asked = True
        return self.password or ""


def _why_unusable(
    exc: ssl.SSLError | ValueError, certificate: str, key: str | None, password: _Password
) -> str:
    file = key or certificate
    if password.asked and password.password is None:
        return f"{file}: the key is encrypted; put its client-key-password into mirror.toml"
    if password.asked:
        return f"{file}: the key cannot be decrypted with the client-key-password that is set; correct it"
    if isinstance(exc, ssl.SSLError) and exc.reason == "KEY_VALUES_MISMATCH":
        return f"{file}: this is not the key of the certificate in {certificate}; name both files of one pair"
    where = certificate if key is None else f"{certificate} or {key}"
    hint = "; name the key's file by client-key" if key is None else ""
    return f"{where}: there is no certificate with its key in PEM form{hint}"


def _refuse_unreadable(name: str, file: str) -> None:
    try:
        Path(file).open("rb").close()
    except OSError as exc:
        raise SetupError(f"{file}: cannot be read ({exc.strerror}); correct the option {name}") from exc
