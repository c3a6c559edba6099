"""The figures of reports: frontier, reliability, and slices against what they had before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from training.benchmark.envelope import Envelope
from training.report.drawing import svg
from training.report.measured import Kind, Point, Reliability, Told
from training.report.page import Figure, literally, plain

_PER = 1_000.0
_MOST_NAMED, _MOST_CHARS, _MOST_SLICES = 12, 44, 24
_BLUE, _RED, _INK = "#1f5fbf", "#b3261e", "#000000"
_COLOURS = {Kind.CANDIDATE: _BLUE, Kind.INCUMBENT: _RED, Kind.CONSTANT: _INK}
_MARKS = {Kind.CANDIDATE: "D", Kind.INCUMBENT: "s", Kind.CONSTANT: "o"}

Against = tuple[str, Told]
"""A slice's name, and by how much it gains."""


def frontier(points: Sequence[Point]) -> Figure | None:
    """Accuracy over cost of those whose both are known; None where fewer than two are."""
    known = [each for each in points if _known(each)]
    if len(known) < 2:
        return None
    left_out = len(points) - len(known)
    more = f" {left_out} of which the log cannot tell are left out." if left_out else ""
    return Figure(
        note=(
            "Mean accuracy against mean cost with 95 % intervals, by doubly robust evaluation on "
            f"the same held-out interactions; dashed, the best mixtures of single arms.{more}"
        ),
        svg=_drawn("frontier", partial(_frontier, known), width=8.6, height=5.2),
    )


def _known(point: Point) -> bool:
    return not (point.accuracy.reason or point.cost_usd.reason)


def _drawn(name: str, draw: partial[None], *, width: float, height: float) -> str:
    return literally(lambda: svg(name, draw, width=width, height=height))


def _frontier(points: Sequence[Point], figure: Canvas) -> None:
    axes = figure.add_subplot()
    constants = [each for each in points if each.kind is Kind.CONSTANT]
    if len(constants) > 1:
        reached = [(_PER * each.cost_usd.estimate, each.accuracy.estimate) for each in constants]
        hull = Envelope.of(np.array(reached))
        axes.plot(hull.cost_usd, hull.accuracy, "--", color=_INK, lw=1.0)
    for kind in reversed(Kind):
        _some(axes, kind, [each for each in points if each.kind is kind])
    costs = [each.cost_usd.estimate for each in points]
    middle = math.sqrt(max(min(costs), 1e-12) * max(*costs, 1e-12))
    if len(constants) <= _MOST_NAMED:
        for each in constants:
            _name(axes, each, left=each.cost_usd.estimate > middle)
    if min(costs) > 0.0:
        _logarithmic(axes)
    axes.set_xlabel("mean cost, USD per 1,000 queries")
    axes.set_ylabel("mean accuracy")
    axes.legend(fontsize=9, loc="lower right")


def _some(axes: Axes, kind: Kind, points: Sequence[Point]) -> None:
    if not points:
        return
    cost = np.array([_ends(each.cost_usd, _PER) for each in points])
    accuracy = np.array([_ends(each.accuracy) for each in points])
    axes.errorbar(
        cost[:, 0],
        accuracy[:, 0],
        xerr=cost[:, 1:].T,
        yerr=accuracy[:, 1:].T,
        fmt=_MARKS[kind],
        color=_COLOURS[kind],
        ms=4 if kind is Kind.CONSTANT else 7,
        lw=0.8 if kind is Kind.CONSTANT else 1.6,
        label="one arm for every query" if kind is Kind.CONSTANT else short(points[0].name),
    )


def _ends(told: Told, scale: float = 1.0) -> tuple[float, float, float]:
    """The estimate, and how far both ends lie from it; a cost stays above 0."""
    low, high = (end if math.isfinite(end) else told.estimate for end in (told.low, told.high))
    below = min(told.estimate - low, 0.95 * abs(told.estimate))
    return scale * told.estimate, scale * max(below, 0.0), scale * max(high - told.estimate, 0.0)


def _name(axes: Axes, point: Point, *, left: bool) -> None:
    axes.annotate(
        short(point.name.removesuffix(":single")),
        (_PER * point.cost_usd.estimate, point.accuracy.estimate),
        xytext=(-5 if left else 5, -11),
        textcoords="offset points",
        ha="right" if left else "left",
        fontsize=8,
    ).set_in_layout(False)


def short(name: str) -> str:
    """A name that fits beside a figure."""
    return plain(name, _MOST_CHARS)


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def reliability(found: Sequence[Reliability], name: str = "") -> Figure | None:
    """Mean scores over predicted accuracies, side by side; None where nothing is known.

    `name` tells it from others of its kind on the page.
    """
    if not found:
        return None
    return Figure(
        note=(
            "Mean score with 95 % intervals over predicted accuracy, in bins of equal counts; "
            "predictions that hold lie on the dashed line. ECE is the mean distance from it."
        ),
        svg=_drawn(
            f"reliability {name}", partial(_reliability, found), width=4.3 * len(found), height=4.2
        ),
    )


def _reliability(found: Sequence[Reliability], figure: Canvas) -> None:
    every = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
    for axes, each, colour in zip(every, found, (_BLUE, _RED), strict=False):
        middle = np.array([each.score for each in each.bins])
        ends = np.array([(each.low, each.high) for each in each.bins]).T
        axes.plot((0, 1), (0, 1), "--", color=_INK, lw=1.0)
        axes.errorbar(
            [each.predicted for each in each.bins],
            middle,
            yerr=np.maximum(np.abs(ends - middle), 0.0),
            fmt="o-",
            color=colour,
            ms=4,
            lw=1.2,
        )
        axes.set_title(f"{short(each.name)}: ECE {each.ece:.3f}, n = {each.n:,}", fontsize=10)
        axes.set_xlabel("predicted accuracy")
    every[0].set_ylabel("mean score")


def slices(gains: Sequence[Against], against: str, name: str = "") -> Figure | None:
    """By how much slices gain in accuracy, the worst first; None where nothing is known.

    `name` tells it from others of its kind on the page.
    """
    shown = sorted(gains, key=lambda each: each[1].estimate)[:_MOST_SLICES]
    if not shown:
        return None
    more = len(gains) - len(shown)
    return Figure(
        note=(
            f"Points of accuracy above the {against}, by slice, with 95 % intervals that hold for "
            "all slices at once; left of the dashed line a slice gets worse."
            + (f" {more} slices that gain most are left out." if more else "")
        ),
        svg=_drawn(
            f"slices {name}", partial(_slices, shown), width=8.6, height=1.0 + 0.3 * len(shown)
        ),
    )


def _slices(gains: Sequence[Against], figure: Canvas) -> None:
    axes = figure.add_subplot()
    for place, (_, told) in enumerate(reversed(gains)):
        low, middle, high = (100.0 * each for each in (told.low, told.estimate, told.high))
        colour = _RED if high < 0.0 else _BLUE
        axes.plot((low, high), (place, place), color=colour, lw=1.8, solid_capstyle="butt")
        axes.plot(middle, place, "o", color=colour, ms=5)
    axes.axvline(0.0, color=_INK, lw=1.0, ls="--")
    names = [short(name) for name, _ in reversed(gains)]
    axes.set_yticks(range(len(gains)), names, fontsize=8)
    axes.set_ylim(-0.7, len(gains) - 0.3)
    axes.set_xlabel("points of accuracy")
