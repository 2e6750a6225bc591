"""What this process may do: mount, and register backing files."""

from __future__ import annotations

import os
from pathlib import Path

from mirror.doctor.finding import Finding, Verdict

CAP_SYS_ADMIN = 21
"""Number of the capability that mount(2) and the registration of backing files ask for."""
WHOLE_RANGE = 0xFFFF_FFFF
"""Ids that the initial user namespace maps: all of them, onto themselves."""


def admin(effective: int, *, initial_namespace: bool) -> Finding:
    """Judge the set of effective capabilities, and where it counts."""
    has = bool(effective >> CAP_SYS_ADMIN & 1)
    if has and initial_namespace:
        return Finding("privileges", Verdict.OK, "CAP_SYS_ADMIN in the initial user namespace")
    if has:
        seen = "CAP_SYS_ADMIN counts in this user namespace only: the kernel refuses backing files"
        advice = "mount from the initial user namespace, or from a container started with '--privileged'"
    else:
        seen = "no CAP_SYS_ADMIN: mounts go through fusermount3 and reads through the page cache"
        advice = "run as root for reads at the speed of the disk"
    return Finding("privileges", Verdict.WARN, seen, advice)


def effective_capabilities() -> int:
    """The effective set of this process, as a bit mask."""
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def in_initial_namespace(uid_map: str) -> bool:
    """Whether a ``uid_map`` is that of the initial user namespace: everything maps onto itself."""
    return [line.split() for line in uid_map.splitlines()] == [["0", "0", str(WHOLE_RANGE)]]


def own_uid_map() -> str:
    """The map of this process; a kernel without user namespaces has only the initial one."""
    try:
        return Path("/proc/self/uid_map").read_text("ascii")
    except OSError:
        return f"0 0 {WHOLE_RANGE}"


def container(kind: str | None) -> Finding:
    """Say what a container needs; None: there is none that shows."""
    if kind is None:
        return Finding("container", Verdict.OK, "none seen")
    return Finding(
        "container",
        Verdict.OK,
        f"this is {kind}",
        "a mount shows outside only below a volume with shared propagation (':rshared')",
    )


def container_kind() -> str | None:
    """The kind of container this is, by the marks that engines leave."""
    if Path("/.dockerenv").exists():
        return "a Docker container"
    if Path("/run/.containerenv").exists():
        return "a Podman container"
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "a Kubernetes pod"
    if named := os.environ.get("container"):  # noqa: SIM112  (systemd's own spelling)
        return f"a container ({named})"
    return None
