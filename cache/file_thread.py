"""Work on files: on the event loop where it takes a moment, else by `_files`' thread.

Making, writing and naming a small file takes less time than going to a thread for it. That changes for
several files at once, and while the disk syncs, for then the file system makes everybody wait who does so.
This thread works and waits in the loop's place, and needs no interpreter for it.

The pieces of large files have a thread of their own: one of Python's takes two changes of who has the
interpreter for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import trio

from cache import _files

Job: TypeAlias = "_files.Job[trio.lowlevel.Task | None]"


MANY = 3
"""From so many jobs on the way to the thread is worth it."""


class FileThread:
    """The thread of one trio run."""

    def __init__(self) -> None:
        self._thread: _files.Thread[trio.lowlevel.Task | None] = _files.Thread()

    async def do(self, *jobs: Job) -> None:
        """Have jobs done, after those that were asked for before.

        They are done whatever happens: who is cancelled hears of it when it next waits for something.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._thread.submit([*jobs], trio.lowlevel.current_task())
        await trio.lowlevel.wait_task_rescheduled(_not_now)

    async def _hear(self) -> None:
        try:
            while True:
                await trio.lowlevel.wait_readable(self._thread.fileno())
                for job in self._thread.done():
                    if job.token is not None:
                        trio.lowlevel.reschedule(job.token)
        finally:
            self._thread.close()


def _not_now(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


_Run: TypeAlias = "trio.lowlevel.RunVar[FileThread]"
_small: _Run = trio.lowlevel.RunVar("cache.file_thread.small")
_large: _Run = trio.lowlevel.RunVar("cache.file_thread.large")


def file_thread(*, large: bool = False) -> FileThread:
    """One of this trio run; it is started when it is first needed, and ends with the run.

    ``large``: that for pieces of large files, behind which no small one has to wait.
    """
    which = _large if large else _small
    try:
        return which.get()
    except LookupError:
        made = FileThread()
        which.set(made)
        trio.lowlevel.spawn_system_task(made._hear)  # noqa: SLF001 - it is its own
        return made


async def done(job: Job, *, waits: bool) -> Job:
    """Do a job, in the thread when it ``waits`` for the disk; returns it."""
    if waits:
        await file_thread().do(job)
    else:
        job.run_at_once()
    return job


async def all_done(jobs: Sequence[Job], *, waits: bool) -> None:
    """Do jobs: in the thread, where others compute meanwhile, unless it is a few of them that do not wait."""
    if jobs and (waits or len(jobs) >= MANY):
        await file_thread().do(*jobs)
    else:
        for job in jobs:
            job.run_at_once()
