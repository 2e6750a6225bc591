"""What ``s3://BUCKET/PREFIX/`` means.

It is a URL, unlike what AWS's own tools take: a space is ``%20``, and a ``%`` is ``%25``. The canonical
form has each part of the prefix quoted in one way. A prefix is a folder or a file, never the beginning
of a name: ``s3://bucket/da`` has nothing to do with ``data/``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from mirror.errors import UsageError
from mirror.remotes.names import BadNameError, decode, to_url
from mirror.remotes.options import to_query

_CONTROL = re.compile(r"[\x00-\x20\x7f]")
# Servers that are not Amazon's, and Amazon long ago, allow more than DNS does.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_EXPRESS = "--x-s3"

_FORM = "write s3://BUCKET/PREFIX/"


@dataclass(frozen=True, slots=True)
class Place:
    """A source taken apart."""

    bucket: str
    prefix: str
    """Decoded, without a slash at either end; ``""``: the whole bucket."""
    folder: bool
    """It is written as a folder; else it may be one file as well."""


def canonical(source: str) -> str:
    """Normalise an s3 source.

    Raises:
        UsageError: one line with the cause and what to do about it.
    """
    rest = source[len("s3://") :]
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        # Not shown: it may be a secret key.
        raise UsageError("s3://…@…: a source holds no keys; put them into ~/.aws/credentials")
    if not source.startswith("s3://") or not authority:
        raise UsageError(f"{source}: there is no bucket; {_FORM}")
    if authority.startswith("arn:"):
        raise UsageError(f"{source}: an ARN is no bucket; write the alias of the access point in its place")
    if ":" in authority:
        raise UsageError(f"{source}: a bucket has no port; {_FORM}?endpoint=URL for another server")
    if _CONTROL.search(source):
        raise UsageError(f"{source!a}: a URL has no spaces or control characters; write a space as %20")
    if "#" in source:
        raise UsageError(f"{source}: a '#' ends a URL; write it as %23 where it is part of a name")
    if not _BUCKET.fullmatch(authority) or ".." in authority:
        raise UsageError(f"{source}: {authority!a} is no name of a bucket; {_FORM}")
    if authority.endswith(_EXPRESS):
        raise UsageError(f"{source}: directory buckets (S3 Express) are not supported; copy it to another")
    names = path.strip("/")
    if not slash or not names:
        return f"s3://{authority}/"
    try:
        quoted = "/".join(to_url(decode(segment)) for segment in names.split("/"))
    except BadNameError as exc:
        raise UsageError(f"{source}: the prefix has a name that cannot be used ({exc}); correct it") from exc
    return f"s3://{authority}/{quoted}" + ("/" if path.endswith("/") else "")


def place(url: str) -> Place:
    """Take a canonical source without a query apart."""
    bucket, _, path = url[len("s3://") :].partition("/")
    return Place(bucket, unquote(path.rstrip("/")), folder=not path or path.endswith("/"))


def named(url: str, endpoint: str | None) -> str:
    """Return the source that names what is cached: two endpoints are two trees."""
    return url if endpoint is None else url + to_query({"endpoint": endpoint})
