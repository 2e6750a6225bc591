"""What the two processes may do: the keeper CAP_SYS_ADMIN and nothing else, the worker nothing at all.

By system call, so that no library has to be installed. `CAP_SYS_ADMIN` is what registering a backing
file takes (and mounting, and unmounting); it is kept only where it was there to begin with. Neither
process, nor anything it starts, can ever gain a privilege again (``no_new_privs``).
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from pathlib import Path

CAP_SYS_ADMIN = 21
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def has_sys_admin() -> bool:
    """Whether this process has CAP_SYS_ADMIN in effect."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)
    return False


def keep_only_sys_admin() -> None:
    """Give up every capability but CAP_SYS_ADMIN, also what a later ``exec`` as root would gain.

    Raises OSError.
    """
    kept = 1 << CAP_SYS_ADMIN if has_sys_admin() else 0
    capability = 0
    while (known := _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0)) >= 0:
        # Without CAP_SETPCAP this fails; no_new_privs then keeps `exec` from gaining anything.
        if known and capability != CAP_SYS_ADMIN:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        capability += 1
    _set(kept)


def drop_all() -> None:
    """Give up all capabilities, and end when the keeper ends. For the worker, first of all.

    Raises OSError.
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0))
    _set(0)


def _set(kept: int) -> None:
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    # Two sets of 32 capabilities each: effective, permitted, inheritable.
    sets = struct.pack("=6I", *(part for half in (kept & 0xFFFFFFFF, kept >> 32) for part in (half, half, 0)))
    _check(_libc.capset(ctypes.create_string_buffer(header), ctypes.create_string_buffer(sets)))


def _check(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
