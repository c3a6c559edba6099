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
UNDER_FLOOR = (
    "Leadline",
    "cheapest constant arm that meets the floor that day",
    "oracle that meets it",
)
RED = "#b00020"
MODELS = ("#9ecae1", "#4292c6", "#08519c", "#756bb1", "#fd8d3c")
"""Of models in the order in which they were offered."""


def drawn(days: Sequence[Day], value_usd: float, events: Mapping[int, str]) -> str:
    """Worth, accuracy and cost a day beside the best constant and the oracle; who answered."""
    return svg("days", partial(_at_value, days, value_usd, events), width=9.0, height=10.0)


def drawn_under_floor(days: Sequence[Day], floor: float, events: Mapping[int, str]) -> str:
    """Accuracy and cost a day beside the cheapest that meets the floor; who answered."""
    return svg("floor", partial(_under_floor, days, floor, events), width=9.0, height=8.5)


def _at_value(
    days: Sequence[Day], value_usd: float, events: Mapping[int, str], figure: Figure
) -> None:
    every = figure.subplots(4, 1, sharex=True, height_ratios=(3, 3, 3, 2)).tolist()
    place, names = [each.day for each in days], [name for name, _, _ in WAYS]
    worth = 1e3 * np.array([each.worth_usd(value_usd) for each in days]).T
    told = f"worth, USD per 1,000\n(${value_usd:g} a right answer)"
    _lines(every[0], place, worth, told, names)
    _accuracy_and_cost(every[1:3], days, names)
    _finish(figure, every, days, events)


def _under_floor(
    days: Sequence[Day], floor: float, events: Mapping[int, str], figure: Figure
) -> None:
    every = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2)).tolist()
    _accuracy_and_cost(every[:2], days, UNDER_FLOOR)
    every[0].axhline(floor, color=RED, lw=1.2, ls="--", label=f"floor {floor:g}")
    certified = [each.day for each in days if each.certified]
    at = np.full(len(certified), floor)
    told = "certified at the day's end"
    every[0].plot(certified, at, ls="", marker="|", ms=10, mew=2, color=RED, label=told)
    every[0].margins(y=0.1)
    _finish(figure, every, days, events)


def _accuracy_and_cost(every: Sequence[Axes], days: Sequence[Day], names: Sequence[str]) -> None:
    place = [each.day for each in days]
    accuracy = _figures(days, ("expected", "constant_accuracy", "oracle_accuracy"))
    cost = _figures(days, ("cost_usd", "constant_cost_usd", "oracle_cost_usd"))
    _lines(every[0], place, accuracy, "true mean accuracy", names)
    _lines(every[1], place, 1e3 * cost, "cost, USD per 1,000", names)
    every[1].set_ylim(bottom=0.0)


def _figures(days: Sequence[Day], names: Sequence[str]) -> Floats:
    return np.array([[getattr(each, name) for each in days] for name in names])


def _finish(
    figure: Figure, every: Sequence[Axes], days: Sequence[Day], events: Mapping[int, str]
) -> None:
    """Who answered, what happened when, and the legend above it all, where nothing is drawn."""
    _models(every[-1], days)
    place = [each.day for each in days]
    known = {day: told for day, told in events.items() if day in place}
    for axes in every:
        for day in known:
            axes.axvline(day - 0.5, color="#555555", lw=0.9, ls=":")
        axes.set_xlim(place[0] - 0.5, place[-1] + 0.5)
    for day, told in known.items():
        at = (day - 0.45, 1.02)
        every[0].annotate(told, at, xycoords=("data", "axes fraction"), fontsize=8, va="bottom")
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside upper center", ncols=3)
    every[-1].set_xticks(place)
    every[-1].set_xlabel("day")


def _lines(
    axes: Axes, place: Sequence[int], values: Floats, told: str, names: Sequence[str]
) -> None:
    """Leadline's figures, the best constant's and the oracle's, (3, d), over days (d,)."""
    for name, (_, colour, marker), own in zip(names, WAYS, values, strict=True):
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
