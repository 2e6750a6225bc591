"""Checking a whole cache and repairing it: the index in itself, the index against the objects, both ways.

Everything but one thing is safe while others use the cache: it goes by the leases of objects and by the
index's own transactions. To make the index anew, one has to be alone with it. The bytes of objects are not
read again: that is another check.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from cache import damage, errors, index, opening, store
from cache.errors import CacheUnusable
from cache.folder import check_folder, make_folder
from cache.fsck import counts, structure
from cache.fsck.objects import Hands, ObjectCheck
from cache.fsck.result import Finding, Result, Verdict
from cache.layout import OBJECTS
from cache.rebuild import Progress, Report, rebuild
from cache.use import Use

__all__ = ["Finding", "Progress", "Report", "Result", "Verdict", "fsck"]


def fsck(
    cache: Path, *, anew: bool = False, dry_run: bool = False, report: Report = lambda _: None
) -> Result:
    """Check a cache and repair it. Blocks.

    Args:
        cache: its folder.
        anew: throw the index away and make it anew from the objects, whatever state it is in.
        dry_run: change nothing, only say what would be done.
        report: is told how far it is.

    Raises:
        CacheUnusable: the folder is no cache, or the index has to be made anew and others use it.
        CacheFull, CacheBroken: it cannot be repaired: no space, or a disk that fails.
    """
    if not (cache / index.NAME).exists() and not (cache / OBJECTS).exists():
        raise CacheUnusable(f"{cache} holds no cache: nothing to check")
    result = Result(dry_run)
    try:
        counts.check_modes(cache, result)
        if not dry_run:
            make_folder(cache)
        elif not result.findings:
            check_folder(cache)
        if _index_is_right(cache, result, anew=anew, report=report):
            _check(cache, result, report)
    except OSError as exc:
        raise errors.of_os(exc, f"check {cache}") from exc
    except damage.UNREADABLE as exc:
        raise index.failure(cache / index.NAME, exc, "read the index") from exc
    return result


def _index_is_right(cache: Path, result: Result, *, anew: bool, report: Report) -> bool:
    """Make sure of a right index; False: there is none to go on with, in a dry run."""
    file = cache / index.NAME
    with closing(Use(cache)) as use:
        with index.turn(cache):
            why = "it is to be thrown away" if anew else damage.seen(file)
            use.share()
        if why is None:
            version = index.version_of(file)
            index.check_version(version, file)
            if version != index.VERSION:
                if result.dry_run:
                    if version:
                        result.add("index", f"{file} has the older schema {version}", "migrated")
                    return False
                index.prepare(file)
            report(Progress("checking the index", 0, 1))
            why = structure.fault(file)
        if why is None:
            return True
        what = f"the index of {cache} is damaged or lost: {why}" if not anew else f"{file}: {why}"
        if result.dry_run:
            result.add("index", what, "made anew from the objects")
            return False
        with index.turn(cache):
            if not use.alone():
                raise CacheUnusable(
                    f"{what}, and it is in use by another process: end that (mirror status shows mounts), "
                    "then run mirror fsck again"
                )
            rebuilt = rebuild(cache, report)
    result.add("index", what, opening.outcome(rebuilt))
    return True


def _check(cache: Path, result: Result, report: Report) -> None:
    with ExitStack() as stack:
        hands = None
        if not result.dry_run:
            parts, objects = store.start(cache, stack)
            hands = Hands(objects, parts.writer)
        writer = None if hands is None else hands.writer
        db = stack.enter_context(closing(damage.connect_to_read(cache / index.NAME)))
        db.execute("PRAGMA temp_store = FILE")
        counts.check_references(db, writer, result)
        check = ObjectCheck(cache, db, hands, result, report)
        check.check_rows()
        check.check_files()
        counts.check_sums(db, writer, result)
        counts.check_claims(cache, db, writer, result)
