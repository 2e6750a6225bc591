"""Buckets of Amazon S3, and of whatever else speaks its protocol.

url          what a source string means, and what is cached under it
options      what can be set for a source
aws          what the environment and AWS's own files say, as botocore reads them
endpoints    where requests go: host, path, region
credentials  botocore's chain, in threads; fresh ones once for all who were refused
signing      the headers that show them
errors       what an answer says that is no success, in words a user can act on
listing      pages of ListObjectsV2
folders      keys as folders and files
scanning     all keys below a folder, page by page
bucket       one bucket: where it is, learnt as it is asked
remote       the protocol of `mirror.remotes.base`, over these
"""

from __future__ import annotations

from mirror.errors import SetupError
from mirror.remotes.base import Remote
from mirror.remotes.how import How
from mirror.remotes.options import Options
from mirror.remotes.s3.options import OPTIONS
from mirror.remotes.s3.url import canonical, named

__all__ = ["OPTIONS", "canonical", "key", "open_remote"]

_MISSING = "s3: sources need botocore, which is not installed: pip install 'mirrorfs[s3]'"


def key(url: str, options: Options) -> str:
    """Return the source under which everything is cached.

    An endpoint makes it another tree, wherever it is set; all else only says how to get there.
    """
    try:
        from mirror.remotes.s3.aws import endpoint  # noqa: PLC0415 - botocore is an extra
    except ModuleNotFoundError as exc:
        raise SetupError(_MISSING) from exc
    return named(url, endpoint(options))


def open_remote(url: str, how: How) -> Remote:
    """Make the remote of a canonical source. See `mirror.remotes.open_remote`.

    Raises:
        SetupError: botocore is not installed, or AWS's files cannot be read.
    """
    try:
        from mirror.remotes.s3.remote import S3Remote  # noqa: PLC0415 - botocore is an extra
    except ModuleNotFoundError as exc:
        raise SetupError(_MISSING) from exc
    return S3Remote(url, how)
