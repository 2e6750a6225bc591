"""Tokens of azure-identity: the environment's, a managed or workload identity's, those of ``az login``."""

from __future__ import annotations

import logging

from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.identity import DefaultAzureCredential

from mirror.errors import AccessDenied, SetupError, Transient
from mirror.http.tokens import Token

SCOPE = "https://storage.azure.com/.default"

# They log each request, and each way to a token that leads nowhere: what is said in the end is enough.
for _name in ("azure", "msal", "urllib3"):
    logging.getLogger(_name).setLevel(logging.ERROR)

_HINT = (
    "run 'az login', or set AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, "
    "or add ?anonymous=true for a public container"
)


class Fetch:
    """Gets tokens: what `mirror.http.tokens.Tokens` asks, in threads."""

    def __call__(self, refused: bool) -> Token:
        """Return a token that is good for a while; never one that a credential remembers.

        Raises:
            AccessDenied: there are no credentials, or Microsoft does not take them.
            SetupError: what the environment says of them makes no sense.
            Transient: whoever gives out tokens cannot be asked now.
        """
        del refused
        try:
            with DefaultAzureCredential() as credential:
                found = credential.get_token(SCOPE)
        except ClientAuthenticationError as exc:
            # Its message tells of every way that was tried, in many lines.
            raise AccessDenied(f"there are no Azure credentials to use; {_HINT}") from exc
        except AzureError as exc:
            raise Transient("no token from Microsoft: it cannot be asked now") from exc
        except ValueError as exc:
            raise SetupError(f"the environment's AZURE_… variables contradict each other; {_HINT}") from exc
        return Token(found.token, float(found.expires_on))
