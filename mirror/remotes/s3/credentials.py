"""Credentials by botocore's chain: environment, profiles, SSO, web identity, container, instance.

Finding them reads files and may ask servers, so it happens in threads, for all requests at once. What
expires is fetched anew some minutes before (botocore decides when). What an origin refuses is looked up
once more from the beginning: a file may hold new ones since. Many requests that are refused together wait for
one such look, and one that brought nothing new is not repeated for a while.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import botocore.exceptions as failures
import trio
from botocore.credentials import RefreshableCredentials

from mirror.errors import AccessDenied, MirrorError, SetupError, Stalled, Transient
from mirror.flight import SingleFlight
from mirror.remotes.options import Options
from mirror.remotes.s3 import aws

log = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE = 30.0
"""Seconds between two refreshes ahead of time, and after a look for other credentials that found none."""

_LOGIN = (
    failures.SSOError,
    failures.SSOTokenLoadError,
    failures.UnauthorizedSSOTokenError,
    failures.TokenRetrievalError,
    failures.LoginError,
)
_NETWORK = (failures.HTTPClientError, failures.ConnectionError, failures.MetadataRetrievalError)


@dataclass(frozen=True, slots=True)
class Held:
    """Credentials of one moment, and the number of the moment."""

    frozen: Any
    """botocore's: access key, secret key, token."""
    serial: int

    def __repr__(self) -> str:
        return f"Held({self.serial})"


class Chain:
    """The credentials for one source."""

    def __init__(self, options: Options, *, deadline: float) -> None:
        """Look nowhere yet; ``deadline``: seconds that a look may take."""
        self._options = options
        self._deadline = deadline
        self._source: Any = None
        self._held: Held | None = None
        self._refresh_from = self._renew_from = 0.0
        self._flight: SingleFlight[None, None] = SingleFlight()

    @property
    def serial(self) -> int:
        """Of the credentials that are shown now; 0: none yet."""
        return 0 if self._held is None else self._held.serial

    async def current(self) -> Held:
        """Return credentials to show.

        Raises:
            AccessDenied: there are none, or whoever gives them out refuses.
            SetupError: they are there but cannot be used.
            Transient, Stalled: whoever gives them out does not answer now.
        """
        held = self._held
        if held is None:
            await self._flight.run(None, self._find)
        elif self._due():
            await self._flight.run(None, self._refresh)
        assert self._held is not None, "each of these either finds some or raises"
        return self._held

    async def renew(self, refused: int) -> bool:
        """Look for others after an origin refused those of a serial; whether there are some now.

        Raises as `current` does.
        """
        if self.serial == refused and trio.current_time() >= self._renew_from:
            await self._flight.run(None, self._find_others)
        return self.serial != refused

    def _due(self) -> bool:
        """Whether what is held expires soon, and fresh ones are to be had."""
        source = self._source
        if not isinstance(source, RefreshableCredentials) or not source.refresh_needed():
            return False
        return trio.current_time() >= self._refresh_from or source.refresh_needed(0)

    async def _find(self) -> None:
        self._source, frozen = await self._in_thread(partial(_found, self._options))
        self._hold(frozen)

    async def _find_others(self) -> None:
        before = self.serial
        try:
            await self._find()
        finally:
            if self.serial == before:
                self._renew_from = trio.current_time() + PAUSE

    async def _refresh(self) -> None:
        # Some never last as long as botocore wants them to: without a pause each request would fetch others.
        self._refresh_from = trio.current_time() + PAUSE
        try:
            self._hold(await self._in_thread(self._source.get_frozen_credentials))
        except MirrorError as exc:
            if self._source.refresh_needed(0):
                raise
            log.warning("new credentials for S3 cannot be had yet: %s", exc)

    def _hold(self, frozen: Any) -> None:
        if self._held is None or self._held.frozen != frozen:
            self._held = Held(frozen, self.serial + 1)

    async def _in_thread(self, look: Callable[[], T]) -> T:
        try:
            with trio.fail_after(self._deadline):
                # Left alone when nobody waits any more: it may hang on a server for a minute.
                return await trio.to_thread.run_sync(look, abandon_on_cancel=True)
        except trio.TooSlowError as exc:
            raise Stalled(f"no credentials for S3 within {self._deadline:g} s") from exc
        except (failures.BotoCoreError, failures.ClientError) as exc:
            raise _translated(exc) from exc


def _found(options: Options) -> tuple[Any, Any]:
    """Go through the chain. Blocks; raises botocore's errors, and `MirrorError`."""
    with aws.translating():
        source = aws.session(options).get_credentials()
        if source is None:
            raise AccessDenied(
                "there are no credentials for S3: run 'aws configure', set AWS_PROFILE, or AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY, or add ?anonymous=true to the source when the bucket is public"
            )
        return source, source.get_frozen_credentials()


def _translated(exc: Exception) -> MirrorError:
    said = " ".join(str(exc).split())[:300]
    if isinstance(exc, _LOGIN):
        return AccessDenied(f"no credentials for S3: {said}; run 'aws sso login'")
    if isinstance(exc, failures.PartialCredentialsError | failures.InvalidConfigError):
        return SetupError(f"the credentials for S3 are not complete: {said}")
    if isinstance(exc, _NETWORK):
        return Transient(f"whoever gives out credentials for S3 does not answer: {said}")
    return AccessDenied(f"no credentials for S3: {said}")
