"""What the environment and AWS's own files say of a source, as botocore reads them. Nothing is sent.

An option of ours goes before AWS's variables, and those before the profile.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import botocore.exceptions
from botocore.session import Session

from mirror.errors import SetupError
from mirror.remotes.options import Options
from mirror.remotes.s3.endpoints import AMAZON
from mirror.remotes.s3.options import checked_endpoint, checked_region

# At DEBUG botocore logs what it signs, the session token in it, and answers that hold secret keys.
logging.getLogger("botocore").setLevel(logging.WARNING)

_IGNORE = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls")


@contextmanager
def translating() -> Iterator[None]:
    """Raise what botocore makes of AWS's files as a `SetupError`."""
    try:
        yield
    except botocore.exceptions.ProfileNotFound as exc:
        raise SetupError(f"{exc}; correct AWS_PROFILE or the option 'profile'") from exc
    except botocore.exceptions.ConfigParseError as exc:
        raise SetupError(f"{exc}; correct it") from exc
    except botocore.exceptions.ConfigNotFound as exc:
        raise SetupError(f"{exc}; correct AWS_CONFIG_FILE or unset it") from exc


def session(options: Options) -> Session:
    """Return botocore's view of this machine for a source. Files are read when it is asked."""
    return Session(profile=options.get("profile"))


def endpoint(options: Options) -> str | None:
    """Return the endpoint in its one spelling; None: Amazon's own.

    Raises:
        UsageError: it is malformed.
        SetupError: AWS's files cannot be read.
    """
    if (own := options.get("endpoint")) is not None:
        return checked_endpoint(own, "endpoint")
    if os.environ.get(_IGNORE[0], "").lower() == "true":
        return None
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if value := os.environ.get(variable):
            return checked_endpoint(value, variable)
    with translating():
        found = session(options)
        scoped: Mapping[str, object] = found.get_scoped_config()
        if str(scoped.get(_IGNORE[1], "")).lower() == "true":
            return None
        services = found.full_config.get("services", {}).get(scoped.get("services"), {})
        url = services.get("s3", {}).get("endpoint_url") or scoped.get("endpoint_url")
    return checked_endpoint(str(url), "endpoint_url in AWS's config file") if url else None


def region(options: Options) -> str:
    """Return the region to ask first.

    Raises:
        UsageError: it is malformed.
        SetupError: AWS's files cannot be read.
    """
    if (own := options.get("region")) is not None:
        return checked_region(own, "region")
    if value := os.environ.get("AWS_REGION"):
        return checked_region(value, "AWS_REGION")
    with translating():
        value = session(options).get_config_variable("region")
    return checked_region(str(value), "AWS_DEFAULT_REGION or the profile's region") if value else AMAZON


def suffix(region: str) -> str:
    """Return the end of Amazon's host names in a region: ``amazonaws.com``, or what other partitions have."""
    for partition in Session().get_data("partitions")["partitions"]:
        if region in partition["regions"] or re.match(partition["regionRegex"], region):
            return str(partition["outputs"]["dnsSuffix"])
    return "amazonaws.com"
