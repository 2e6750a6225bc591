"""Work on files: on the event loop where it takes a moment, else by `_files`' thread.

Making, writing and naming a small file takes less time than going to a thread for it. That changes while
the disk syncs, for then the file system makes everybody wait who does so. This thread waits in the loop's
place, does what a file needs in one go, and needs no interpreter for it.
"""

from __future__ import annotations

from typing import TypeAlias

import trio

from cache import _files

Job: TypeAlias = "_files.Job[trio.lowlevel.Task]"


class FileThread:
    """The thread of one trio run."""

    def __init__(self) -> None:
        self._thread: _files.Thread[trio.lowlevel.Task] = _files.Thread()

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
    """Do a job, in the thread when it ``waits`` for the disk; returns it."""
    return await file_thread().do(job) if waits else job.run_at_once()
