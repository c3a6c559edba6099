"""The figure of new arms: how far predictions are off, by the outcomes of the arm."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from training.benchmark.results import Results
from training.benchmark.shown import NEW_ARM_LABELS

_COLOURS = {"adapted": "#b3261e", "retrained": "#1f5fbf", "constant": "#757575"}
_APART = 0.08  # so that error bars stand side by side


def draw(axes: Axes, results: Results) -> None:
    """Draws the Brier score of each way over the numbers of outcomes, evenly spaced."""
    counts = list(dict.fromkeys(each.outcomes for each in results.new_arms))
    for place, (way, colour) in enumerate(_COLOURS.items()):
        found = [
            (counts.index(each.outcomes), each.brier.estimate, each.brier.low, each.brier.high)
            for each in results.new_arms
            if each.way == way and each.brier
        ]
        if not found:
            continue
        where, middle, low, high = np.array(found).T
        ends = np.maximum((middle - low, high - middle), 0.0)
        label = NEW_ARM_LABELS[way]
        axes.errorbar(
            where + _APART * place, middle, yerr=ends, fmt="o-", color=colour, ms=4, label=label
        )
    axes.set_xticks(range(len(counts)), ["all" if each is None else f"{each:,}" for each in counts])
    axes.set_xlabel("outcomes of the new arm")
    axes.set_ylabel("Brier score on unseen queries")
    axes.legend(fontsize=8)
