"""Google's credentials, as google-auth finds them: files, gcloud's, the metadata server's, federated ones.

google-auth brings no HTTP of its own. Its adapters need requests or urllib3; one for httpx, which is
here anyway, takes fewer lines than their configuration would.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
import warnings
from collections.abc import Mapping
from datetime import UTC

import google.auth
import google.auth.transport
import httpx
from google.auth import exceptions

from mirror.errors import AccessDenied, SetupError, Transient
from mirror.http.tokens import Token

SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"

HOUR = 3600.0

# At DEBUG they log what is asked for and answered, and httpx each URL at INFO.
for _name in ("google.auth", "httpx"):
    logging.getLogger(_name).setLevel(logging.WARNING)
# It advises those who run a program as themselves to name a project for quotas: reading needs none.
warnings.filterwarnings("ignore", "Your application has authenticated using end user credentials")

_HINT = (
    "run 'gcloud auth application-default login', or name a key file by GOOGLE_APPLICATION_CREDENTIALS, "
    "or add ?anonymous=true for a public bucket"
)


class Fetch:
    """Gets tokens: what `mirror.http.tokens.Tokens` asks, in threads."""

    def __init__(self, deadline: float) -> None:
        """``deadline``: seconds that one request for a token may wait."""
        self._request = Request(deadline)
        self._credentials: google.auth.credentials.Credentials | None = None
        self._lock = threading.Lock()

    def __call__(self, refused: bool) -> Token:
        """Return a fresh token.

        Raises:
            AccessDenied: there are no credentials, or Google does not take them.
            SetupError: a file of theirs cannot be used.
            Transient: whoever gives out tokens cannot be asked now.
        """
        with self._lock:
            try:
                # Refused ones may have been replaced: by another login, another key file.
                if self._credentials is None or refused:
                    found, _ = google.auth.default(scopes=[SCOPE], request=self._request)
                    self._credentials = found
                self._credentials.refresh(self._request)
                return _token(self._credentials)
            except exceptions.DefaultCredentialsError as exc:
                raise AccessDenied(f"there are no Google credentials to use ({_said(exc)}); {_HINT}") from exc
            except exceptions.TransportError as exc:
                raise Transient(f"no token from Google: it cannot be asked ({_said(exc)})") from exc
            except exceptions.GoogleAuthError as exc:
                if exc.retryable:
                    raise Transient(f"no token from Google now ({_said(exc)})") from exc
                raise AccessDenied(
                    f"Google gives these credentials no token ({_said(exc)}); {_HINT}"
                ) from exc
            except (ValueError, OSError) as exc:
                # Not what it is about: it may be a line of a key file.
                raise SetupError(
                    f"Google's credentials are of no use ({type(exc).__name__}); {_HINT}"
                ) from exc


def _token(credentials: google.auth.credentials.Credentials) -> Token:
    if not isinstance(credentials.token, str):
        raise exceptions.GoogleAuthError("there is no token in the answer")
    expiry = credentials.expiry
    if expiry is None:
        return Token(credentials.token, time.time() + HOUR)
    return Token(credentials.token, expiry.replace(tzinfo=UTC).timestamp())


def _said(exc: exceptions.GoogleAuthError) -> str:
    """The first line of what it says; the rest may be an answer in full."""
    text = str(exc.args[0]) if exc.args else type(exc).__name__
    return "".join(char if char.isprintable() else " " for char in text.split("\n", 1)[0])[:200]


class Request(google.auth.transport.Request):
    """What google-auth sends its requests with."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._trusted: ssl.SSLContext | None = None

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> google.auth.transport.Response:
        """Send one. Raises google-auth's `TransportError`."""
        if self._trusted is None:
            self._trusted = httpx.create_ssl_context()
        try:
            # Not kept: the next one is an hour away.
            with httpx.Client(verify=self._trusted, timeout=timeout or self._deadline) as client:
                answer = client.request(method, url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise exceptions.TransportError(str(exc) or type(exc).__name__) from exc
        return _Response(answer)


class _Response(google.auth.transport.Response):
    """What it makes of the answer."""

    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        return self._answer.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    @property
    def data(self) -> bytes:
        return self._answer.content
