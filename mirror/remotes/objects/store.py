"""The few questions that a kind of object store is asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from mirror.http.begun import Begun
from mirror.http.files import AskedFile, Opening
from mirror.remotes.base import Entry, Part
from mirror.remotes.objects.keys import Keys


class Store(Protocol):
    """One bucket or container. Errors are those of `mirror.remotes.base.Remote`."""

    async def page(
        self, prefix: str, *, folder: bool, cursor: str | None = None, after: str | None = None, most: int = 0
    ) -> Keys:
        """List objects whose names begin with ``prefix``, in the order of their names.

        Args:
            prefix: ``""``: all of them.
            folder: only up to the next slash: what lies deeper shows as prefixes.
            cursor: of the page to go on behind.
            after: a `scan_cursor` instead, which may be old.
            most: objects and prefixes on the page; 0: as many as the store gives.

        Raises:
            OriginFailed: there is no such bucket; nothing else says that nothing is there.
        """

    def scan_cursor(self, page: Keys) -> str | None:
        """Return what goes on behind a page, in another process too, even long after; None: its end."""

    async def head(self, key: str, name: str) -> Entry:
        """Ask for one object. Raises `NotFound`, and `IsAFolder` when it stands for one."""

    def open(
        self,
        key: str,
        name: str,
        start: int,
        stop: int | None,
        validator: str | None,
        begun: Begun | None = None,
    ) -> AbstractAsyncContextManager[Part]:
        """Request bytes of an object; raises as `head`, and `VersionChanged`.

        ``begun``: the request, where `begin` has sent it already.
        """

    async def begin(
        self, key: str, name: str, validator: str | None, told: Callable[[AskedFile], None], opening: Opening
    ) -> AskedFile | None:
        """Request all of an object with nobody waiting. See `mirror.http.files.Files.begin`."""
