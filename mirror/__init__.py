"""A caching mirror of remote files, mounted read-only."""

from __future__ import annotations

import sys

# httpx has a command of its own, and loads rich and pygments for it where they are: a tenth of the start and
# 6 MiB of every process that fetches. It does without where that cannot be imported.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
