"""A folder with every kind of name that a web server has to write into a page."""

from __future__ import annotations

import os
from pathlib import Path

LONG_AGO = 1_700_000_000
"""Apache gives files of the last second weak ETags; these are old."""

SUMMER = 1_690_000_000

NAMES = (
    "plain.bin",
    "two words.txt",
    " lead and trail ",
    "100%.txt",
    "%41.txt",
    "%2e%2e",
    "hash#tag",
    "question?.txt",
    "?C=N;O=D",
    "plus+and&amp;",
    "semi;colon,comma",
    "a:b",
    "http:",
    "quote\"s and 'apostrophes'",
    "<b>bold<b>",
    "back\\slash",
    "tab\there",
    "line\nbreak",
    "\x01\x1f\x7f",
    ".hidden",
    "...",
    "~tilde@",
    "caf\u00e9 \u65e5\u672c\u8a9e \U0001f40d",
    "combining e\u0301",
    "x" * 60,
    "y" * 255,
    "\u00fc" * 127,
    "Index of",
)


def build(root: Path) -> Path:
    """Fill ``root``: a file of each name, of a size of its own, and folders of some of the names."""
    for number, name in enumerate(NAMES):
        _write(root / name, bytes([number % 251]) * (number * 997))
    for name in ("folder", "two words", "50% <b>&#;?+", "empty"):
        (root / name).mkdir()
    _write(root / "50% <b>&#;?+" / "inner #1.bin", b"inner")
    _write(root / "folder" / "deep.bin", bytes(range(256)) * 1000)
    _write(root / "folder" / "none.bin", b"")
    return root


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    when = LONG_AGO if len(content) % 2 else SUMMER
    os.utime(path, (when, when))
