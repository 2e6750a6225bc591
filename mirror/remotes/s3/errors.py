"""What an S3 answer says that is no success: the code in its body becomes a leaf of `mirror.errors`.

The body is XML with a code, a message and, at times, the region where the bucket is. Answers to HEAD have
none, so what such a refusal means is not known before the same is asked by GET (`Unexplained`).
Two failures can be mended by whoever asks (`bucket`): another region, and credentials that have expired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import httpx

from mirror.errors import (
    AccessDenied,
    MirrorError,
    NotFound,
    OriginFailed,
    ProtocolError,
    SetupError,
    Transient,
    VersionChanged,
)
from mirror.http import answers
from mirror.http.auth import Headers
from mirror.http.exchange import REDIRECTS, Answer
from mirror.http.files import ANY, Dialect
from mirror.http.parts import read_whole
from mirror.remotes.s3.listing import Said, said
from mirror.remotes.s3.options import REGION

MAX_BODY = 256 * 1024
"""Most bytes of an error's body: a few hundred, as a rule."""

CHECKSUM: Headers = [*ANY, (b"x-amz-checksum-mode", b"ENABLED")]
"""What a question for a whole file says: an answer to a part has no checksum of the file."""

PAYER: Headers = [(b"x-amz-request-payer", b"requester")]


class WrongRegion(OriginFailed):
    """The bucket is in another region."""

    def __init__(self, message: str, region: str) -> None:
        super().__init__(message)
        self.region = region


class StaleCredentials(AccessDenied):
    """These credentials are refused, whatever they ask for: others may do."""


class Unexplained(AccessDenied):
    """A refusal without a word."""


_STALE = {
    "ExpiredToken": "the session token has expired; get another, as by 'aws sso login'",
    "ExpiredTokenException": "the session token has expired; get another, as by 'aws sso login'",
    "TokenRefreshRequired": "the session token has expired; get another, as by 'aws sso login'",
    "InvalidToken": "the session token is none of this server's; correct AWS_SESSION_TOKEN or the profile",
    "InvalidAccessKeyId": "the server does not know the access key; correct it, the profile or the endpoint",
    "SignatureDoesNotMatch": "the secret key is not the one of this access key; correct it",
}
_REGION = frozenset(
    (
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "IncorrectEndpoint",
        "PermanentRedirect",
        "TemporaryRedirect",
        "301",
    )
)
_SKEW = frozenset(("RequestTimeTooSkewed", "RequestExpired"))
_LATER = frozenset(("SlowDown", "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable"))

_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")
_LONG = re.compile(r"\S{128,}")


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked, for messages."""

    bucket: str
    region: str
    anonymous: bool
    pays: bool


class S3(Dialect):
    """The dialect of one bucket in one region."""

    def __init__(self, asked: Asked, *, deadline: float) -> None:
        self._asked = asked
        self._deadline = deadline
        more = PAYER if asked.pays else []
        self.plain: Headers = [*ANY, *more]
        """What every question says."""
        self._whole: Headers = [*CHECKSUM, *more]

    def question(self, *, ranged: bool) -> Headers:
        """Return what every question for a file says."""
        return self.plain if ranged else self._whole

    def is_part(self, response: httpx.Response) -> bool:
        """Whether an answer to a question for a range has that range; rclone says 200 to all of them."""
        return response.status_code == 206 or "content-range" in response.headers

    async def failure(self, answer: Answer, *, conditional: bool) -> MirrorError:
        """Return the error that an answer stands for. Reads its body."""
        status, headers = answer.head.status_code, answer.head.headers
        if status in (412, 416, 304) and conditional:
            return answers.failure(answer.head, answer.where, conditional=True)
        try:
            body = await read_whole(answer.head, answer.where, self._deadline, MAX_BODY)
        except ProtocolError:
            body = b""  # no error of S3: somebody's web page
        found = said(body) or Said("", "")
        known = _CODE.fullmatch(found.code) is not None
        region = found.region or headers.get("x-amz-bucket-region", "")
        if status in REDIRECTS and not known and "location" in headers and not region:
            return self._redirect(answer)
        if not body and (status in (400, 403) or (status in REDIRECTS and not region)):
            return Unexplained(f"{answer.where}: the server answered {status} and does not say why")
        if status == 405 and headers.get("x-amz-delete-marker") == "true":
            return NotFound(f"{answer.where}: it was deleted")
        error = self.error(found if known else Said("", "", region), answer.where, region, status)
        if error is not None:
            return error
        plain = answers.failure(answer.head, answer.where, conditional=conditional)
        if isinstance(plain, AccessDenied):
            return AccessDenied(f"{answer.where}: {self._refused(found)}")
        if known:
            return type(plain)(f"{plain} ({found.code}{_quoted(found.message)})")
        return plain

    def error(self, found: Said, where: object, region: str = "", status: int = 0) -> MirrorError | None:
        """Return the error that a code stands for; None: the status tells."""
        asked, code = self._asked, found.code
        if code in _STALE:
            return StaleCredentials(f"{where}: {code}: {_STALE[code]}")
        if code in _REGION or (status in REDIRECTS and region):
            if REGION.fullmatch(region) and region != asked.region:
                hint = f"it is in {region}, not in {asked.region}; add ?region={region} to the source"
                return WrongRegion(f"{where}: {hint}", region)
            return OriginFailed(
                f"{where}: the server does not take requests for {asked.region} ({code or status}); "
                "set the region or the endpoint of the bucket"
            )
        if code in _SKEW:
            return SetupError(f"{where}: this machine's clock is not the server's; set the right time")
        if code in _LATER:
            return Transient(f"{where}: the server is busy ({code})")
        if code == "InvalidObjectState":
            kind = (
                found.storage_class if _CODE.fullmatch(found.storage_class.replace("_", "")) else "an archive"
            )
            return AccessDenied(
                f"{where}: it is archived ({kind}): restore it first, as by 'aws s3api restore-object'"
            )
        if code == "NoSuchBucket":
            # Not an absence of what was in it: more likely the name or the endpoint is wrong.
            return OriginFailed(
                f"{where}: there is no bucket {asked.bucket}; check its name and the endpoint"
            )
        if code == "NoSuchVersion":
            return VersionChanged(f"{where}: the version is not there any more")
        if code == "NoSuchKey":
            return NotFound(f"{where}: there is no such key")
        if code in ("AccessDenied", "AllAccessDisabled"):
            return AccessDenied(f"{where}: {self._refused(found)}")
        return None

    def _refused(self, found: Said) -> str:
        said = f"the server refuses access ({found.code or 403}{_quoted(found.message)}); "
        if self._asked.anonymous:
            return f"{said}the bucket is not public: leave out anonymous"
        if self._asked.pays:
            return f"{said}s3:GetObject and s3:ListBucket are needed"
        return (
            f"{said}s3:GetObject and s3:ListBucket are needed, and requester-pays=true where the reader pays"
        )

    @staticmethod
    def _redirect(answer: Answer) -> MirrorError:
        location = answer.head.headers.get("location", "")
        found = re.match(r"https?://[A-Za-z0-9.:\[\]-]{1,255}(?=/|$)", location)
        hint = f"; add ?endpoint={found[0]} to the source if it is right" if found else ""
        return OriginFailed(f"{answer.where}: this is no S3 server, it redirects elsewhere{hint}")


def _quoted(message: str) -> str:
    """What a server says, fit for a line: its own text on our terminal, and no token in it."""
    text = ascii(_LONG.sub("…", " ".join(message.split())))[1:-1]
    return f": {text[:200]}" if text else ""
