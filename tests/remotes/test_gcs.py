"""Google Cloud Storage: the contract, against two emulators of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mirror.errors import ProtocolError
from mirror.remotes import How, open_remote
from mirror.remotes.base import Remote
from tests.remotes.contract import RemoteContract, read
from tests.support.gcs import Bucket, fake_gcs, gcp_emulator


@pytest.fixture(scope="class")
def bucket(request: pytest.FixtureRequest, root: Path) -> Iterator[Bucket]:
    """The class's bucket, started and filled once for all of its tests."""
    with request.cls.start(root) as bucket:
        yield bucket


class GcsContract(RemoteContract):
    """What holds for both."""

    start: ClassVar[Any]
    """``(root) -> AbstractContextManager[Bucket]``, one of `tests.support.gcs`."""

    keeps_times = False
    keeps_empty_folders = False
    parts_state_times = False
    foreign = "generation:7"

    @pytest.fixture
    async def remote(self, bucket: Bucket) -> AsyncIterator[Remote]:
        remote = open_remote(bucket.source(), How(deadline=20.0))
        yield remote
        await remote.aclose()


class TestFakeGcs(GcsContract):
    start = staticmethod(fake_gcs)


class TestGcpEmulator(GcsContract):
    """It does not say of which generation an answer is."""

    start = staticmethod(gcp_emulator)
