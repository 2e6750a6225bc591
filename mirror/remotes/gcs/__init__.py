"""Buckets of Google Cloud Storage.

endpoint     where the API is, and who is shown credentials
credentials  google-auth, in threads
objects      the API's JSON, as objects
dialect      what answers say of versions, codings and failures
store        the questions of `mirror.remotes.objects.store`, over `mirror.http`
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import httpx

from mirror.errors import SetupError
from mirror.http import access
from mirror.http.auth import Auth
from mirror.http.tokens import Tokens
from mirror.remotes.base import Remote
from mirror.remotes.gcs import endpoint as endpoints
from mirror.remotes.gcs.store import GcsStore
from mirror.remotes.how import How
from mirror.remotes.objects.place import Part, Scheme
from mirror.remotes.objects.remote import ObjectRemote
from mirror.remotes.options import Option, Options

__all__ = ["OPTIONS", "canonical", "key", "open_remote"]

OPTIONS: Sequence[Option] = (
    endpoints.ANONYMOUS,
    endpoints.ENDPOINT,
    Option("user-project", "the project that pays for the requests, as buckets with requester pays ask for"),
    *access.CONNECTION,
)

_SCHEME = Scheme(
    "gs",
    [Part("bucket", re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"))],
    "gs://BUCKET/PREFIX/",
    "they are those of 'gcloud auth application-default login' or GOOGLE_APPLICATION_CREDENTIALS",
)


def canonical(source: str) -> str:
    """Normalise a gs source. Raises `UsageError`."""
    return _SCHEME.canonical(source)


def key(url: str, options: Options) -> str:
    """Return the source, with the API's address where it is not Google's."""
    return endpoints.named(url, endpoints.endpoint(options, os.environ))


def open_remote(url: str, how: How) -> Remote:
    """Make the remote of a canonical source. See `mirror.remotes.open_remote`.

    Raises:
        UsageError: an option cannot mean anything.
        SetupError: google-auth is needed and not installed.
    """
    endpoint = endpoints.endpoint(how.options, os.environ)
    place = _SCHEME.place(url)
    client = access.open_client(httpx.URL(endpoint), how)
    store = GcsStore(
        place.words[0], endpoint, client, _auth(endpoint, how), pays=how.options.get("user-project")
    )
    return ObjectRemote(key(url, how.options), place, store, client)


def _auth(endpoint: str, how: How) -> Auth | None:
    if endpoints.anonymous(endpoint, how.options):
        return None
    try:
        from mirror.remotes.gcs.credentials import Fetch  # noqa: PLC0415 - google-auth is an extra
    except ModuleNotFoundError as exc:
        raise SetupError(
            "credentials for gs: sources need google-auth, which is not installed: "
            "pip install 'mirrorfs[gcs]', or add ?anonymous=true for a public bucket"
        ) from exc
    return Tokens(Fetch(how.deadline))
