"""The life of one mount: worker, mount, relay, ready, and the end of all of it.

One thread and one selector. It never touches the mount itself, which it serves and which could then
wait for itself: that the root answers is tried by a child process. Every stage may fail, and then all
that was begun is undone: nothing mounted, no process left, one line that says why.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from mirror import runtime
from mirror.config import MountConfig
from mirror.errors import MirrorError, SetupError, UsageError
from mirror.keeper import link, mountpoint, options, privileges
from mirror.keeper._channel import Channel
from mirror.keeper.mount import Mount, mount, set_read_ahead
from mirror.keeper.opens import Opens
from mirror.keeper.report import Passthrough, probe, report
from mirror.keeper.status import StatusSocket, WorkerStatistics
from mirror.keeper.supervise import MOST_DEATHS, WINDOW_SECONDS, Deaths
from mirror.keeper.worker_process import MAX_PAGES, PAGE, Sockets, WorkerProcess, describe_exit

log = logging.getLogger("keeper")

_ANSWER_SECONDS = 60.0
"""How long a new mount's root may take to answer, with the worker already prepared."""
_STATS_SECONDS = 1.0
"""How long a status waits for the worker's part."""
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_QUIT_SECONDS = 10.0
"""How long a worker may take to end by itself: it writes down what it has fetched."""
_TERM_SECONDS = 2.0
_HUNG_SECONDS = 2.0
"""How long a worker may live on after it closed its FUSE socket."""
_OPENS_SECONDS = 3.0
"""How often the worker hears of opens that it did not see."""
_LAST_OPENS_SECONDS = 1.0
"""How long the last ones may wait for a worker that is to end."""
_RESERVED_FILES = 256 + 384
"""Descriptors of the keeper that are not backing files: sockets made ahead, and what reads refer to."""


class Audience(Protocol):
    """Whom the keeper tells about its start: a launcher that waits, or a terminal."""

    def fileno(self) -> int | None:
        """Readable when they are gone; None: they cannot go."""

    def ready(self, warning: str | None) -> None:
        """The mount answers."""


class Stop(Exception):
    """The mount is to end: asked for by a signal, or unmounted from outside."""


