"""What Azure says in its answers: of versions, of folders, of failures.

Azure stores what it is given and serves it so; ``Content-Encoding`` is a remark of whoever stored it. A
failure has its code in a header.
"""

from __future__ import annotations

import httpx

from cache.digests import Digest
from mirror.errors import AccessDenied, IsAFolder, MirrorError, OriginFailed, Transient, VersionChanged
from mirror.http import answers
from mirror.http.auth import Headers
from mirror.http.exchange import Answer
from mirror.http.files import Dialect
from mirror.http.promises import promised

_HINTS = {
    "AuthenticationFailed": "the credentials are not taken: a key or SAS token that is wrong or has expired, "
    "or a clock that is off by more than 15 minutes",
    "AuthorizationPermissionMismatch": "these credentials may not read it; they need the role "
    "Storage Blob Data Reader, or a SAS token with the permissions r and l",
    "AuthorizationFailure": "the account refuses it, by its firewall or for want of credentials; set them, "
    "or ask from a network that it allows",
    "KeyBasedAuthenticationNotPermitted": "the account takes no keys; unset AZURE_STORAGE_KEY and 'az login'",
    "AccountIsDisabled": "the account is disabled",
}
_AGAIN = ("ServerBusy", "OperationTimedOut", "InternalError", "IngressOverAccountLimit")


def code(headers: httpx.Headers) -> str:
    """Return the code of a failure, or ``""``."""
    return str(headers.get("x-ms-error-code", ""))


class AzureDialect(Dialect):
    """What a container's answers say."""

    def __init__(self, container: str, *, anonymous: bool) -> None:
        """``container``: as in a source; ``anonymous``: no credentials are shown."""
        self._container = container
        self._anonymous = anonymous

    def headers(self, answer: Answer) -> httpx.Headers:
        """Return the headers of a file; a blob that stands for a folder is none. Raises `IsAFolder`."""
        headers = answer.head.headers
        folder = headers.get("x-ms-meta-hdi_isfolder", "").lower() == "true"
        if folder or headers.get("x-ms-resource-type") == "directory":
            raise IsAFolder(f"{answer.where} is a folder")
        return headers

    def condition(self, validator: str, *, ranged: bool) -> Headers:
        """Ask for one version. Azure knows If-Match."""
        del ranged
        return super().condition(validator, ranged=False)

    def refuse_coded(self, headers: httpx.Headers, where: object) -> None:
        """There is nothing to refuse: what comes is what is stored."""

    def digest(self, status: int, headers: httpx.Headers, where: object) -> Digest | None:
        """Return what is promised, of what is stored."""
        if "content-encoding" in headers:
            headers = httpx.Headers([pair for pair in headers.raw if pair[0].lower() != b"content-encoding"])
        return promised(status, headers, where)

    async def failure(self, answer: Answer, *, conditional: bool) -> MirrorError:
        """Return the error that an answer stands for, with what to do about it."""
        status, said = answer.head.status_code, code(answer.head.headers)
        if said in ("BlobArchived", "BlobBeingRehydrated"):
            return OriginFailed(
                f"{answer.where} is in the archive tier"
                + (
                    "; rehydrate it: az storage blob set-tier --tier Hot"
                    if said == "BlobArchived"
                    else ", and being rehydrated; try again when that is done"
                )
            )
        if said in ("ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"):
            return self.no_container()
        if self._anonymous and (
            status in (401, 403) or said in ("ResourceNotFound", "PublicAccessNotPermitted")
        ):
            # The second is said of all that is not public, whether it is there or not.
            return AccessDenied(f"{self._container}: it is not public, or not there; {_SHOW}")
        if status in (401, 403, 409) and said in _HINTS:
            return AccessDenied(f"{self._container}: the server answered {status} ({said}): {_HINTS[said]}")
        if status in (401, 403):
            return AccessDenied(
                f"{self._container}: the server answered {status}: these credentials may not read it"
            )
        if said in _AGAIN:
            after = answers.retry_after(answer.head.headers.get("retry-after"))
            return Transient(f"{answer.where}: the server answered {status} ({said})", after)
        if status == 404 and conditional and said in ("InvalidVersion", "VersionNotFound"):
            return VersionChanged(f"{answer.where}: it holds another version now")
        return answers.failure(answer.head, answer.where, conditional=conditional)

    def no_container(self) -> OriginFailed:
        """Return what is said where there is none: not that the files in it are gone."""
        return OriginFailed(f"{self._container}: there is no such container; correct its name")


_SHOW = "leave out anonymous=true to show credentials"
