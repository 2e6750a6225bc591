"""The programs whose opens were recorded: ``python -m tests.traces.loops [NAME]…`` records them again.

Each reads real files, in processes of its own that nobody keeps in step, as the programs do that it stands
for. The files are sparse, so that they take no disk.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path

from tests.traces.record import record
from tests.traces.trace import FOLDER, SUFFIX, save

KiB, MiB = 1 << 10, 1 << 20
WORKERS = 4
BATCH = 10


@dataclass(frozen=True, slots=True)
class Loop:
    """One program."""

    about: str
    make: Callable[[Path], int]
    """Makes its files; returns the size of the cache that the trace is about."""
    run: Callable[[Path], None]


def make_files(folder: Path, count: int, median: int, spread: float, *, seed: str, suffix: str) -> int:
    """Make files of log-normal sizes; returns the bytes of them all."""
    folder.mkdir(parents=True)
    sizes = random.Random(seed)
    total = 0
    for number in range(count):
        size = max(KiB, int(median * sizes.lognormvariate(0, spread)))
        with (folder / f"{number:05d}.{suffix}").open("wb") as file:
            file.truncate(size)
        total += size
    return total


def read(paths: Sequence[Path]) -> int:
    """Read files from the first byte to the last, one after the other."""
    total = 0
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while data := file.read(MiB):
                total += len(data)
    return total


def files(folder: Path) -> list[Path]:
    """The files of a folder, in order."""
    return sorted(folder.iterdir())


def batches(paths: Sequence[Path]) -> list[Sequence[Path]]:
    """As a data loader hands them to its workers."""
    return [paths[at : at + BATCH] for at in range(0, len(paths), BATCH)]


def train(
    pool: Pool, paths: Sequence[Path], validation: Sequence[Path], *, epochs: int, every: int, seed: str
) -> None:
    """Shuffled epochs; after every so many batches, and after each epoch, the whole validation set."""
    order, shuffle = list(paths), random.Random(seed)
    for _ in range(epochs):
        shuffle.shuffle(order)
        steps = batches(order)
        for at in range(0, len(steps), every):
            for _ in pool.imap(read, steps[at : at + every]):
                pass
            for _ in pool.imap(read, batches(validation)):
                pass


def workers() -> Pool:
    """The processes of a data loader."""
    return multiprocessing.get_context("spawn").Pool(WORKERS)


def make_ml_epochs(folder: Path) -> int:
    """Images of about 110 KB."""
    make_files(folder / "val", 100, 110 * KiB, 0.5, seed="val", suffix="jpg")
    return make_files(folder / "train", 2000, 110 * KiB, 0.5, seed="train", suffix="jpg") // 2


def run_ml_epochs(folder: Path) -> None:
    """8 epochs over twice the cache."""
    with workers() as pool:
        train(pool, files(folder / "train"), files(folder / "val"), epochs=8, every=20, seed="epochs")


def make_sharded(folder: Path) -> int:
    """Shards of about 12 MiB, each with a small index beside it."""
    make_files(folder / "index", 300, 3 * KiB, 0.2, seed="index", suffix="json")
    make_files(folder / "val", 12, 12 * MiB, 0.1, seed="val", suffix="tar")
    return make_files(folder / "train", 300, 12 * MiB, 0.3, seed="train", suffix="tar") // 2


def read_shards(shards: Sequence[Path]) -> int:
    """One worker's shards in order, through a shuffle buffer: two are open at any time."""
    buffer: list[Iterator[int]] = []
    pick, total = random.Random(str(shards)), 0
    left = list(shards)
    while left or buffer:
        while left and len(buffer) < 2:
            buffer.append(samples(left.pop(0)))
        chosen = pick.choice(buffer)
        size = next(chosen, None)
        if size is None:
            buffer.remove(chosen)
        else:
            total += size
    return total


def samples(shard: Path) -> Iterator[int]:
    """The samples of one shard, after its index."""
    index = shard.parent.parent / "index" / f"{shard.stem}.json"
    if shard.parent.name == "train":
        read([index])
    with shard.open("rb", buffering=0) as file:
        while data := file.read(MiB):
            yield len(data)


