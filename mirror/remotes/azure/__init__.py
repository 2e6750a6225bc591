"""Containers of Azure Blob Storage, those with a hierarchical namespace (ADLS Gen2) too.

account      where the service is, and what the environment knows of the account
signing      shared keys, by Microsoft's specification
credentials  azure-identity, in threads
listing      the XML of List Blobs, as objects
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
from mirror.remotes.azure import account as accounts
from mirror.remotes.azure.signing import SharedKey
from mirror.remotes.azure.store import AzureStore
from mirror.remotes.base import Remote
from mirror.remotes.how import How
from mirror.remotes.objects.place import Part, Scheme
from mirror.remotes.objects.remote import ObjectRemote
from mirror.remotes.options import Option, Options

__all__ = ["OPTIONS", "canonical", "key", "open_remote"]

OPTIONS: Sequence[Option] = (*accounts.OPTIONS, *access.CONNECTION)

_SCHEME = Scheme(
    "az",
    [
        Part("account", re.compile(r"[a-z0-9]{3,24}")),
        Part("container", re.compile(r"\$(?:root|web|logs)|(?=.{3,63}$)[a-z0-9]+(?:-[a-z0-9]+)*")),
    ],
    "az://ACCOUNT/CONTAINER/PREFIX/",
    "they are those of 'az login', or in AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN",
)


def canonical(source: str) -> str:
    """Normalise an az source. Raises `UsageError`."""
    return _SCHEME.canonical(source)


def key(url: str, options: Options) -> str:
    """Return the source, with the service's address where it is not the account's own."""
    return accounts.find(_SCHEME.place(url).words[0], options, os.environ).named(url)


def open_remote(url: str, how: How) -> Remote:
    """Make the remote of a canonical source. See `mirror.remotes.open_remote`.

    Raises:
        UsageError: an option cannot mean anything.
        SetupError: credentials cannot be used, or azure-identity is needed and not installed.
    """
    place = _SCHEME.place(url)
    account = accounts.find(place.words[0], how.options, os.environ)
    client = access.open_client(httpx.URL(account.endpoint), how)
    store = AzureStore(
        place.words[1], account, client, _auth(account), anonymous=account.shows is accounts.Shows.NOTHING
    )
    return ObjectRemote(account.named(url), place, store, client)


def _auth(account: accounts.Account) -> Auth | None:
    match account.shows:
        case accounts.Shows.KEY:
            return SharedKey(account.name, account.key)
        case accounts.Shows.TOKEN:
            try:
                from mirror.remotes.azure.credentials import Fetch  # noqa: PLC0415 - azure-identity is an extra
            except ModuleNotFoundError as exc:
                raise SetupError(
                    "credentials for az: sources need azure-identity, which is not installed: "
                    "pip install 'mirrorfs[azure]'; or set AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, "
                    "or add ?anonymous=true for a public container"
                ) from exc
            return Tokens(Fetch())
        case _:
            return None
