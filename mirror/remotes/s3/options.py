"""What can be set for an s3 source, and how an endpoint is written."""

from __future__ import annotations

import re
from collections.abc import Sequence

import httpx

from mirror.errors import UsageError
from mirror.http import access
from mirror.remotes.names import BadNameError, decode, to_url
from mirror.remotes.options import Form, Option

OPTIONS: Sequence[Option] = (
    Option("anonymous", "ask without credentials, as anybody may ask a public bucket", Form.FLAG),
    Option("endpoint", "URL of a server that is not Amazon's, as http://127.0.0.1:9000"),
    Option("profile", "the profile of ~/.aws/config and ~/.aws/credentials to use"),
    Option("region", "the bucket's region; it is asked for when it is another one"),
    Option("requester-pays", "agree to pay for what is read from a bucket whose owner does not", Form.FLAG),
    Option(
        "style",
        "where the bucket's name goes: into the path, or before the host (default: as it is usual there)",
        choices=("path", "virtual"),
    ),
    # Redirects are never followed.
    *(option for option in access.CONNECTION if option.name != "private-redirects"),
)

REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""What may become part of a host name, whoever says it."""


def checked_region(value: str, where: str) -> str:
    """Return a region's name, or raise `UsageError`; ``where`` it was set."""
    if not REGION.fullmatch(value):
        raise UsageError(f"{where}: {value[:100]!a} is no region; write one as eu-west-1")
    return value


def checked_endpoint(value: str, where: str) -> str:
    """Return the one spelling of an endpoint: no slash at the end, no usual port.

    Raises:
        UsageError: it is none; ``where`` it was set, and no password that it may hold, are in the line.
    """
    form = "write an endpoint as https://HOST or http://HOST:PORT"
    try:
        parsed = httpx.URL(value)
    except httpx.InvalidURL as exc:
        raise UsageError(f"{where}: not a URL; {form}") from exc
    if parsed.userinfo:
        raise UsageError(f"{where}: an endpoint holds no user or password; {form}")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(f"{where}: not an http or https URL; {form}")
    if parsed.query or parsed.fragment or parsed.port == 0:
        raise UsageError(f"{where}: an endpoint is a host and a port, and a path at most; {form}")
    try:
        path = "/".join(to_url(decode(part)) for part in parsed.raw_path.decode("ascii").split("/") if part)
    except BadNameError as exc:
        raise UsageError(f"{where}: its path cannot be used ({exc}); {form}") from exc
    # httpx drops a usual port, and writes the host in lower case.
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}" + (f"/{path}" if path else "")
