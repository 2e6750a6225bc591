"""Rows of the bench, and how a ratio is made of noisy samples.

A shared machine drifts: its speed now says little about its speed a minute ago. So the sides of a
comparison take turns, round by round in changing order, a ratio is formed within each round, and the
row's ratio is the median of those. Absolute figures are medians as well and only illustrate.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

OURS = "ours"
REFERENCE = "reference"
PLAIN = "plain"
"""The sides of a comparison; PLAIN is the same mount with passthrough switched off."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one row compares, and what it has to reach."""

    key: str
    title: str
    against: str
    unit: str
    must: float | None = None
    """Limit of the ratio ours/reference; None: for information only."""
    aim: float | None = None
    more_is_better: bool = False
    """True for rates: the ratio must be at least the limit. False for times and sizes: at most."""
    absolute: bool = False
    """The reference is 1 of the unit: the ratio is the figure itself."""

    def within(self, ratio: float, limit: float | None) -> bool | None:
        """Whether a ratio keeps a limit; None when there is no limit."""
        if limit is None:
            return None
        return ratio >= limit if self.more_is_better else ratio <= limit


Samples = Mapping[str, list[float]]
"""Side → one figure per round, in the row's unit."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one row came to."""

    row: Row
    samples: Samples
    notes: Mapping[str, object] = field(default_factory=dict)
    """Further figures, for the JSON."""

    def median(self, side: str) -> float | None:
        """The middle figure of one side; None where it was not measured."""
        return statistics.median(self.samples[side]) if side in self.samples else None

    @property
    def ratio(self) -> float:
        """The median over the rounds of ours / reference."""
        pairs = zip(self.samples[OURS], self.samples[REFERENCE], strict=True)
        return statistics.median(ours / reference for ours, reference in pairs)

    @property
    def ok(self) -> bool | None:
        """Whether it is what it must be."""
        return self.row.within(self.ratio, self.row.must)

    @property
    def aim_ok(self) -> bool | None:
        """Whether it is what it aims at."""
        return self.row.within(self.ratio, self.row.aim)

    def as_json(self) -> dict[str, object]:
        """All of it, for scripts."""
        row = self.row
        return {
            "key": row.key,
            "title": row.title,
            "against": row.against,
            "unit": row.unit,
            "more_is_better": row.more_is_better,
            "ours": self.median(OURS),
            "reference": self.median(REFERENCE),
            "plain": self.median(PLAIN),
            "ratio": self.ratio,
            "must": row.must,
            "aim": row.aim,
            "ok": self.ok,
            "aim_ok": self.aim_ok,
            "samples": dict(self.samples),
            "notes": dict(self.notes),
        }


def take_turns(rounds: int, sides: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure every side once per round; each round begins with another side."""
    samples: dict[str, list[float]] = {side: [] for side in sides}
    order = list(sides)
    for number in range(rounds):
        shift = number % len(order)
        for side in order[shift:] + order[:shift]:
            samples[side].append(sides[side]())
    return samples
