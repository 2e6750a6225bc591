"""Whether a folder can be a cache."""

from pathlib import Path


def check_folder(path: Path) -> None:
    """Raise `CacheUnusable` when ``path`` cannot be a cache."""
    raise NotImplementedError
