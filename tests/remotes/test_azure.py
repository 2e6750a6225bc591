"""Azure Blob Storage: the contract against Azurite, and what is special about blobs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mirror.remotes import How, open_remote
from mirror.remotes.base import Remote
from tests.remotes.contract import RemoteContract
from tests.remotes.tree import NAMES
from tests.support.azure import Container, azurite

IMPOSSIBLE = frozenset(name for name in NAMES if re.search(r"[\x00-\x1f\x7f\\]", name))
"""Azurite lists nothing at all where a name has characters that XML cannot hold; a backslash is a slash."""


@pytest.fixture(scope="module")
def container(root: Path) -> Iterator[Container]:
    """A container with the tree of all remotes."""
    with azurite(root, without=sorted(IMPOSSIBLE)) as container:
        yield container


class TestAzurite(RemoteContract):
    unlisted = IMPOSSIBLE
    keeps_times = False
    keeps_empty_folders = False

    @pytest.fixture
    async def remote(self, container: Container) -> AsyncIterator[Remote]:
        remote = open_remote(container.source(), How(deadline=20.0))
        yield remote
        await remote.aclose()
