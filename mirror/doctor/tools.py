"""What is installed: libfuse with its Python binding, ``fusermount3`` and its configuration."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

from mirror.doctor.finding import Finding, Verdict

FUSE_CONF = Path("/etc/fuse.conf")
OLDEST_LIBFUSE = (3, 14)


def libfuse(version: str | None) -> Finding:
    """Judge the libfuse that pyfuse3 loads; None: there is none."""
    if version is None:
        return Finding("libfuse", Verdict.FAIL, "libfuse3.so.3 does not load", "apt install libfuse3-3 fuse3")
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if numbers < OLDEST_LIBFUSE:
        return Finding("libfuse", Verdict.FAIL, version, "update it: 3.14 is the oldest that is supported")
    return Finding("libfuse", Verdict.OK, version)


def libfuse_version() -> str | None:
    """What libfuse calls itself."""
    try:
        library = ctypes.CDLL("libfuse3.so.3")
        library.fuse_pkgversion.restype = ctypes.c_char_p
        said = library.fuse_pkgversion()
    except (OSError, AttributeError):
        return None
    return said.decode(errors="replace") if isinstance(said, bytes) else None


def binding(version: str | None, problem: str | None = None) -> Finding:
    """Judge pyfuse3: its version, or why it does not load."""
    if version is not None:
        return Finding("pyfuse3", Verdict.OK, version)
    return Finding(
        "pyfuse3",
        Verdict.FAIL,
        f"does not load: {problem}",
        "install libfuse ('apt install libfuse3-dev pkg-config gcc python3-dev'), "
        "then 'pip install --force-reinstall --no-binary pyfuse3 pyfuse3'",
    )


def load_binding() -> tuple[str | None, str | None]:
    """Load pyfuse3: its version and None, or None and what went wrong."""
    try:
        import pyfuse3  # noqa: PLC0415  (that it may not load is what is asked)
    except ImportError as error:
        return None, str(error)
    return str(pyfuse3.__version__), None


def fusermount(path: str | None, version: str | None, *, needed: bool) -> Finding:
    """Judge ``fusermount3``; ``version`` is that of libfuse, with which it comes."""
    if path is not None:
        return Finding("fusermount3", Verdict.OK, f"{path}, {version or 'of unknown version'}")
    if needed:
        return Finding(
            "fusermount3",
            Verdict.FAIL,
            "is not there, and without root it makes the mount",
            "apt install fuse3",
        )
    return Finding("fusermount3", Verdict.OK, "is not there; root does not need it")


def fusermount_version(path: str | None) -> str | None:
    """What ``fusermount3 --version`` calls itself."""
    if path is None:
        return None
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() or None


def find_fusermount() -> str | None:
    """Where ``fusermount3`` is."""
    return shutil.which("fusermount3")


def allow_other(conf: str, *, root: bool) -> Finding:
    """Judge whether ``-o allow_other`` will work, by the text of ``/etc/fuse.conf``."""
    words = {line.strip() for line in conf.splitlines()}
    if root or "user_allow_other" in words:
        return Finding("allow_other", Verdict.OK, "may be used")
    return Finding(
        "allow_other",
        Verdict.OK,
        f"may not be used: {FUSE_CONF} has no line 'user_allow_other'",
        "to share mounts with other users, have root add that line",
    )


def read_fuse_conf() -> str:
    """The text of ``/etc/fuse.conf``; none is the same as an empty one."""
    try:
        return FUSE_CONF.read_text("utf-8", "replace")
    except OSError:
        return ""
