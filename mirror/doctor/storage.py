"""The folder that would hold the cache: its file system, and how deep that is stacked."""

from __future__ import annotations

from pathlib import Path

from cache import CacheUnusable, check_folder
from mirror.doctor.finding import Finding, Verdict

STACKED = frozenset({"overlay", "ecryptfs"})
"""File systems on top of another: their files register only at the largest depth, 2."""
IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def cache_folder(folder: Path, problem: str | None) -> Finding:
    """Judge what the cache itself says about the folder; None: it may be used."""
    if problem is None:
        return Finding("cache", Verdict.OK, f"{folder} may be used")
    return Finding("cache", Verdict.FAIL, problem, "name another folder with --cache DIR")


def problem_of(folder: Path) -> str | None:
    """Why the folder cannot hold a cache."""
    try:
        check_folder(folder)
    except CacheUnusable as error:
        return str(error)
    return None


def file_system(kind: str | None) -> Finding:
    """Judge the type of the cache's file system; which cannot hold a cache at all, `cache_folder` tells."""
    check = "cache file system"
    if kind is None:
        return Finding(check, Verdict.OK, "unknown: /proc/self/mountinfo does not name it")
    if kind in STACKED:
        return Finding(
            check,
            Verdict.OK,
            f"{kind}: files register at stacking depth 2, so nothing can be stacked over the mount",
            "put the cache on a volume with a file system of its own, where that matters",
        )
    if kind in IN_MEMORY:
        return Finding(check, Verdict.OK, f"{kind}: what is cached takes memory and goes at the next boot")
    return Finding(check, Verdict.OK, kind)


def file_system_of(folder: Path, mountinfo: str) -> str | None:
    """The type of the file system at ``folder``, by the text of ``/proc/self/mountinfo``.

    The deepest mount point above the folder counts, and of several mounts on one point the last.
    """
    best: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split()
        if not dash or len(fields) < 5:
            continue
        point = Path(_unescaped(fields[4]))
        if folder.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), after.split()[0])
    return None if best is None else best[1]


def _unescaped(field: str) -> str:
    r"""Undo the kernel's octal escapes (``\040`` for a space)."""
    for code in (" ", "\t", "\n", "#", "\\"):
        field = field.replace(f"\\{ord(code):03o}", code)
    return field


def nearest_folder(folder: Path) -> Path:
    """The folder itself, or the nearest above it that exists: it will be on the same file system."""
    return next((path for path in (folder, *folder.parents) if path.is_dir()), Path("/"))
