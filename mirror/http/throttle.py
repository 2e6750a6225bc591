"""The limit on what this process receives: one bucket of tokens for every byte of every body.

What came is paid for afterwards, so a large read is as welcome as a small one: whoever has received goes
on once the bucket is out of debt, all in the order in which they came. How much is read at once follows
from the rate, so that nobody gets into debt for longer than `SLICE` seconds. Waiting here is no
fault of the origin, and counts towards no deadline.

There is one `Throttle` for each process, for that is what the limit means, however many sources are open.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import trio

from mirror.timetable import Timetable

log = logging.getLogger(__name__)

SLICE = 0.1
"""Seconds that one read may cost."""
BURST = 0.2
"""Seconds of the rate that may be saved up."""
LEAST = 4096
"""Bytes of the smallest read."""
LOOK_SECONDS = 1.0
"""How often the clock, and the file of a table, is looked at."""
FILE = "@"
"""What a table begins with that is read from a file."""


def read_table(text: str) -> Timetable:
    """Read a rate, a table, or ``@FILE`` with either in it.

    Raises:
        ValueError: it cannot be read; one line that says why.
    """
    if not text.startswith(FILE):
        return Timetable.parse(text)
    try:
        return Timetable.parse(Path(text[1:]).read_text(encoding="utf-8"))
    except OSError as exc:
        raise ValueError(f"the table of rates {text[1:]} cannot be read: {exc.strerror}") from exc


class Throttle:
    """A bucket of tokens, a byte each, that fills at a rate which follows the time of day."""

    def __init__(self) -> None:
        self._table: Timetable | None = None
        self._file: str | None = None
        self._seen: tuple[int, int] | None = None
        self._rate: int | None = None
        self._look_at = 0.0
        self._tokens = 0.0
        self._filled_at = 0.0
        self._turn = trio.Lock()

    def follow(self, text: str | None) -> None:
        """Follow a rate or a table from now on; None: no limit.

        Raises:
            ValueError: as `read_table`.
        """
        self._table = None if text is None else read_table(text)
        self._file = text[1:] if text is not None and text.startswith(FILE) else None
        self._seen = None if self._file is None else _stamp(self._file)
        self._turn = trio.Lock()  # whoever held the old one may be of another run
        self._tokens = 0.0
        self._filled_at = time.monotonic()
        self._look()

    @property
    def rate(self) -> int | None:
        """Bytes a second at this moment; None: no limit."""
        if self._table is not None and time.monotonic() >= self._look_at:
            self._look()
        return self._rate

    def most(self, size: int) -> int:
        """How much of ``size`` bytes to read at once."""
        if self._table is None or (rate := self.rate) is None:
            return size
        return min(size, max(LEAST, int(rate * SLICE)))

    async def spent(self, size: int) -> None:
        """Pay for bytes that came: waits until those before, and these, are paid for."""
        if self._table is None or self.rate is None:
            return
        async with self._turn:
            self._fill()
            self._tokens -= size
            while self._tokens < 0 and (rate := self.rate) is not None:
                # Not for longer than the next look: the rate may be another one by then.
                await trio.sleep(min(LOOK_SECONDS, -self._tokens / rate))
                self._fill()

    def _fill(self) -> None:
        now = time.monotonic()
        if self._rate is None:
            self._tokens = 0.0
        else:
            self._tokens = min(BURST * self._rate, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now

    def _look(self) -> None:
        """See what the time of day, or another table, makes of the rate."""
        self._look_at = time.monotonic() + LOOK_SECONDS
        if self._file is not None and (stamp := _stamp(self._file)) not in (None, self._seen):
            self._seen = stamp
            try:
                self._table = read_table(FILE + self._file)
            except ValueError as exc:
                log.warning("the limit stays as it was: %s", exc)
        rate = None if self._table is None else self._table.at(time.localtime())
        if rate != self._rate:
            log.info(
                "from now on %s", "without a limit" if rate is None else f"at most {rate} bytes a second"
            )
            self._rate = rate


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


PROCESS = Throttle()
"""The one of this process. Without a table it lets everything through."""
