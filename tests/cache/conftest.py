"""Fixtures of the store's tests; a warning in the log that a test did not ask for fails it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cache import Cache


@pytest.fixture
def expected_warnings() -> list[str]:
    """Beginnings of log messages that are part of what the test shows."""
    return []


@pytest.fixture(autouse=True)
def _no_warnings(caplog: pytest.LogCaptureFixture, expected_warnings: list[str]) -> Iterator[None]:
    with caplog.at_level(logging.INFO, logger="cache"):
        yield
    for record in caplog.get_records("call"):
        if record.levelno >= logging.WARNING and record.name.startswith("cache"):
            message = record.getMessage()
            assert any(message.startswith(start) for start in expected_warnings), message


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the test's cache is."""
    return tmp_path / "cache"


@pytest.fixture
async def cache(home: Path) -> AsyncIterator[Cache]:
    async with Cache.open(home) as opened:
        yield opened
