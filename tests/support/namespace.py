"""A mount namespace of its own for a program, without the mounts of `mirror` that stand at its start.

A new namespace begins with a copy of every mount, and a file system ends with its last copy: a mount that
another test takes away meanwhile, or the user of this machine, would live on for as long as the program
does, and its processes with it. So the copies go first.

As a program: ``python -m tests.support.namespace PROGRAM [ARGUMENT]...`` becomes that program.
"""

from __future__ import annotations

import os
import sys

from mirror.runtime import FSTYPE

_SCRIPT = f'umount --all --lazy --types {FSTYPE}; exec "$@"'


def apart(*argv: object) -> list[str]:
    """The command that runs a program in a mount namespace of its own, which ends with it.

    Without root it has a user namespace as well; what is mounted in that cannot be taken away.
    """
    program = list(map(str, argv))
    if os.geteuid() == 0:
        return ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", _SCRIPT, "sh", *program]
    return ["unshare", "--mount", "--map-root-user", "--", *program]


def main() -> None:
    """Become the program."""
    command = apart(*sys.argv[1:])
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