class Keeper:
    """Serves one mount from start to end."""

    def __init__(self, config: MountConfig, audience: Audience, worker_module: str) -> None:
        self._config = config
        self._audience = audience
        self._module = worker_module
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._deaths = Deaths()
        self._generation = 0
        self._worker: WorkerProcess | None = None
        self._channel: Channel | None = None
        self._opens: Opens | None = None
        self._mount: Mount | None = None
        self._status: StatusSocket | None = None
        self._sockets: Sockets | None = None
        self._passthrough = Passthrough(False, "the mount has not started yet")
        self._warnings: list[str] = []
        self._statistics = WorkerStatistics()
        self._signals: socket.socket
        """Brings the numbers of those that came."""
        self._told_by: signal.Signals | None = None
        """What told it to end."""

    def run(self) -> signal.Signals | None:
        """Serve until the mount ends; returns what told it to end before it was mounted.

        Raises MirrorError when it could not start or was given up.
        """
        started = False
        try:
            self._start()
            started = True
            while True:
                self._turn(None)
        except Stop:
            log.info("ending: %s", "unmounted" if self._told_by is None else "asked to")
        finally:
            self._end()
        # Whoever unmounted it at once has interrupted it as well.
        return None if started else self._told_by or signal.SIGINT

    # The start

    def _start(self) -> None:
        config = self._config
        wanted = options.parse(config.mount_options)
        status_path = runtime.socket_path(config.mountpoint)
        if notice := mountpoint.check(config.mountpoint, config.cache):
            log.warning(notice)
            self._warnings.append(notice)
        depth = mountpoint.stack_depth(config.cache)
        self._listen_to_signals()
        if (fd := self._audience.fileno()) is not None:
            self._watch(fd, self._audience_left)
        limit = self._raise_file_limit()
        self._sockets = Sockets()
        by_helper = not privileges.has_sys_admin()
        if not by_helper:
            # fusermount3 is set-uid: without our own CAP_SYS_ADMIN that has to wait until it has run.
            privileges.keep_only_sys_admin()
        self._worker = worker = self._start_worker(self._sockets)
        self._wait(lambda: worker.prepared, None, "the worker")
        pages = self._sockets.max_pages
        with mountpoint.reserved(config.mountpoint):
            # The worker took its time: by now another mount may have come to the same place.
            mountpoint.check(config.mountpoint, config.cache)
            self._mount = mount(
                config.mountpoint, config.source, wanted, None if pages == MAX_PAGES else pages * PAGE
            )
        if by_helper:
            privileges.keep_only_sys_admin()
        try:
            self._channel = self._make_channel(self._mount.fuse_fd, depth, pages, limit)
        except OSError as exc:
            os.close(self._mount.fuse_fd)
            raise SetupError(f"cannot serve the mount: {exc.strerror}") from exc
        self._watch(self._channel.fileno(), partial(self._on_channel, self._channel))
        worker.attach_to(self._channel)
        self._channel.start()
        self._opens = Opens(self._channel.take_opens)
        self._later(_OPENS_SECONDS, partial(self._tell_opens, self._opens))
        self._wait_until_the_root_answers()
        self._passthrough = probe(self._channel, config)
        self._set_read_ahead()
        try:
            self._status = StatusSocket(status_path, os.geteuid())
        except OSError as exc:
            raise SetupError(f"cannot listen for status questions: {exc.strerror}") from exc
        self._watch(self._status.fileno(), partial(self._on_question, self._status))
        if fd is not None:
            self._selector.unregister(fd)
        log.info("%s is mounted on %s", config.source, config.mountpoint)
        self._audience.ready("; ".join(self._warnings) or None)

    def _make_channel(self, fuse_fd: int, depth: int, pages: int, limit: int) -> Channel:
        return Channel(
            fuse_fd,
            passthrough=self._config.passthrough,
            max_stack_depth=depth,
            max_pages=pages,
            backing_limit=limit,
            spin_us=self._config.spin_us,
            cache_device=os.stat(self._config.cache).st_dev,  # noqa: PTH116 - a number is all we want
            owner=os.geteuid(),
        )

    def _raise_file_limit(self) -> int:
        """Allow as many descriptors as the system does; returns how many may be backing files."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        room = max(0, min(hard, 1 << 20) - _RESERVED_FILES) if hard != resource.RLIM_INFINITY else 1 << 20
        asked = self._config.backing_limit
        return room if asked is None else min(asked, room)

    def _set_read_ahead(self) -> None:
        try:
            set_read_ahead(self._config.mountpoint, self._config.read_ahead_kb)
        except OSError as exc:
            log.info("read-ahead stays as the kernel has it: %s", exc.strerror)

    def _wait_until_the_root_answers(self) -> None:
        """Ask for the root's attributes as a user would, from a process that can be given up."""
        code = "import os, sys; os.stat(sys.argv[1])"
        asker = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, self._config.mountpoint],
            start_new_session=True,  # a Ctrl-C is for us, and no answer about the mount
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        pidfd = os.pidfd_open(asker.pid)
        self._watch(pidfd, lambda: None)
        try:
            self._wait(lambda: asker.poll() is not None, _ANSWER_SECONDS, "the mount")
        finally:
            asker.kill()
            # Killed while it waits for us: it ends once the channel refuses its request, see _end().
            self._selector.unregister(pidfd)
            os.close(pidfd)
        said = asker.communicate()[1].decode(errors="replace").strip().rpartition("\n")[2]
        if asker.returncode != 0:
            raise SetupError(f"the new mount does not answer: {said}")

    # Waiting and events

    def _turn(self, deadline: float | None) -> None:
        """Handle what happens next: events, timers, the deadline at the latest."""
        times = [when for when, _ in self._timers]
        if deadline is not None:
            times.append(deadline)
        wait = max(0.0, min(times) - time.monotonic()) if times else None
        for key, _ in self._selector.select(wait):
            # An earlier event of the same turn may have ended what this one belongs to.
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        now = time.monotonic()
        due = [action for when, action in self._timers if when <= now]
        self._timers = [(when, action) for when, action in self._timers if when > now]
        for action in due:
            action()

    def _wait(self, done: Callable[[], bool], seconds: float | None, whom: str) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        while not done():
            if deadline is not None and time.monotonic() >= deadline:
                raise SetupError(f"{whom} did not answer within {seconds:.0f} s")
            self._turn(deadline)

    def _watch(self, fd: int, action: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, action)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + seconds, action))

    def _listen_to_signals(self) -> None:
        self._signals, writer = socket.socketpair()
        self._signals.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
        for number in _ENDING:
            signal.signal(number, lambda *_: None)
        self._watch(self._signals.fileno(), self._hear_signals)

    def _hear_signals(self) -> None:
        """End if one has come that says so."""
        with contextlib.suppress(BlockingIOError):
            told = set(self._signals.recv(64)) & _ENDING
            if told:
                self._told_by = signal.Signals(min(told))
                raise Stop

    def _audience_left(self) -> None:
        self._told_by = signal.SIGINT
        raise Stop

    def _on_channel(self, channel: Channel) -> None:
        channel.acknowledge()
        if channel.failure:
            raise SetupError(f"the connection to the kernel broke: {os.strerror(channel.failure)}")
        if channel.ended:
            raise Stop
        worker = self._worker
        if channel.worker_lost and worker is not None and worker.attached:
            # Its process usually ends by itself in this moment; one that hangs is helped along.
            self._later(_HUNG_SECONDS, partial(worker.end, signal.SIGKILL))

    # The worker

    def _start_worker(self, sockets: Sockets) -> WorkerProcess:
        worker = WorkerProcess(self._config, self._generation, self._module, sockets)
        self._generation += 1
        self._watch(worker.link.fileno(), partial(self._on_link, worker))
        self._watch(worker.pidfd, partial(self._on_death, worker, sockets))
        self._watch(worker.errors, partial(self._on_errors, worker))
        return worker

    def _restart_worker(self, sockets: Sockets) -> None:
        self._worker = self._start_worker(sockets)

    def _on_link(self, worker: WorkerProcess) -> None:
        match worker.link.receive():
            case link.Prepared(warning):
                worker.prepared = True
                worker.link.ask(link.Request.STATS)  # so that there are some, should it fall silent
                if self._channel is None:
                    self._warnings += [warning] if warning else []
                elif not worker.attached:
                    worker.attach_to(self._channel)
            case link.Failed(code, message):
                raise UsageError(message) if code == 2 else SetupError(message)
            case link.Stats(text):
                self._statistics = WorkerStatistics(text, time.monotonic())
                self._answer()
            case None:
                self._selector.unregister(worker.link.fileno())

    def _on_errors(self, worker: WorkerProcess) -> None:
        text = worker.read_errors()
        _pass_on(text)
        if not text:
            self._selector.unregister(worker.errors)

    def _on_death(self, worker: WorkerProcess, sockets: Sockets) -> None:
        code = worker.poll()
        if code is None:
            return
        channel = self._channel
        served = channel is not None and worker.attached and channel.served > 0
        # What it said at its end may wait on the link: a failure for good is worth more than its death.
        if worker.link.fileno() in self._selector.get_map():
            self._on_link(worker)
        self._bury(worker)
        said = f": {worker.last_line}" if worker.last_line else ""
        if channel is None or not channel.initialised:
            # A terminal, and systemd, tell all processes at once: it may just have been the first to end.
            self._hear_signals()
            raise SetupError(f"the worker ended before it was ready ({describe_exit(code)}){said}")
        delay = self._deaths.record(time.monotonic(), code, served=served)
        if delay is None:
            raise SetupError(
                f"{self._config.mountpoint} is given up: the worker died {MOST_DEATHS} times in "
                f"{WINDOW_SECONDS:.0f} s, the last time by {describe_exit(code)}{said}"
            )
        log.warning("the worker died (%s); another one starts%s", describe_exit(code), said)
        self._answer()
        if delay:
            self._later(delay, partial(self._restart_worker, sockets))
        else:
            self._restart_worker(sockets)

    def _tell_opens(self, opens: Opens) -> None:
        self._later(_OPENS_SECONDS, partial(self._tell_opens, opens))
        if self._worker is not None and self._worker.prepared:
            opens.send(self._worker.link)

    def _bury(self, worker: WorkerProcess) -> None:
        """Let go of a dead worker."""
        for fd in (worker.link.fileno(), worker.pidfd, worker.errors):
            with contextlib.suppress(KeyError):
                self._selector.unregister(fd)
        _pass_on(worker.read_errors())
        worker.close()
        self._worker = None

    # Status

    def _on_question(self, status: StatusSocket) -> None:
        first = not status.asked
        if not status.accept() or not first:
            return
        if self._worker is not None and self._worker.link.ask(link.Request.STATS):
            self._later(_STATS_SECONDS, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        """Answer whoever waits, with the last that any worker of this mount has said."""
        if self._status is None or self._channel is None or not self._status.asked:
            return
        said = report(
            self._config,
            self._channel,
            self._passthrough,
            worker_pid=None if self._worker is None else self._worker.pid,
            restarts=self._deaths.restarts,
            statistics_age=self._statistics.age(),
        )
        self._status.answer(said, self._statistics.text)

    # The end

    def _end(self) -> None:
        """Undo whatever was done, in the order in which nothing waits for what is gone already."""
        if self._status is not None:
            self._status.close()
        if self._mount is not None:
            if self._mount.stands:
                self._unmount(self._mount)
            else:
                self._mount.forget()
        self._end_worker()
        if self._channel is not None:
            self._channel.close()
        if self._sockets is not None:
            self._sockets.close()
        self._selector.close()

    def _unmount(self, mounted: Mount) -> None:
        try:
            try:
                mounted.unmount(lazy=False)
            except SetupError as exc:
                if not isinstance(exc.__cause__, OSError) or exc.__cause__.errno != errno.EBUSY:
                    raise
                log.warning("%s is in use: detached, it goes when its last user lets go", mounted.mountpoint)
                mounted.unmount(lazy=True)
        except SetupError as exc:
            log.warning("%s", exc)  # the rest of the end is still to come

    def _end_worker(self) -> None:
        worker = self._worker
        if worker is None:
            return
        if worker.prepared:
            if self._opens is not None:
                self._opens.send(worker.link, _LAST_OPENS_SECONDS)
            worker.link.ask(link.Request.QUIT)
        else:
            worker.end(signal.SIGTERM)  # it asks the origin, hears nobody, and has nothing to lose
        deadline = time.monotonic() + _QUIT_SECONDS
        while worker.poll() is None and time.monotonic() < deadline:
            # Keep its log flowing: a full pipe would keep it from ending.
            with selectors.DefaultSelector() as selector:
                selector.register(worker.pidfd, selectors.EVENT_READ)
                selector.register(worker.errors, selectors.EVENT_READ)
                selector.select(deadline - time.monotonic())
            _pass_on(worker.read_errors())
        if worker.poll() is None:
            worker.end(signal.SIGTERM)
            if not worker.wait(_TERM_SECONDS):
                worker.end(signal.SIGKILL)
                worker.wait(_TERM_SECONDS)
        _pass_on(worker.read_errors())
        worker.close()
        self._worker = None


def _pass_on(text: bytes) -> None:
    """Append what a worker said to the log: a full disk or a closed terminal costs words, never the mount."""
    with contextlib.suppress(OSError):
        os.write(2, text)  # not sys.stderr: a mount in the foreground may log to a file (see __main__)


def exit_code(error: MirrorError) -> int:
    """What a process exits with: 2 for what the user asked wrongly, 1 for what failed."""
    return 2 if isinstance(error, UsageError) else 1
