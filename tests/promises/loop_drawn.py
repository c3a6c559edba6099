"""The picture of the days that the loop lived through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from router.types import Floats
from tests.kit.days import Day
from training.report.drawing import svg

WAYS = (
    ("Leadline", "#1f5fbf", "o"),
    ("best constant arm of the day", "#c77700", "s"),
    ("oracle", "#2e7d32", "^"),
)
MODELS = ("#9ecae1", "#4292c6", "#08519c", "#756bb1", "#fd8d3c")
"""Of models in the order in which they were offered."""


def drawn(days: Sequence[Day], value_usd: float, events: Mapping[int, str]) -> str:
    """Worth, accuracy and cost a day beside the best constant and the oracle; who answered."""
    return svg("days", partial(_days, days, value_usd, events), width=9.0, height=10.0)


def _days(days: Sequence[Day], value_usd: float, events: Mapping[int, str], figure: Figure) -> None:
    every = figure.subplots(4, 1, sharex=True, height_ratios=(3, 3, 3, 2))
    worth = 1e3 * np.array([each.worth_usd(value_usd) for each in days]).T
    cost = 1e3 * np.array(
        [(each.cost_usd, each.constant_cost_usd, each.oracle_cost_usd) for each in days]
    )
    accuracy = np.array(
        [(each.accuracy, each.constant_accuracy, each.oracle_accuracy) for each in days]
    )
    place = [each.day for each in days]
    events = {day: told for day, told in events.items() if day in place}
    _lines(every[0], place, worth, f"worth, USD per 1,000\n(${value_usd:g} a right answer)")
    _lines(every[1], place, accuracy.T, "accuracy")
    _lines(every[2], place, cost.T, "cost, USD per 1,000")
    every[2].set_ylim(bottom=0.0)
    _models(every[3], days)
    for axes in every:
        for day in events:
            axes.axvline(day - 0.5, color="#555555", lw=0.9, ls=":")
        axes.set_xlim(place[0] - 0.5, place[-1] + 0.5)
    for day, told in events.items():
        every[0].annotate(
            told, (day - 0.45, 1.02), xycoords=("data", "axes fraction"), fontsize=8, va="bottom"
        )
    every[1].legend(fontsize=8, loc="lower right", ncols=3)
    every[3].set_xticks(place)
    every[3].set_xlabel("day")


def _lines(axes: Axes, place: Sequence[int], values: Floats, told: str) -> None:
    """Leadline's figures, the best constant's and the oracle's, (3, d), over days (d,)."""
    for (name, colour, marker), own in zip(WAYS, values, strict=True):
        axes.plot(place, own, color=colour, marker=marker, ms=4, lw=1.6, label=name)
    axes.set_ylabel(told)


def _models(axes: Axes, days: Sequence[Day]) -> None:
    names = list(dict.fromkeys(name for each in days for name in sorted(each.models)))
    below = np.zeros(len(days))
    for name, colour in zip(names, MODELS, strict=False):
        share = np.array([each.share_of(name) for each in days])
        axes.bar([each.day for each in days], share, bottom=below, color=colour, label=name)
        below += share
    axes.set_ylabel("who answered")
    axes.set_ylim(0.0, 1.0)
    axes.grid(visible=False)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=len(names))
