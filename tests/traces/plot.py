"""Draw docs/eviction.svg: ``python -m tests.traces.plot`` (needs ``pip install -e '.[plot]'``)."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.traces.simulate import LRU, OPTIMUM, OURS, S3_FIFO, SIEVE, outcome

TARGET = Path(__file__).parents[2] / "docs" / "eviction.svg"

BARS = ("ml-epochs", "sharded", "scan", "move")
COLOURS = {LRU: "#9aa5b1", SIEVE: "#e69f00", S3_FIFO: "#56b4e9", OURS: "#0b5394", OPTIMUM: "#333333"}
"""In the order of the bars; distinct for the colour-blind, and in grey."""
EPOCHS = {"ml-epochs": [3000] * 8, "move": [1380] * 6 + [720] * 14}
"""Opens of each epoch, with those of the validation set."""
LABELS = {OURS: "mirror", OPTIMUM: "offline optimum (Belady)"}


def bars(axes: Axes) -> None:
    """One group for each trace."""
    width = 0.16
    for number, (policy, colour) in enumerate(COLOURS.items()):
        at = [group + (number - (len(COLOURS) - 1) / 2) * width for group in range(len(BARS))]
        ratios = [outcome(policy, name).byte_ratio for name in BARS]
        drawn = axes.bar(at, ratios, width * 0.92, label=LABELS.get(policy, policy), color=colour)
        if policy == OPTIMUM:
            for bar in drawn.patches:
                bar.set(facecolor="white", edgecolor=colour, hatch="////")
        axes.bar_label(drawn, fmt="%.2f", fontsize=7.5, padding=2)
    axes.set_xticks(range(len(BARS)), BARS)
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("hit ratio, by bytes")
    axes.set_title("All recorded traces", loc="left", fontsize=11)
    axes.legend(loc="upper left", ncols=len(COLOURS), frameon=False, fontsize=9, handlelength=1.2)


def over_time(axes: Axes, name: str) -> None:
    """One line for each policy, with a point for each epoch."""
    lengths = EPOCHS[name]
    for policy, colour in COLOURS.items():
        axes.plot(
            range(1, len(lengths) + 1),
            list(outcome(policy, name).by_part(lengths)),
            color=colour,
            marker="o",
            markersize=4 if policy == OURS else 2.5,
            linewidth=2.4 if policy == OURS else 1.3,
            linestyle=(0, (4, 2)) if policy == OPTIMUM else "-",
            zorder=3 if policy == OURS else 2,
        )
    axes.set_xticks(range(1, len(lengths) + 1))
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("epoch")
    axes.set_title(f"{name}, epoch by epoch", loc="left", fontsize=11)


def main() -> None:
    """Draw it."""
    mpl.rcParams |= {
        "font.family": "sans-serif",
        "svg.fonttype": "none",
        "svg.hashsalt": "eviction",
        "hatch.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": "#e4e7eb",
        "axes.axisbelow": True,
    }
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplot_mosaic([["bars", "bars"], ["ml-epochs", "move"]])
    bars(axes["bars"])
    over_time(axes["ml-epochs"], "ml-epochs")
    axes["ml-epochs"].set_ylabel("hit ratio, by bytes")
    right = axes["move"]
    over_time(right, "move")
    right.axvline(6.5, color="#7b8794", linewidth=0.9, linestyle=":")
    right.text(6.65, 0.03, "another data set", fontsize=8, color="#52606d")
    figure.savefig(TARGET, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
