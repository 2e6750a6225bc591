"""The kernel: its version, whether it was built with passthrough, and ``/dev/fuse``."""

from __future__ import annotations

import errno
import gzip
import os
import re
from pathlib import Path

from mirror.doctor.finding import Finding, Verdict

PASSTHROUGH_SINCE = (6, 9)
"""The first release with CONFIG_FUSE_PASSTHROUGH."""
RESEND_SINCE = (6, 9)
"""The first release with FUSE_NOTIFY_RESEND, by which a restarted worker gets back what was under way."""


def version(release: str) -> Finding:
    """Judge ``uname -r``."""
    match = re.match(r"(\d+)\.(\d+)", release)
    if match is None:
        return Finding("kernel", Verdict.WARN, f"Linux {release}, a version this does not understand")
    if (int(match[1]), int(match[2])) >= PASSTHROUGH_SINCE:
        return Finding("kernel", Verdict.OK, f"Linux {release}")
    since = ".".join(map(str, PASSTHROUGH_SINCE))
    return Finding(
        "kernel",
        Verdict.WARN,
        f"Linux {release} is older than {since}: every read goes through the daemon and the page cache",
        f"boot Linux {since} or newer for reads at the speed of the disk",
    )


def passthrough(config: str | None, release: str) -> Finding:
    """Judge the text of the kernel's configuration; None: there is none to read."""
    check = "CONFIG_FUSE_PASSTHROUGH"
    if config is None:
        return Finding(
            check,
            Verdict.OK,
            f"unknown: neither /proc/config.gz nor /boot/config-{release} can be read",
            "the check 'passthrough' tells, as root; else 'mirror status' on a mount",
        )
    if re.search(r"^CONFIG_FUSE_PASSTHROUGH=y$", config, re.MULTILINE):
        return Finding(check, Verdict.OK, "built in")
    return Finding(
        check,
        Verdict.WARN,
        "this kernel was built without it: every read goes through the daemon and the page cache",
        "boot a kernel built with CONFIG_FUSE_PASSTHROUGH=y",
    )


def configuration(release: str) -> str | None:
    """The kernel's configuration, where it tells."""
    for path in (Path("/proc/config.gz"), Path(f"/boot/config-{release}")):
        try:
            data = path.read_bytes()
        except OSError:
            continue
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("ascii", "replace")
    return None


def device(error: int | None) -> Finding:
    """Judge the errno of opening ``/dev/fuse``; None: it opened."""
    if error is None:
        return Finding("/dev/fuse", Verdict.OK, "opens")
    if error == errno.ENOENT:
        return Finding(
            "/dev/fuse",
            Verdict.FAIL,
            "is not there",
            "load the module ('modprobe fuse'); in a container, start it with '--device /dev/fuse'",
        )
    if error in {errno.EACCES, errno.EPERM}:
        return Finding(
            "/dev/fuse",
            Verdict.FAIL,
            f"may not be opened ({os.strerror(error)})",
            "run as root, or have it opened to you ('chmod 666 /dev/fuse', as most systems have it); "
            "in a container, start it with '--device /dev/fuse'",
        )
    if error in {errno.ENODEV, errno.ENXIO}:
        return Finding(
            "/dev/fuse", Verdict.FAIL, "the kernel has no FUSE", "load the module: 'modprobe fuse'"
        )
    return Finding("/dev/fuse", Verdict.FAIL, f"cannot be opened ({os.strerror(error)})", None)


def open_device() -> int | None:
    """Open ``/dev/fuse`` and close it again; the errno, or None."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.errno
    return None
