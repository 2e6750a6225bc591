"""What one mount was asked to be: made by the command line, handed to keeper and worker as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from mirror.traffic import CONNECTIONS


class OpenMode(StrEnum):
    """What `open` does with a file that is not complete yet."""

    AUTO = "auto"
    """Wait for small files, stream large ones."""
    WAIT = "wait"
    """Wait for every file: each handle is then served by the kernel alone."""
    STREAM = "stream"
    """Never wait."""


class FetchMode(StrEnum):
    """How much of a large file is fetched when some of it is read."""

    AUTO = "auto"
    """What is read, until a tenth of it was or a reader goes forward; then all of it."""
    WHOLE = "whole"
    """All of it."""
    TOUCHED = "touched"
    """What is read, and what follows it where a reader goes forward."""


class VerifyMode(StrEnum):
    """When a complete object is compared with its checksums before the kernel is given it."""

    NEVER = "never"
    """Only the scrub and `mirror verify` look."""
    OPEN = "open"
    """Before every registration, through the very descriptor that is registered."""


@dataclass(frozen=True, slots=True)
class MountConfig:
    """One mount. Holds no secret: it may appear in logs and `status`."""

    source: str
    """Canonical source URL."""
    mountpoint: str
    """Absolute, symlinks resolved."""
    cache: str
    """Absolute path of the cache folder."""
    cache_size: str | None = None
    """Limit to set for the cache when it is mounted, as `mirror.budget.apply_limits` takes it; None: it
    keeps what it has."""
    min_free: str | None = None
    """The same."""
    open_mode: OpenMode = OpenMode.AUTO
    open_wait_bytes: int = 16 * 1024 * 1024
    """Files up to this size are waited for in `OpenMode.AUTO`."""
    fetch: FetchMode = FetchMode.AUTO
    """For files above `open_wait_bytes`."""
    ttl: float = 60.0
    """Seconds an entry or a listing is trusted before it is revalidated; inf: for ever."""
    deadline: float = 30.0
    """Seconds without a byte after which a request to the origin counts as stalled."""
    max_connections: int = CONNECTIONS
    """Most connections to one server."""
    bwlimit: str | None = None
    """Limit on what the worker receives, as `mirror.http.throttle.read_table` takes it; None: none."""
    verify: VerifyMode = VerifyMode.NEVER
    scrub: float = 30 * 86400.0
    """Seconds in which every object is read again and compared, in the background; inf: never."""
    passthrough: bool = True
    """False with ``-o no_passthrough``."""
    backing_limit: int | None = None
    """Most backing files registered at once; None: what RLIMIT_NOFILE leaves."""
    spin_us: int = 50
    """Microseconds the keeper polls for the next request before it sleeps; 0: never."""
    read_ahead_kb: int = 1024
    """The mount's read-ahead, where the keeper may set it. While a large file is fetched, more makes its
    reader slower: pages that were used a moment ago are used again sooner (cold 1 GiB against curl: 0.79
    of its rate with 1 MiB, 0.65 with 4, 0.56 with 16)."""
    foreground: bool = False
    mount_options: tuple[str, ...] = field(default=())
    """Further options for the kernel (`allow_other`, `nosuid`, …), already checked."""
    log_file: str | None = None
    """Where keeper and worker log when in the background; None: standard error."""

    def to_json(self) -> str:
        """One line of JSON; infinities are allowed (Python's own dialect)."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> MountConfig:
        """Inverse of `to_json`. Raises ValueError or TypeError on anything else."""
        raw = json.loads(text)
        raw["open_mode"] = OpenMode(raw["open_mode"])
        raw["fetch"] = FetchMode(raw["fetch"])
        raw["verify"] = VerifyMode(raw["verify"])
        raw["mount_options"] = tuple(raw["mount_options"])
        return cls(**raw)
