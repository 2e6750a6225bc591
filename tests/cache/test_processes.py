"""Several processes with one cache: each byte is fetched once, and everybody sees it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from cache import Cache
from tests.cache.process import FILES, SIZE
from tests.cache.support import complete, content, file, files, fill, read_all, write


class Other:
    """Another process, which is ready when it is made and has opened the cache after `go`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


@contextmanager
def other(what: str, home: Path) -> Iterator[Other]:
    command = [sys.executable, "-m", "tests.cache.process", what, str(home)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            opened = Other(process)
            assert opened.heard() == "ready"
            yield opened
        finally:
            process.kill()


def test_each_file_is_fetched_once_by_whoever_comes_first(home: Path) -> None:
    """Six processes make one new cache at once, and warm it."""
    with (
        other("warm", home) as a,
        other("warm", home) as b,
        other("warm", home) as c,
        other("warm", home) as d,
        other("warm", home) as e,
        other("warm", home) as f,
    ):
        everybody = (a, b, c, d, e, f)
        for one in everybody:
            one.go()
        fetched = [name for one in everybody for name in one.process.communicate()[0].split()]
        assert [one.process.returncode for one in everybody] == [0] * 6
    assert sorted(fetched, key=int) == [str(number) for number in range(FILES)]


async def test_a_killed_filler_is_replaced_where_its_extents_end(home: Path) -> None:
    with other("half", home) as holder:
        holder.go()
        assert holder.heard() == "half"
        async with Cache.open(home) as cache:
            (node,) = await files(cache, file("a", SIZE))
            assert cache.objects.fill(node) is None
            assert list(cache.objects.state(node).extents) == [(0, SIZE // 2)]
            assert cache.objects.partials.read(node, 100, 1000) == content(node.id, 100, 1100)
            assert cache.objects.open_complete(node) is None
            await cache.objects.drop(node)
            holder.process.kill()
            holder.process.wait()
            filler = fill(cache, node)
            assert filler.present.gaps(0, SIZE) == [(SIZE // 2, SIZE)], "what is being filled is not dropped"
            write(filler, SIZE // 2, SIZE)
            assert read_all(filler.complete()) == content(node.id, 0, SIZE)


async def test_what_another_process_completed_is_served_before_it_is_sealed(home: Path) -> None:
    with other("unsealed", home) as holder:
        holder.go()
        assert holder.heard() == "complete"
        async with Cache.open(home) as cache:
            (node,) = await files(cache, file("a", SIZE))
            assert cache.objects.state(node).complete
            assert cache.objects.fill(node) is None
            assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, SIZE)
            holder.process.kill()
            holder.process.wait()
            # Now nobody vouches for it any more.
            assert not cache.objects.state(node).complete
            complete(cache, node)
            assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, SIZE)


async def test_a_reader_of_what_another_process_writes_gets_right_bytes_only(home: Path) -> None:
    with other("slowly", home) as writer:
        async with Cache.open(home) as cache:
            (node,) = await files(cache, file("a", SIZE))
            right = content(node.id, 0, SIZE)
            writer.go()
            seen: set[int] = set()
            while not (state := cache.objects.state(node)).complete:
                for start, stop in state.extents:
                    assert cache.objects.partials.read(node, start, stop - start) == right[start:stop]
                    if not seen:
                        writer.go()  # it waits half-way, so that it is seen to grow
                    seen.add(stop)
                await trio.lowlevel.checkpoint()
            assert read_all(cache.objects.open_complete(node)) == right
            assert seen
        writer.process.wait()
        assert writer.process.returncode == 0
