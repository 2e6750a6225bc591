"""The rows about eviction: hit ratios on the recorded traces, against LRU.

Nothing is timed and nothing is mounted: the figures are the same on every machine. Hit ratios are by bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.measure import OURS, REFERENCE, Result, Row
from tests.traces import simulate

GROUP = "eviction"
"""All rows of this module, for ``--only``."""

_LIMITS = {"ml-epochs": (1.25, 1.3), "sharded": (1.6, 1.8), "scan": (1.4, 1.5), "move": (1.0, 1.02)}
"""Trace → what ours / LRU must be, and what it aims at."""
_TRACES = {f"{GROUP}_{name.replace('-', '_')}": name for name in _LIMITS}

ROWS = tuple(
    Row(key, f"hit ratio, {name}", "LRU", "", *_LIMITS[name], more_is_better=True)
    for key, name in _TRACES.items()
)


def measure(wanted: set[str]) -> Iterator[Result]:
    """Measure the rows that are wanted."""
    for row in ROWS:
        if row.key in wanted:
            yield _compare(row, _TRACES[row.key])


def _compare(row: Row, name: str) -> Result:
    outcomes = {policy: simulate.outcome(policy, name) for policy in simulate.POLICIES}
    by_bytes = {policy: outcome.byte_ratio for policy, outcome in outcomes.items()}
    ours = by_bytes[simulate.OURS]
    notes = {
        "optimum": by_bytes[simulate.OPTIMUM],
        "of_optimum": ours / by_bytes[simulate.OPTIMUM],
        "by_bytes": by_bytes,
        "by_opens": {policy: outcome.ratio for policy, outcome in outcomes.items()},
    }
    return Result(row, {OURS: [ours], REFERENCE: [by_bytes[simulate.LRU]]}, notes)
