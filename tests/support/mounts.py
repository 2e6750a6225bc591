"""Real mounts, made by the real command, each in a temporary folder of its own.

::

    with mounted(server.url) as mount:
        (mount.path / "file").read_bytes()
        assert mount.counters()["read_requests"] == 0

A mount's home holds its mountpoint, its cache (unless the test brings one), its folder of status
sockets and its log. The status folder's name is in the environment of every process that belongs to
the mount: so a test sees, from outside, whether one of them is left. Leaving the context unmounts
with the real command and asserts that nothing is left: no mount, no process, no socket, and no
traceback in the log. Whatever happened, the mount is gone afterwards; and should the test process
itself be killed, `detach_stale` removes at the next start what it left (the home's name tells whose
it was).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import mountinfo
from tests.support.command import Outcome, mirror, processes_with
from tests.support.waiting import eventually

PREFIX = "mirror-test-"
"""Homes are called ``mirror-test-PID-RANDOM``: PID is the test process that they belong to."""

RUNTIME = "MIRROR_RUNTIME"


@dataclass(slots=True)
class Mount:
    """One mount, or one that is about to be made or is gone."""

    source: str
    home: Path
    cache: Path
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    table: Path = mountinfo.OWN
    """The mount table to look into: another one for a mount in another mount namespace."""
    log_expected: tuple[str, ...] = ()
    """Words of tracebacks that the test provokes on purpose."""
    said: Outcome | None = None
    """What `mirror mount` said."""
    keeper_pid: int = 0

    @property
    def path(self) -> Path:
        """The mountpoint."""
        return self.home / "mnt"

    @property
    def runtime(self) -> Path:
        """The folder of status sockets."""
        return self.home / "run"

    @property
    def log(self) -> str:
        """What keeper and worker wrote to their log."""
        path = self.home / "mount.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def assert_logged(self, text: str, times: int | None = None) -> None:
        """The log says ``text``, or will in a moment: it is the keeper that writes what a worker says.

        Args:
            text: a piece of a line.
            times: how often, where it has to be just that.
        """
        eventually(lambda: self.log.count(text) >= (times or 1), f"the log says {text!r}")
        assert times in (None, self.log.count(text))

    def mirror(self, *args: str | Path, timeout: float = 60.0) -> Outcome:
        """Run any `mirror` command in this mount's environment."""
        env = {**self.env, RUNTIME: str(self.runtime), "MIRROR_CACHE": str(self.cache)}
        return mirror(*args, env=env, prefix=self.prefix, timeout=timeout)

    def argv(self, options: Sequence[str] = ()) -> list[str | Path]:
        """The arguments that make this mount."""
        log = self.home / "mount.log"
        return ["mount", self.source, self.path, "--cache", self.cache, "--log-file", log, *options]

    def mount(self, *more: str, args: Sequence[str] | None = None) -> Outcome:
        """Run `mirror mount` once, without asserting that it works."""
        self.said = self.mirror(*self.argv(self.args if args is None else args), *more)
        if self.said.code == 0:
            self.keeper_pid = int(self.status()["keeper_pid"])
        return self.said

    def status(self) -> dict[str, Any]:
        """This mount's row of `mirror status --json`."""
        rows = json.loads(self.mirror("status", self.path, "--json").ok().out)
        assert len(rows) == 1, rows
        row: dict[str, Any] = rows[0]
        return row

    def counters(self) -> dict[str, int]:
        """The counters of `status`, none of them older than this question."""
        asked_at = time.monotonic()

        def fresh() -> dict[str, int] | None:
            status = self.status()
            age = status["worker_counters_age_s"]
            counters: dict[str, int] = status["counters"]
            return counters if age is not None and age <= time.monotonic() - asked_at else None

        counters = eventually(fresh, "the worker answers the question for its counters")
        assert counters is not None
        return counters

    @property
    def worker_pid(self) -> int:
        """The worker of this moment; 0 while another one starts."""
        return int(self.status()["worker_pid"] or 0)

    @property
    def mounted(self) -> bool:
        """Whether the mount table has it."""
        return mountinfo.is_mounted(self.path, self.table)

    def processes(self) -> list[int]:
        """Every process that belongs to this mount."""
        return processes_with(RUNTIME, str(self.runtime))

    def open_passthrough(self, name: str) -> int:
        """Open a file until the kernel alone serves the handle; returns the descriptor.

        A file that was opened page-cached gets passthrough at the first open after the last release,
        and the kernel releases a moment after `close`: hence more than one try.
        """

        def attempt() -> int | None:
            before = self.counters()["opens_passthrough"]
            fd = os.open(self.path / name, os.O_RDONLY)
            if self.counters()["opens_passthrough"] > before:
                return fd
            os.close(fd)
            return None

        # Descriptor 0 is the terminal's: an open never returns it here.
        return eventually(attempt, f"an open of {name} gets passthrough") or 0

    def kill_worker(self, sign: signal.Signals = signal.SIGKILL) -> int:
        """Kill the worker; returns the pid that is no more."""
        pid = eventually(lambda: self.worker_pid, "there is a worker to kill")
        with suppress(ProcessLookupError):  # died between our two looks: as good
            os.kill(pid, sign)
        return pid

    def wait_fetched(self, size: int) -> None:
        """Wait until this mount has fetched so many bytes."""

        def fetched() -> bool:
            # A busy worker may answer too late for one look; then `status` has the keeper's counters only.
            return self.counters().get("bytes_fetched", 0) >= size

        eventually(fetched, f"{size} bytes are fetched")

    def wait_worker(self, dead: int) -> None:
        """Wait until another worker has taken over from one that was killed."""
        eventually(lambda: self.worker_pid not in {0, dead}, f"another worker than {dead} runs")

    def unmount(self) -> None:
        """Unmount with the command, and see that nothing is left of it."""
        self.mirror("unmount", self.path).ok()
        self.assert_gone()

    def assert_gone(self) -> None:
        """No mount, no process, no socket."""
        assert not self.mounted, f"{self.path} is still mounted"
        assert self.processes() == [], f"processes are left: {self.processes()}"
        left = [path for path in self.runtime.rglob("*") if path.is_socket()] if self.runtime.exists() else []
        assert left == [], f"sockets are left: {left}"

    def close(self) -> None:
        """The end of a test that went well: unmount if need be, and look at what was logged."""
        if self.mounted:
            self.unmount()
        self.assert_gone()
        log = self.log
        expected = any(words in log for words in self.log_expected)
        assert expected or "Traceback" not in log, log[-4000:]

    def force_end(self) -> None:
        """Remove mount and processes by force. Safe to call at any time, also twice."""
        if self.table == mountinfo.OWN:
            mountinfo.detach(self.path)
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not self.processes(), "the mount's processes end")


