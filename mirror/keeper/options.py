"""What ``-o`` may say, and what the kernel gets of it.

An option that is not known is refused by name: a misspelt one would otherwise be dropped, or stop the
mount with a bare "Invalid argument". Some are fixed, because passthrough reads are not checked against
the backing file's own mode: ``default_permissions`` always, and ``ro``, ``nosuid``, ``nodev``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mirror.errors import UsageError

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
_MS_NOEXEC = 8
_MS_SYNCHRONOUS = 16
_MS_DIRSYNC = 128
_MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024

_ALWAYS = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME
_FLAGS = {
    "noexec": _MS_NOEXEC,
    "sync": _MS_SYNCHRONOUS,
    "dirsync": _MS_DIRSYNC,
    "nosymfollow": _MS_NOSYMFOLLOW,
    "ro": 0,
    "nosuid": 0,
    "nodev": 0,
    "noatime": 0,
}
_WITHOUT_EFFECT = frozenset(
    # Meant for mount(8) and fstab, or the kernel's default, or what is done anyway.
    {"auto", "noauto", "defaults", "nofail", "_netdev", "user", "users", "nouser", "owner", "group"}
    | {"async", "exec", "atime", "relatime", "norelatime", "strictatime", "diratime", "nodiratime"}
    | {"lazytime", "nolazytime", "silent", "loud", "auto_unmount", "default_permissions"}
)
_REFUSED = {
    "rw": "the mount is read-only",
    "suid": "the mount is always nosuid",
    "dev": "the mount is always nodev",
    "allow_root": "use allow_other: permissions are checked by the kernel",
}
_DATA = frozenset({"allow_other"})
_DATA_VALUES = frozenset({"context", "fscontext", "defcontext", "rootcontext"})


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """What mount(2) is told, apart from the connection itself."""

    flags: int = _ALWAYS
    data: tuple[str, ...] = ("default_permissions",)
    name: str | None = None
    """What to show as the mounted device instead of the source."""
    max_read: int | None = None
    """Bytes of the largest READ, where one was asked for."""

    def words(self) -> list[str]:
        """The same for fusermount3, which takes words only."""
        named = [word for word, flag in _FLAGS.items() if flag and self.flags & flag]
        return ["ro", "nosuid", "nodev", "noatime", *named, *self.data]


def parse(options: Iterable[str]) -> KernelOptions:
    """Sort mount options. Raises UsageError naming the first one that cannot be."""
    flags = _ALWAYS
    data = ["default_permissions"]
    name: str | None = None
    max_read: int | None = None
    for option in options:
        key, _, value = option.partition("=")
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option in _DATA or (key in _DATA_VALUES and value):
            data.append(option)
        elif key == "fsname" and value:
            name = value
        elif key == "max_read" and value.isdecimal() and int(value) >= 4096:
            max_read = int(value)
        elif option in _REFUSED:
            raise UsageError(f"mount option '{option}' is not possible: {_REFUSED[option]}")
        elif option not in _WITHOUT_EFFECT and not key.startswith(("x-", "X-", "comment")):
            raise UsageError(
                f"unknown mount option '{option}': see 'mirror mount --help' for those there are"
            )
    return KernelOptions(flags, tuple(data), name, max_read)
