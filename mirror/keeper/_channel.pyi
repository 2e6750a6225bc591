from typing import TypedDict

class BackingFile(TypedDict):
    node: int
    fd: int
    """The keeper's own descriptor of the file."""
    backing_id: int
    """0: the kernel does not have it, it is held for its page-cached handles."""
    open_handles: int
    """Passthrough handles."""
    cached_handles: int
    retiring: bool
    opened_at: int
    """Epoch seconds of the last passthrough open; 0: never."""

class Snapshot(TypedDict):
    counters: dict[str, int]
    files: list[BackingFile]

class Channel:
    """The relay between /dev/fuse and a worker; runs in threads of its own, without the interpreter."""

    def __init__(
        self,
        fuse_fd: int,
        *,
        passthrough: bool,
        max_stack_depth: int,
        max_pages: int,
        backing_limit: int,
        spin_us: int,
        cache_device: int,
        owner: int,
    ) -> None:
        """Take over ``fuse_fd``.

        Args:
            fuse_fd: an open /dev/fuse, mounted or about to be.
            passthrough: whether to ask the kernel for it.
            max_stack_depth: 1, or 2 for a cache on overlayfs.
            max_pages: the largest READ, in pages of 4096 bytes (1 to 256).
            backing_limit: most files held at once, registered with the kernel or not.
            spin_us: microseconds to poll for a request before sleeping; 0: never.
            cache_device: ``st_dev`` that every backing file must have.
            owner: uid that every backing file must have.
        """

    def start(self) -> None:
        """Start the threads. Nothing is read before a worker is attached."""

    def attach(self, worker_fd: int, control_fd: int, token: bytes, /) -> None:
        """Hand over the keeper's ends of a worker's sockets, and what marks its references (16 bytes).

        A former worker is cut off.
        """

    def probe(self, fd: int, /) -> None:
        """Register a file and let it go again: OSError says why passthrough is not to be had."""

    def fileno(self) -> int:
        """Descriptor that becomes readable when one of the attributes changed."""

    def acknowledge(self) -> None:
        """Make `fileno` unreadable until the next change."""

    def snapshot(self) -> Snapshot:
        """Counters and the held files, now."""

    def take_opens(self) -> bytes:
        """The opens that the keeper answered by itself since the last call, each node once.

        Pairs of native unsigned 64-bit integers: node, epoch seconds of its first open in that time. What did
        not fit (65,536 nodes) is counted as ``opens_dropped``.
        """

    def close(self) -> None:
        """Answer every waiter with ENOTCONN, end the threads, close /dev/fuse and the backing files."""

    @property
    def backing_limit(self) -> int:
        """Most files held at once."""
    @property
    def initialised(self) -> bool:
        """The kernel has its answer to INIT: the mount works."""
    @property
    def ended(self) -> bool:
        """The kernel's side is gone: unmounted or aborted."""
    @property
    def passthrough(self) -> bool:
        """Kernel and keeper agreed on passthrough."""
    @property
    def resend(self) -> bool:
        """The kernel sends unanswered requests again after a worker's death."""
    @property
    def worker_lost(self) -> bool:
        """No worker is attached; all that the last one wrote has been delivered."""
    @property
    def served(self) -> int:
        """Replies of the present worker that reached the kernel."""
    @property
    def failure(self) -> int:
        """Errno that broke the channel, or 0."""
    @property
    def last_error(self) -> int:
        """Errno of the last registration that the kernel refused, or 0."""
