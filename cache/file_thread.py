"""Work on files: on the event loop where it takes a moment, else by `_files`' thread.

Making, writing and naming a small file usually takes less time than going to a thread for it. That changes
while the disk syncs, for then the file system makes everybody wait who does so; and there are file systems,
and states of them, that are slower by far (ext4 passes over every inode that was deleted in the last five
minutes). This thread waits in the loop's place, does what a file needs in one go, and needs no interpreter
for it.
"""

from __future__ import annotations

import time
from typing import TypeAlias

import trio

from cache import _files

Job: TypeAlias = "_files.Job[trio.lowlevel.Task]"

SLOW = 150e-6
"""Seconds of a job from which on the way to the thread, some 50 µs, is worth it."""
LOOKS = 16
"""While jobs are slow, every such one is done on the loop: they may have become quick again."""


class FileThread:
    """The thread of one trio run."""

    def __init__(self) -> None:
        self._thread: _files.Thread[trio.lowlevel.Task] = _files.Thread()
        self._usual = 0.0
        """Seconds that a job takes on the loop, of the last few."""
        self._jobs = 0

    async def do_well(self, job: Job) -> Job:
        """Have a job done by whoever delays the loop less; returns it."""
        self._jobs += 1
        if self._usual > SLOW and self._jobs % LOOKS:
            return await self.do(job)
        began = time.perf_counter()
        job.run_at_once()
        self._usual += (time.perf_counter() - began - self._usual) / 8
        return job

    async def do(self, job: Job) -> Job:
        """Have a job done, after those that were asked for before; returns it.

        It is done whatever happens: who is cancelled hears of it when it next waits for something.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._thread.submit(job, trio.lowlevel.current_task())
        await trio.lowlevel.wait_task_rescheduled(_not_now)
        return job

    async def _hear(self) -> None:
        try:
            while True:
                await trio.lowlevel.wait_readable(self._thread.fileno())
                for job in self._thread.done():
                    trio.lowlevel.reschedule(job.token)
        finally:
            self.close()

    def close(self) -> None:
        """End the thread, once what it was asked for is done."""
        self._thread.close()


def _not_now(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


_file_thread: trio.lowlevel.RunVar[FileThread] = trio.lowlevel.RunVar("cache.file_thread")


def file_thread() -> FileThread:
    """The one of this trio run; it is started when it is first needed, and ends with the run."""
    try:
        return _file_thread.get()
    except LookupError:
        made = FileThread()
        _file_thread.set(made)
        trio.lowlevel.spawn_system_task(made._hear)  # noqa: SLF001 - it is its own
        return made


async def done(job: Job, *, waits: bool) -> Job:
    """Do a job, in the thread when it ``waits`` for the disk or is slow for another reason; returns it."""
    thread = file_thread()
    return await (thread.do(job) if waits else thread.do_well(job))