def run_sharded(folder: Path) -> None:
    """10 epochs over twice the cache, each in another order of shards; validation four times in each."""
    order, shuffle = files(folder / "train"), random.Random("shards")
    validation = files(folder / "val")
    quarter = len(order) // 4
    with workers() as pool:
        for _ in range(10):
            shuffle.shuffle(order)
            for at in range(0, len(order), quarter):
                part = order[at : at + quarter]
                pool.map(read_shards, [part[worker::WORKERS] for worker in range(WORKERS)], chunksize=1)
                pool.map(read_shards, [validation[worker::WORKERS] for worker in range(WORKERS)], chunksize=1)


def make_scan(folder: Path) -> int:
    """A project that people work on, and an archive beside it; sizes from 1 KiB to some MiB."""
    cap = make_files(folder / "project", 700, 20 * KiB, 1.5, seed="project", suffix="dat") * 5 // 4
    make_files(folder / "archive", 3000, 20 * KiB, 1.5, seed="archive", suffix="dat")
    return cap


def work_on_project(project: Path, rounds: int, seed: str) -> None:
    """What people and their tools do: all of it now and then, some of it all the time."""
    paths, pick = files(project), random.Random(seed)
    favourites = pick.sample(paths, 100)
    for _ in range(rounds):
        for path in pick.sample(paths, len(paths)):
            read([path])
            if pick.random() < 0.5:
                read([pick.choice(favourites)])


def run_scan(folder: Path) -> None:
    """Work alone, then three rounds of work during each of four backups."""
    spawn = multiprocessing.get_context("spawn")
    everything = [*files(folder / "archive"), *files(folder / "project")]
    work_on_project(folder / "project", 2, "before")
    for number in range(4):
        backup = spawn.Process(target=read, args=(everything,))
        backup.start()
        work_on_project(folder / "project", 2, f"during {number}")
        backup.join()
        work_on_project(folder / "project", 1, f"after {number}")


def make_move(folder: Path) -> int:
    """Two data sets: the first one is larger than the cache, the second one a bit smaller."""
    make_files(folder / "val", 60, 110 * KiB, 0.5, seed="val", suffix="jpg")
    first = make_files(folder / "a", 900, 110 * KiB, 0.5, seed="a", suffix="jpg")
    make_files(folder / "b", 480, 110 * KiB, 0.5, seed="b", suffix="jpg")
    return first * 2 // 3


def run_move(folder: Path) -> None:
    """6 epochs of the one, then 14 of the other."""
    with workers() as pool:
        for name, epochs in (("a", 6), ("b", 14)):
            train(pool, files(folder / name), files(folder / "val"), epochs=epochs, every=12, seed=name)


LOOPS = {
    "ml-epochs": Loop(
        "8 shuffled epochs over 2x the cap by 4 workers, validation set every 200 files",
        make_ml_epochs,
        run_ml_epochs,
    ),
    "sharded": Loop(
        "10 epochs over shards of 2x the cap by 4 workers with shuffle buffers, validation shards",
        make_sharded,
        run_sharded,
    ),
    "scan": Loop(
        "work on a project of 0.8x the cap, 4 backups of it and of an archive meanwhile", make_scan, run_scan
    ),
    "move": Loop(
        "6 epochs over data set a of 1.5x the cap, then 14 over b of 0.8x, validation set",
        make_move,
        run_move,
    ),
}


def record_again(name: str) -> int:
    """Record one loop anew; returns the number of opens."""
    loop = LOOPS[name]
    with tempfile.TemporaryDirectory() as scratch:
        cap = loop.make(Path(scratch))
        command = [sys.executable, "-m", "tests.traces.loops", "--run", name, scratch]
        opens = record(Path(scratch), command)
    save(FOLDER / f"{name}{SUFFIX}", {"about": loop.about, "cap": str(cap)}, opens)
    return len(opens)


def main() -> None:
    """Record the loops named, or all."""
    match sys.argv[1:]:
        case ["--run", name, folder]:
            LOOPS[name].run(Path(folder))
        case wanted:
            for name in wanted or LOOPS:
                print(f"{name}: {record_again(name)} opens")


if __name__ == "__main__":
    main()
