"""Where the requests for a bucket go: pure functions from region, style and endpoint to a URL.

Amazon's hosts have the bucket's name before them (*virtual* style), but for names that no certificate of
theirs covers: with dots, capitals or underscores. Other servers take it in the path, unless told else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from mirror.errors import UsageError
from mirror.remotes.names import to_url

AMAZON = "us-east-1"
"""The region that is asked first where none is set: it knows where all buckets are."""

_HOST_PART = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Site:
    """Where one bucket is asked for."""

    origin: httpx.URL
    base: str
    """Quoted path of the bucket, without a slash at the end; ``""``: the host is the bucket's."""

    def object(self, key: str) -> str:
        """Quoted path of an object."""
        return f"{self.base}/{to_url(key)}"

    def listing(self, query: str) -> str:
        """Path and query of a question about the bucket."""
        return f"{self.base or '/'}?{query}"


def site(
    bucket: str,
    *,
    region: str,
    endpoint: str | None,
    style: str | None,
    suffix: Callable[[str], str],
) -> Site:
    """Return where a bucket is asked for.

    Args:
        bucket: its name.
        region: of the bucket, as far as is known.
        endpoint: of another server; None: Amazon's.
        style: ``path``, ``virtual``, or None: as the server's kind asks.
        suffix: the end of Amazon's host names in a region.

    Raises:
        UsageError: the style does not go together with the rest.
    """
    base = httpx.URL(endpoint or f"https://s3.{region}.{suffix(region)}")
    if style is None:
        style = "path" if endpoint is not None or not _HOST_PART.fullmatch(bucket) else "virtual"
    above = base.raw_path.decode("ascii").rstrip("/")
    if style == "path":
        return Site(base.copy_with(raw_path=b"/"), f"{above}/{to_url(bucket)}")
    if ":" in base.host or base.host.replace(".", "").isdigit():
        raise UsageError(f"style=virtual puts the bucket before the host, and {base.host} is an address")
    return Site(base.copy_with(host=f"{bucket}.{base.host}", raw_path=b"/"), above)
