"""How many requests a server answers at once, as it sees it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tests.support.hostile import Seen, Wire


class Crowd:
    """Behaves as a server that takes its time, and counts those that wait for it."""

    def __init__(self, seconds: float, answer: Callable[[Seen], tuple[str, bytes]]) -> None:
        """Wait ``seconds`` for others to come, then answer 200 with a Content-Type and a body."""
        self.highest = 0
        self._seconds = seconds
        self._answer = answer
        self._lock = threading.Lock()
        self._now = 0

    def __call__(self, seen: Seen, wire: Wire) -> None:
        """Answer one request."""
        with self._lock:
            self._now += 1
            self.highest = max(self.highest, self._now)
        time.sleep(self._seconds)
        kind, body = self._answer(seen)
        with self._lock:
            self._now -= 1
        wire.head(200, {"Content-Type": kind, "Content-Length": len(body), "ETag": '"1"'})
        if seen.method != "HEAD":
            wire.send(body)


def autoindex(path: str, rows: str) -> tuple[str, bytes]:
    """A listing in nginx's form, of rows in that form."""
    page = f'<title>Index of {path}</title><hr><pre><a href="../">../</a>\n{rows}</pre><hr></html>'
    return "text/html", page.encode()
