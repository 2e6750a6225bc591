"""All the checks in the order a reader wants them: what mounts need, then what makes them fast."""

from __future__ import annotations

import os
from pathlib import Path

from mirror.doctor import interpreter, kernel, limits, privileges, probe, storage, tools
from mirror.doctor.finding import Finding
from mirror.runtime import all_mounts


def examine(cache: Path) -> list[Finding]:
    """Look at this machine, and at the folder that would hold the cache."""
    root = os.geteuid() == 0
    release = os.uname().release
    capabilities = privileges.effective_capabilities()
    initial = privileges.in_initial_namespace(privileges.own_uid_map())
    fusermount = tools.find_fusermount()
    version, options, distribution = interpreter.running()
    device_error = kernel.open_device()
    place = storage.nearest_folder(cache)
    problem = storage.problem_of(cache)
    return [
        kernel.version(release),
        kernel.passthrough(kernel.configuration(release), release),
        kernel.device(device_error),
        privileges.admin(capabilities, initial_namespace=initial),
        privileges.container(privileges.container_kind()),
        interpreter.python(version, options, distribution=distribution),
        tools.binding(*tools.load_binding()),
        tools.libfuse(tools.libfuse_version()),
        tools.fusermount(fusermount, tools.fusermount_version(fusermount), needed=not root),
        tools.allow_other(tools.read_fuse_conf(), root=root),
        storage.cache_folder(cache, problem),
        storage.file_system(storage.file_system_of(place, all_mounts()), fit=problem is None),
        limits.open_files(limits.hard_limit()),
        limits.socket_buffer(limits.read_wmem_max(), root=root and initial),
        _probe(place, able=root and device_error is None, fit=problem is None),
    ]


def _probe(place: Path, *, able: bool, fit: bool) -> Finding:
    if not able:
        return probe.unprobed("that takes root and /dev/fuse")
    if not fit:
        return probe.unprobed("the cache folder cannot be used")
    try:
        return probe.passthrough(probe.register(place))
    except OSError as error:
        return probe.unprobed(error.strerror or str(error))
