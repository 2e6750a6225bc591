from collections.abc import Sequence

def begin_writing(fds: Sequence[int], /) -> None:
    """Have the disk begin with what was written to files; nothing is promised.

    It may wait for the disk. One that is not open is passed over.
    """

def mark(attribute: str, marks: list[tuple[int, bytes | None]], /) -> list[tuple[int, int, int]]:
    """Set an extended attribute of files, each to its own value; None: that one is only looked at.

    One that has no name any more is left as it is.

    Returns:
        Of each an errno or 0, how many names it has, and bytes of disk that it takes.
    """

def end_leases(leases: Sequence[int], copies: Sequence[int], /) -> None:
    """Close descriptors, once those that share an open file with one of them say that it is in use.

    Args:
        leases: those that have the locks.
        copies: further ones, of open files that were given to readers.
    """
