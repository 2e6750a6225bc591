"""Rows about indexing: a bucket of 1,000,000 keys, from a server that only makes pages.

The server is our own (`tests.support.bucket`), and so fast that what is measured is us. The reference gets
the same pages side by side and does nothing with them: what the server and the way to it take. The ratio
says how far we are from them; an origin across a network is slower than this one by far more than that.
"""

from __future__ import annotations

import http.client
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from tests.bench.measure import OURS, REFERENCE, Result, Row, take_turns
from tests.bench.stand import KEY_FOLDERS, Stand, settle
from tests.support.bucket import Bucket, Numbered, bucket
from tests.support.bucket_remote import PEAK
from tests.support.data import MiB

GROUP = "index"
"""All rows of this module, for ``--only``."""

TIME = Row("index_time", "indexing 1,000,000 keys", "receiving their pages", "s", 60, 30)
MEMORY = Row("index_memory", "memory that indexing takes for them", "1 MiB", "MiB", 64, 32, absolute=True)

ROWS = (TIME, MEMORY)

_JOBS = 16
_FEW = Numbered(folders=KEY_FOLDERS, files=20)


def measure(stand: Stand, wanted: set[str]) -> Iterator[Result]:
    """Measure the rows of this module that are wanted."""
    if not wanted & {row.key for row in ROWS}:
        return
    keys = Numbered(KEY_FOLDERS, stand.scale.keys)
    peaks: list[float] = []
    again: list[float] = []
    processor: list[float] = []

    def ours() -> float:
        cache = stand.folder / "index"
        before = _children()
        seconds, peak = _index(server, cache)
        processor.append(_children() - before)
        peaks.append(peak)
        again.append(_index(server, cache)[0])
        shutil.rmtree(cache)
        settle()
        return seconds

    with bucket(keys) as server:
        rounds = min(3, stand.scale.cold_rounds)
        samples = take_turns(rounds, {OURS: ours, REFERENCE: lambda: _receive(server)})
    with bucket(_FEW) as server:
        few = _index(server, stand.folder / "few")[1]
    if TIME.key in wanted:
        rate = len(keys) / statistics.median(samples[OURS])
        yield Result(TIME, samples, _notes(rate, again, processor, peaks))
    if MEMORY.key in wanted:
        grown = [peak - few for peak in peaks]
        yield Result(MEMORY, {OURS: grown, REFERENCE: [1.0] * len(grown)}, {"few_mib": few})


def _notes(rate: float, again: list[float], processor: list[float], peaks: list[float]) -> dict[str, object]:
    return {"keys_per_second": rate, "processor_s": processor, "again_s": again, "peak_mib": peaks}


def _children() -> float:
    """Seconds of the processor that ended processes of ours took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _index(server: Bucket, cache: Path) -> tuple[float, float]:
    """Seconds and MiB of the command."""
    told = cache.with_suffix(".peak")
    source = server.url.replace("http:", "bucket:")
    argv = [sys.executable, "-m", "tests.support.bucket_remote", "index", "--quiet", source]
    began = time.perf_counter()
    subprocess.run(
        [*argv, "--jobs", str(_JOBS), "--cache", str(cache)], env={**os.environ, PEAK: str(told)}, check=True
    )
    return time.perf_counter() - began, int(told.read_text()) / MiB


def _receive(server: Bucket) -> float:
    """Seconds that the pages of all folders take."""
    began = time.perf_counter()
    with ThreadPoolExecutor(_JOBS) as pool:
        for _ in pool.map(lambda number: _pages(server, f"part-{number:04d}/"), range(KEY_FOLDERS)):
            pass
    return time.perf_counter() - began


def _pages(server: Bucket, prefix: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    query = f"/?list-type=2&prefix={quote(prefix)}"
    token = ""
    while True:
        connection.request("GET", query + token)
        body = connection.getresponse().read()
        found = re.search(rb"<NextContinuationToken>([^<]*)", body[:1000])
        if found is None:
            break
        token = "&continuation-token=" + quote(found[1].decode())
    connection.close()
