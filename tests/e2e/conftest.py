"""An origin for each test: a folder, and nginx over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, nginx


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the origin serves; empty at first."""
    path = tmp_path / "origin"
    path.mkdir()
    return path


@pytest.fixture
def origin(folder: Path) -> Iterator[Server]:
    """Serve `folder` with nginx, which states sizes and whole seconds."""
    with nginx(folder, autoindex="json") as server:
        yield server


@pytest.fixture
def slow_origin(folder: Path) -> Iterator[Server]:
    """The same at 2 MiB a second and connection, so that a test can look at a fill under way."""
    with nginx(folder, autoindex="json", rate="2m") as server:
        yield server
