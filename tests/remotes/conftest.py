"""One tree on disk for all servers, and remotes that are closed after their test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from mirror.http.exchange import Client
from mirror.http.netrc_file import netrc_auth
from mirror.remotes.http import HttpRemote
from tests.remotes.tree import build

Opener = Callable[..., HttpRemote]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tree"))


@pytest.fixture(autouse=True)
def _own_netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the credentials of whoever runs it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)


@pytest.fixture
async def opened() -> AsyncIterator[Opener]:
    """Open remotes by URL and options, all closed at the end."""
    async with AsyncExitStack() as stack:

        def opener(url: str, *, deadline: float = 30.0, connections: int = 16, **how: Any) -> HttpRemote:
            auth = netrc_auth(httpx.URL(url))
            remote = HttpRemote(url, Client(deadline=deadline, connections=connections, **how), auth)
            stack.push_async_callback(remote.aclose)
            return remote

        yield opener
