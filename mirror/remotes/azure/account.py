"""Where an account's blobs are, and what shows who asks for them.

Of what is set, the first counts: the options ``anonymous``, ``sas-token``, ``account-key``; then, if
``AZURE_STORAGE_ACCOUNT`` names no other account, ``AZURE_STORAGE_CONNECTION_STRING`` (if it is of this
account), ``AZURE_STORAGE_KEY``, ``AZURE_STORAGE_SAS_TOKEN``; else whatever azure-identity finds.

SAS tokens and bearer tokens work wherever they are presented, so they go to Microsoft's hosts and to
this machine, and to others only if the user says so.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import httpx

from mirror.errors import SetupError, UsageError
from mirror.remotes.objects.hosts import loopback
from mirror.remotes.options import Form, Option, Options, to_query

ENDPOINT = Option(
    "endpoint", "URL of the blob service, where it is not https://ACCOUNT.blob.core.windows.net", Form.URL
)

OPTIONS = (
    Option("account-key", "a key of the account (base64)", secret=True),
    Option(
        "anonymous",
        "true: show no credentials, to a public container; false: show them to any endpoint",
        Form.FLAG,
    ),
    ENDPOINT,
    Option("sas-token", "a shared access signature, as it stands behind the '?' of a URL", secret=True),
)

_AZURES = (
    ".blob.core.windows.net",
    ".blob.core.usgovcloudapi.net",
    ".blob.core.chinacloudapi.cn",
    ".blob.storage.azure.net",
)

EMULATED = "devstoreaccount1"
"""The account of Azurite."""
# The same in every emulator, published in its manual: it opens nothing else.
_EMULATED_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_EMULATED_ENDPOINT = f"http://127.0.0.1:10000/{EMULATED}"


class Shows(Enum):
    """What shows who asks."""

    NOTHING = "nothing"
    KEY = "a signature made with a key of the account"
    SAS = "a shared access signature"
    TOKEN = "a token of azure-identity"  # noqa: S105 - what it is, not one


@dataclass(frozen=True, slots=True)
class Account:
    """One account."""

    name: str
    endpoint: str
    """Without a slash at its end."""
    shows: Shows
    key: bytes = field(default=b"", repr=False)
    sas: str = field(default="", repr=False)

    def named(self, url: str) -> str:
        """Return the source that names what is cached: another endpoint is another tree."""
        return url if self.endpoint == _usual(self.name) else url + to_query({"endpoint": self.endpoint})


def _usual(name: str) -> str:
    return f"https://{name}.blob.core.windows.net"


def find(name: str, options: Options, environ: Mapping[str, str]) -> Account:
    """Return what is set of an account.

    Raises:
        UsageError: what is set contradicts itself, or would show secrets to everybody.
        SetupError: a secret is malformed; it is not shown.
    """
    known = environ if environ.get("AZURE_STORAGE_ACCOUNT", name) == name else {}
    stated = _connection_string(known.get("AZURE_STORAGE_CONNECTION_STRING", ""), name)
    endpoint = options.get("endpoint") or stated.get("blobendpoint") or _usual(name)
    if options.flag("anonymous"):
        return Account(name, endpoint, Shows.NOTHING)
    key = sas = ""
    for key, sas in (
        ("", options.get("sas-token", "")),
        (options.get("account-key", ""), ""),
        (stated.get("accountkey", ""), stated.get("sharedaccesssignature", "")),
        (known.get("AZURE_STORAGE_KEY", ""), ""),
        ("", known.get("AZURE_STORAGE_SAS_TOKEN", "")),
        (_EMULATED_KEY if name == EMULATED and endpoint != _usual(name) else "", ""),
    ):
        if key or sas:
            break
    if key:
        # Its owner does not show it: a signature is of one request, and for some minutes.
        return Account(name, endpoint, Shows.KEY, key=_decoded(key))
    azures = endpoint.startswith("https:") and (httpx.URL(endpoint).host.endswith(_AZURES))
    wanted = options.get("anonymous") == "false"
    if not (azures or wanted or (sas and loopback(endpoint))):
        return Account(name, endpoint, Shows.NOTHING)
    if not (endpoint.startswith("https:") or loopback(endpoint)):
        raise UsageError(f"{endpoint}: credentials are shown over https only; correct the endpoint")
    if sas:
        return Account(name, endpoint, Shows.SAS, sas=_signature(sas))
    return Account(name, endpoint, Shows.TOKEN)


def _connection_string(text: str, name: str) -> dict[str, str]:
    """Read ``NAME=VALUE;NAME=VALUE``; nothing when it is of another account. Names in lower case."""
    if not text:
        return {}
    pairs = (part.partition("=") for part in text.split(";") if part.strip())
    stated = {key.strip().lower(): value.strip() for key, _, value in pairs}
    if stated.get("usedevelopmentstorage", "").lower() == "true":
        stated = {"accountname": EMULATED, "accountkey": _EMULATED_KEY, "blobendpoint": _EMULATED_ENDPOINT}
    if stated.get("accountname", name) != name:
        return {}
    if "blobendpoint" not in stated and "endpointsuffix" in stated:
        scheme = stated.get("defaultendpointsprotocol", "https")
        stated["blobendpoint"] = f"{scheme}://{name}.blob.{stated['endpointsuffix']}"
    if "blobendpoint" in stated:
        try:
            stated["blobendpoint"] = ENDPOINT.normal(stated["blobendpoint"])
        except ValueError as exc:
            raise UsageError(f"AZURE_STORAGE_CONNECTION_STRING: BlobEndpoint: {exc}") from None
    return stated


def _decoded(key: str) -> bytes:
    try:
        return base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise SetupError("the key of the account is not base64; copy it again from the portal") from None


def _signature(sas: str) -> str:
    sas = sas.strip().removeprefix("?")
    if "sig=" not in sas or not sas.isascii() or not sas.isprintable() or {" ", "#"} & set(sas):
        raise SetupError(
            "the SAS token is none: it is what stands behind the '?' of a URL, with sig= in it; copy it again"
        )
    return sas
