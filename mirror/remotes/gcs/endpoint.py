"""Where the API of Cloud Storage is, and whether it is shown credentials.

A token works wherever it is presented, so it goes to Google's own hosts and to no others unless the user
says so: an emulator needs none, and a URL that somebody else wrote must not fetch one.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from mirror.errors import UsageError
from mirror.remotes.objects.hosts import loopback
from mirror.remotes.options import Form, Option, Options, to_query

PUBLIC = "https://storage.googleapis.com"

EMULATOR = "STORAGE_EMULATOR_HOST"
"""The variable by which Google's own tools find an emulator."""

ENDPOINT = Option("endpoint", "URL of an emulator, or of a private access point of Google's API", Form.URL)
ANONYMOUS = Option(
    "anonymous",
    "true: show no credentials, to a public bucket; false: show them to any endpoint",
    Form.FLAG,
)


def endpoint(options: Options, environ: Mapping[str, str]) -> str:
    """Return where the API is, without a slash at its end.

    Raises:
        UsageError: the environment names none.
    """
    if (own := options.get("endpoint")) is not None:
        return own
    if not (value := environ.get(EMULATOR)):
        return PUBLIC
    try:
        return ENDPOINT.normal(value if "://" in value else f"http://{value}")
    except ValueError as exc:
        raise UsageError(f"{EMULATOR}: {exc}") from None


def named(url: str, endpoint: str) -> str:
    """Return the source that names what is cached: Google's hosts all lead to the same buckets."""
    return url if _googles(endpoint) else url + to_query({"endpoint": endpoint})


def anonymous(endpoint: str, options: Options) -> bool:
    """Whether an endpoint is shown no credentials.

    Raises:
        UsageError: it is to be shown some over a connection that anybody may read.
    """
    if options.get("anonymous") != "false":
        return options.flag("anonymous") or not _googles(endpoint)
    if not (endpoint.startswith("https:") or loopback(endpoint)):
        raise UsageError(f"{endpoint}: credentials are shown over https only; correct the endpoint")
    return False


def _googles(endpoint: str) -> bool:
    url = httpx.URL(endpoint)
    return url.scheme == "https" and url.host.endswith(".googleapis.com") and url.path == "/"