@contextmanager
def prepared(
    source: str,
    *,
    cache: Path | None = None,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    table: Path = mountinfo.OWN,
    log_expected: Sequence[str] = (),
    owner: int | None = None,
) -> Iterator[Mount]:
    """A mount that is not made yet: for tests that make it themselves, or see it fail.

    Args:
        source: what to mount.
        cache: a cache folder to share; None: one of its own.
        args: options for `mirror mount`.
        env: variables for every command of this mount.
        prefix: a program that starts every command.
        table: where a mount made through ``prefix`` shows.
        log_expected: a traceback may be in the log if one of these is.
        owner: the uid that the home belongs to.
    """
    home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    mount = Mount(
        source,
        home,
        cache or home / "cache",
        tuple(args),
        env or {},
        tuple(prefix),
        table,
        tuple(log_expected),
    )
    try:
        mount.path.mkdir()
        mount.runtime.mkdir(mode=0o700)
        if owner is not None:
            for path in (home, mount.path, mount.runtime):
                os.chown(path, owner, -1)
        try:
            yield mount
        except BaseException as failure:
            failure.add_note(f"the mount's log ends with:\n{mount.log[-4000:]}")
            raise
        mount.close()
    finally:
        mount.force_end()
        shutil.rmtree(home)


@contextmanager
def mounted(source: str, **options: Any) -> Iterator[Mount]:
    """Mount a source in the background; takes the options of `prepared`."""
    with prepared(source, **options) as mount:
        mount.mount().ok()
        yield mount


def detach_stale() -> list[Path]:
    """Remove mounts and homes of test processes that are no more; returns where mounts were."""
    stale = []
    for entry in list(mountinfo.mounts()):
        home = next((part for part in entry.path.parts if part.startswith(PREFIX)), None)
        if home is not None and _owner_is_gone(home):
            mountinfo.detach(entry.path)
            stale.append(entry.path)
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if _owner_is_gone(path.name):
            # Its cache may be large. Another test process may be removing it at this moment: as good.
            shutil.rmtree(path, ignore_errors=True)
    return stale


def _owner_is_gone(home: str) -> bool:
    pid = home.removeprefix(PREFIX).partition("-")[0]
    return pid.isdigit() and not Path("/proc", pid).exists()
