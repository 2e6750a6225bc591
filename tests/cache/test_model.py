"""When two statements about a name can be about one version."""

from __future__ import annotations

import pytest

from cache import Changes, Entry, Kind, same_version

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
T = 28_333_333 * MINUTE  # a whole minute


def entry(**more: object) -> Entry:
    return Entry("a", Kind.FILE, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "seen", "same"),
    [
        # Nothing known contradicts nothing.
        (entry(), entry(), True),
        (entry(size=1), entry(), True),
        (entry(), entry(size=1), True),
        (entry(size=1), entry(size=1), True),
        (entry(size=1), entry(size=2), False),
        (entry(size=0), entry(), True),
        (entry(size=0), entry(size=1), False),
        # Validators.
        (entry(validator="etag:a"), entry(), True),
        (entry(), entry(validator="etag:a"), True),
        (entry(validator="etag:a"), entry(validator="etag:a"), True),
        (entry(validator="etag:a"), entry(validator="etag:b"), False),
        (entry(validator="etag:a", size=1), entry(validator="etag:a", size=2), False),
        # Times, at the coarser resolution of both.
        (entry(mtime_ns=T), entry(), True),
        (entry(mtime_ns=T), entry(mtime_ns=T), True),
        (entry(mtime_ns=T), entry(mtime_ns=T + SECOND), False),
        (entry(mtime_ns=T), entry(mtime_ns=T + 1), True),
        (entry(mtime_ns=T, mtime_resolution_ns=1), entry(mtime_ns=T + 1, mtime_resolution_ns=1), False),
        (entry(mtime_ns=T, mtime_resolution_ns=MINUTE), entry(mtime_ns=T + 59 * SECOND), True),
        (entry(mtime_ns=T + 59 * SECOND), entry(mtime_ns=T, mtime_resolution_ns=MINUTE), True),
        (entry(mtime_ns=T, mtime_resolution_ns=MINUTE), entry(mtime_ns=T + 60 * SECOND), False),
        (entry(mtime_ns=T, validator="etag:a"), entry(mtime_ns=T + SECOND, validator="etag:a"), False),
        # Kinds. A folder is a folder, whenever and however large.
        (entry(), Entry("a", Kind.FOLDER), False),
        (Entry("a", Kind.FOLDER), entry(), False),
        (Entry("a", Kind.FOLDER, mtime_ns=T), Entry("a", Kind.FOLDER, mtime_ns=T + MINUTE), True),
    ],
)
def test_same_version(known: Entry, seen: Entry, same: bool) -> None:
    assert same_version(known, seen) is same


def test_changes_are_false_when_there_are_none() -> None:
    assert not Changes()
    assert Changes(changed=[(None, None)])  # type: ignore[list-item]
