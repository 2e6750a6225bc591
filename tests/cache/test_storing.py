"""Bytes that two requests bring are written once, so that their checksums stay."""

from __future__ import annotations

import os
import random
from itertools import pairwise

from cache import Cache, State
from mirror.fetch import storing
from tests.cache.support import content, file, files, fill

SIZE = 300_000


async def test_bytes_that_come_twice_keep_their_checksums(cache: Cache) -> None:
    """Whatever of it comes once more, in whatever pieces: it is checked against all of the file later."""
    dice = random.Random(4)
    nodes = await files(cache, *(file(f"{number}", SIZE) for number in range(10)))
    for node in nodes:
        points = [0, *(dice.randrange(1, SIZE) for _ in range(10)), SIZE]
        filler = fill(cache, node)
        while not filler.present.covers(0, SIZE):
            start, *between, stop = sorted(dice.sample(points, 4))
            pieces = [content(node.id, first, last) for first, last in pairwise([start, *between, stop])]
            await storing.write(cache.objects, filler, start, [*pieces], stop - start)
        os.close(filler.complete())
    await cache.objects.sync()
    for node in nodes:
        assert (await cache.verification.check(node)).state is State.GOOD
