"""What lies in the folder of a cache, and by which names the files of objects are known."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

INDEX = "index.sqlite"
OBJECTS = "objects"
CLAIMS = "claims"
TURNS = "turns"

_FOLDER = re.compile(r"[0-9a-f]{2}", re.ASCII)
_FILE = re.compile(r"([0-9a-f]{40})(\.part)?", re.ASCII)


def key_of(folder: str, name: str) -> bytes | None:
    """The key of an object by the names of its folder and file; None: this is none of ours."""
    match = _FILE.fullmatch(name)
    return bytes.fromhex(match[1]) if match is not None and name[:2] == folder else None


def object_folders(cache: Path) -> list[os.DirEntry[str]]:
    """The folders of objects that are there, in order; at most 256. Raises OSError."""
    try:
        with os.scandir(cache / OBJECTS) as entries:
            found = [entry for entry in entries if is_object_folder(entry)]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda entry: entry.name)


def is_object_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of the folder of all objects may have objects in it."""
    return _FOLDER.fullmatch(entry.name) is not None and entry.is_dir(follow_symlinks=False)


def has_objects(cache: Path) -> bool:
    """Whether there is any file of an object, complete or not. Raises OSError."""
    return next(_objects(cache), None) is not None


def _objects(cache: Path) -> Iterator[str]:
    for folder in object_folders(cache):
        with os.scandir(folder.path) as entries:
            for entry in entries:
                if key_of(folder.name, entry.name) is not None:
                    yield entry.name
