"""What holds for every test: mounts left by a killed run are removed before the first one starts."""

from __future__ import annotations

import pytest

from tests.support.mounts import detach_stale


@pytest.fixture(scope="session", autouse=True)
def _no_stale_mounts() -> None:
    detach_stale()
