"""The worker process: everything that is not privileged.

It has no capability, and it keeps nothing that its successor would need: node ids are rows of the
index, handles are node ids, the cache knows what is complete. So the keeper may start another one
at any moment, and the mount goes on.

Life: receive the configuration over the link, drop all privileges, open cache and source, ask the
origin once (a first start only: a successor must not depend on the origin), report *prepared*, then
serve FUSE messages from the socket that the keeper relays, until that socket ends.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pyfuse3
import trio

from cache import CacheError, Changes
from mirror.attributes import Attributes
from mirror.background import background
from mirror.budget import apply_limits
from mirror.config import VerifyMode
from mirror.engine import Engine, open_engine
from mirror.errors import MirrorError, UsageError
from mirror.filesystem import FileSystem
from mirror.fuse import Adapter
from mirror.http.throttle import PROCESS
from mirror.keeper.control import References, Registrar
from mirror.keeper.link import Assignment, Opens, Request, WorkerEnd
from mirror.keeper.privileges import drop_all
from mirror.keeper.questions import Questions
from mirror.steady import keep_steps_short
from mirror.traffic import Traffic
from mirror.verify import scrub
from mirror.worker.hearing import Hearing
from mirror.worker.housekeeping import PinnedFiles, keep_house, say_served
from mirror.worker.kernel import Kernel
from mirror.worker.references import ByReference
from mirror.worker.watch import Watch

log = logging.getLogger(__name__)

TASKS = 1000
"""Requests served at once: a request that waits for the origin holds one task."""
GATHER = 1.0
"""Seconds that complete files are gathered before they are made safe together. Nobody waits for that, but
whoever opens files waits while the file system syncs."""
LATE = 3600.0
"""Seconds the kernel may keep a name at least, unless it is told otherwise (`mirror.worker.watch`)."""
LATEST = 1e6
"""Seconds it may keep one at most: an endless TTL, in numbers the kernel can count with."""


def main() -> None:
    """Run one worker until its mount ends."""
    parser = argparse.ArgumentParser(prog="mirror.worker", description="Started by the keeper only.")
    for name in ("fuse", "control", "link"):
        parser.add_argument(f"--{name}-fd", type=int, required=True)
    arguments = parser.parse_args()
    drop_all()
    keep_steps_short()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if os.environ.get("MIRROR_DEBUG") else logging.INFO,
        format="%(asctime)s worker %(levelname)s %(name)s: %(message)s",
    )
    # Noisy, and those that speak HTTP would log the headers of requests: there are passwords among them.
    for noisy in ("httpx", "httpcore", "h2", "hpack", "pyfuse3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # The keeper decides when a mount ends; a Ctrl-C on the terminal reaches the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor = WorkerEnd(socket.socket(fileno=arguments.link_fd))
    assignment = supervisor.configuration()
    control = socket.socket(fileno=arguments.control_fd)
    try:
        trio.run(_serve, assignment, arguments.fuse_fd, Registrar(control), supervisor)
    except (MirrorError, CacheError) as exc:
        supervisor.failed(str(exc), 2 if isinstance(exc, UsageError) else 1)
        sys.exit(1)


async def _serve(assignment: Assignment, fuse_fd: int, registrar: Registrar, supervisor: WorkerEnd) -> None:
    """Open everything, report *prepared*, and serve until the FUSE socket ends."""
    config, generation = assignment.config, assignment.generation
    questions = Questions(registrar, fuse_fd)
    kernel = Kernel(registrar, questions)
    pinned = PinnedFiles()

    def changed(changes: Changes) -> None:
        kernel.changed(changes)
        pinned.changed(changes)

    late = min(max(LATE, config.ttl), LATEST)
    async with (
        open_engine(
            config.source,
            Path(config.cache),
            ttl=config.ttl,
            deadline=config.deadline,
            completed=kernel.register,
            on_change=changed,
            discarded=kernel.forget_pages,
            delivery=lambda objects: ByReference(objects, References(registrar, assignment.token)),
            kernel=kernel.let_go,
            verify=config.verify is VerifyMode.OPEN,
            fetch=config.fetch,
            whole_up_to=config.open_wait_bytes,
            traffic=Traffic(config.max_connections, config.bwlimit),
        ) as engine,
        background() as nursery,
    ):
        nursery.start_soon(questions.run)
        engine.cache.objects.gather(GATHER)
        news = engine.cache.news
        if generation == 0:
            news.skip()
        else:
            news.rewind()
        await nursery.start(say_served, engine.cache)
        if generation == 0:
            await apply_limits(engine.cache, config.cache_size, config.min_free)
        warning = await _warnings(engine) if generation == 0 else None
        watch = Watch(engine.namespace, config.ttl, kernel.forget_folder)
        kernel.namespace = engine.namespace
        if generation > 0:
            kernel.retire_all(engine.cache.objects.removal.lost)
            # What the predecessor told the kernel is our promise now.
            for folder in engine.namespace.listed_since(time.time() - late):
                watch.used(folder)
            if engine.namespace.root.listed_at is None:
                # The index was lost with it, and what was promised. Names are looked up again.
                kernel.forget_folder(engine.namespace.root.id)
        attributes = Attributes(
            engine.namespace.root.id, uid=os.getuid(), gid=os.getgid(), name_timeout=late, ttl=config.ttl
        )
        filesystem = FileSystem(
            engine.namespace,
            engine.fetcher,
            open_mode=config.open_mode,
            open_wait_bytes=config.open_wait_bytes,
            used=watch.used,
            expected=partial(kernel.expect, attributes),
        )
        adapter = Adapter(filesystem, attributes, begun=kernel.reached)
        pyfuse3.init(adapter, f"/dev/fd/{fuse_fd}", {"default_permissions"})
        nursery.start_soon(watch.run)
        nursery.start_soon(kernel.run)
        hearing = Hearing(engine.cache, engine.namespace.root.id, kernel, changed, watch.take_all_back)
        nursery.start_soon(hearing.run)
        if config.scrub != float("inf"):
            nursery.start_soon(scrub, engine, config.scrub)

        def opened(opens: Opens) -> None:
            """Note what the keeper opened without asking."""
            engine.cache.objects.touch_many(opens.nodes)

        nursery.start_soon(keep_house, engine.cache)
        nursery.start_soon(pinned.run, engine)
        supervisor.prepared(warning)
        with trio.CancelScope() as serving:
            nursery.start_soon(_answer, supervisor, engine, filesystem, kernel, serving, opened)
            try:
                await pyfuse3.main(max_tasks=TASKS)
            finally:
                pyfuse3.close(unmount=False)


async def _warnings(engine: Engine) -> str | None:
    """What a user should know at the start: no origin, no room. Raises as `check_source`."""
    found = [await engine.namespace.check_source()]
    room = engine.cache.space.room()
    if room.left <= 0 and room.disk_is_short:
        found.append(
            "the disk of the cache has less free than --min-free wants: only what is evicted makes room "
            "for more ('mirror du' shows how much)"
        )
    return "; ".join(each for each in found if each) or None


async def _answer(
    supervisor: WorkerEnd,
    engine: Engine,
    filesystem: FileSystem,
    kernel: Kernel,
    serving: trio.CancelScope,
    opened: Callable[[Opens], None],
) -> None:
    """Answer the keeper's questions, and pass on its news, until it tells this process to end."""
    while True:
        await trio.lowlevel.wait_readable(supervisor.fileno())
        match supervisor.receive():
            case Request.STATS:
                supervisor.stats(json.dumps(_stats(engine, filesystem, kernel)))
            case Opens() as opens:
                opened(opens)
            case Request.QUIT:
                # Whoever still waits for the origin waits in vain: the mount is gone.
                serving.cancel()
                return


def _stats(engine: Engine, filesystem: FileSystem, kernel: Kernel) -> dict[str, int | bool | None]:
    """Counters of this worker since it started, as `mirror status` shows them."""
    counters: dict[str, int | bool | None] = asdict(filesystem.counters) | asdict(engine.fetcher.counters)
    counters["bytes_fetched"] = engine.fetcher.bytes_fetched
    counters["remote_requests"] = engine.remote.requests
    counters["connections"] = engine.fetcher.requests_under_way
    counters["bwlimit"] = PROCESS.rate
    counters["fills_running"] = engine.fetcher.running
    counters["evicted"] = engine.cache.objects.eviction.evicted
    counters["news"] = kernel.told
    counters["origin_down"] = engine.namespace.health.down
    return counters
