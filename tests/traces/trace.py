"""The format of a trace: gzip of text; README.md describes it."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
SUFFIX = ".trace.gz"


@dataclass(frozen=True, slots=True)
class Open:
    """One open of one file."""

    path: str
    """Below the recorded folder."""
    size: int
    """Bytes of the file."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Opens in the order in which the kernel saw them."""

    name: str
    about: Mapping[str, str]
    """What its head says of it."""
    opens: list[Open]

    @property
    def cap(self) -> int:
        """The size of the cache that the trace is about, in bytes."""
        return int(self.about["cap"])

    def share(self, start: str) -> list[int]:
        """The positions of the opens whose path starts so."""
        return [at for at, seen in enumerate(self.opens) if seen.path.startswith(start)]


def names() -> list[str]:
    """The recorded traces."""
    return sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))


def load(name: str) -> Trace:
    """Read one of the recorded traces."""
    about: dict[str, str] = {}
    opens: list[Open] = []
    with gzip.open(FOLDER / f"{name}{SUFFIX}", "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("#"):
                key, _, value = line[1:].partition(":")
                about[key.strip()] = value.strip()
            else:
                size, _, path = line.rstrip("\n").partition(" ")
                opens.append(Open(path, int(size)))
    return Trace(name, about, opens)


def save(path: Path, about: Mapping[str, str], opens: Iterable[Open]) -> None:
    """Write a trace; the same opens give the same bytes."""
    text = "".join(f"# {key}: {value}\n" for key, value in about.items())
    text += "".join(f"{seen.size} {seen.path}\n" for seen in opens)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
