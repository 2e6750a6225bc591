"""The environment of a user with keys, and servers that are started once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from mirror.remotes import How, open_remote
from mirror.remotes.s3.remote import S3Remote
from tests.support import s3_servers
from tests.support.servers import Server

Opener = Callable[..., S3Remote]


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment, nothing of whoever runs the tests, and no question to a cloud."""
    for variable in s3_servers.UNSET:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in s3_servers.ENV.items():
        monkeypatch.setenv(variable, value)


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    """One moto for all tests; each has buckets of its own."""
    with s3_servers.moto() as server:
        yield server


@pytest.fixture
async def opened() -> AsyncIterator[Opener]:
    """Open sources, all closed at the end."""
    async with AsyncExitStack() as stack:

        def opener(source: str, **how: float) -> S3Remote:
            remote = open_remote(source, How(**how))  # type: ignore[arg-type]
            assert isinstance(remote, S3Remote)
            stack.push_async_callback(remote.aclose)
            return remote

        yield opener
