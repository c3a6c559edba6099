"""The report's figures, each one SVG that stands alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from router.types import Floats
from training.benchmark import new_arms_drawn
from training.benchmark.bootstrap import Interval
from training.benchmark.envelope import Envelope
from training.benchmark.results import Results, WayFigures
from training.benchmark.shown import label
from training.report.drawing import svg

_COLOURS = {
    "leadline_continuation": "#b3261e",
    "leadline": "#1f5fbf",
    "knn": "#2e7d32",
    "linear": "#8e5bb5",
    "mlp": "#c77700",
    "lightgbm": "#00838f",
    "uniform": "#757575",
    "oracle": "#bdbdbd",
    "mixture": "#000000",
    "best_constant": "#000000",
}
_BANDED = ("leadline", "leadline_continuation")
_ON_MIXTURE = frozenset({"mixture", "best_constant", "uniform", "oracle"})
_MOST_FEATURES = 25
_PER = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A figure: its title, a sentence on how to read it, and the SVG element."""

    title: str
    note: str
    svg: str


def drawn(results: Results) -> list[Drawn]:
    """All figures that have something to show."""
    return [
        Drawn(title=each.title, note=each.note, svg=_svg(each, results))
        for each in _SKETCHES
        if each.has(results)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sketch:
    """How a figure is drawn, whether there is anything to draw, and its size in inches."""

    title: str
    note: str
    draw: Callable[[Axes, Results], None]
    has: Callable[[Results], object]
    height: Callable[[Results], float] = lambda _results: 4.4
    width: float = 8.6


def _svg(sketch: _Sketch, results: Results) -> str:
    def draw(figure: Figure) -> None:
        sketch.draw(figure.add_subplot(), results)

    return svg(sketch.title, draw, width=sketch.width, height=sketch.height(results))


def _tall(bars: int) -> float:
    return 1.4 + 0.28 * bars


def _frontier(axes: Axes, results: Results) -> None:
    for way in results.ways:
        if way.name not in {"best_constant", "mixture"}:
            _own(axes, way)
    costs = np.array([each.test.cost_usd for each in results.constants]) * _PER
    scores = np.array([each.test.accuracy for each in results.constants])
    hull, mixture = Envelope.of(np.column_stack((costs, scores))), "mixture of constants"
    axes.plot(hull.cost_usd, hull.accuracy, "--", color="black", lw=1.2, label=mixture)
    axes.plot(costs, scores, "o", color="black", ms=4)
    _name_points(axes, results, costs, scores)
    if costs.min() > 0:
        _logarithmic(axes)
    axes.set_ylim(bottom=float(scores.min()) - 0.03)
    axes.set_xlabel("mean cost, USD per 1,000 queries")
    axes.set_ylabel("mean accuracy")
    axes.legend(fontsize=8, loc="lower right")


def _name_points(axes: Axes, results: Results, costs: Floats, scores: Floats) -> None:
    """Names the constants, unless they are too many to be read."""
    middle = float(np.sqrt(max(costs.min(), 1e-12) * costs.max()))
    for constant, cost, score in zip(results.constants, costs, scores, strict=True):
        if len(costs) <= 12 or constant.arm in {results.best_constant, results.cheapest_constant}:
            side, away = ("right", -5) if cost > middle else ("left", 5)
            axes.annotate(
                constant.arm.removesuffix(":single"),
                (cost, score),
                xytext=(away, -9),
                textcoords="offset points",
                ha=side,
                fontsize=7,
            ).set_in_layout(False)


def _own(axes: Axes, way: WayFigures) -> None:
    hull = Envelope.of(np.array([(_PER * each.cost_usd, each.accuracy) for each in way.points]))
    mark = "o" if len(hull.cost_usd) == 1 else ""
    width = 2.0 if way.name in _BANDED else 1.2
    colour = _COLOURS[way.name]
    axes.plot(
        hull.cost_usd, hull.accuracy, marker=mark, color=colour, lw=width, label=label(way.name)
    )
    reached = [(each.budget_usd, each.accuracy) for each in way.budgets if each.accuracy]
    if way.name in _BANDED and reached:
        costs, accuracy = [_PER * cost for cost, _ in reached], [found for _, found in reached]
        _band(axes, costs, accuracy, colour)


def _band(axes: Axes, costs: list[float], found: list[Interval], colour: str) -> None:
    low, high = [each.low for each in found], [each.high for each in found]
    axes.fill_between(costs, low, high, color=colour, alpha=0.14, lw=0)


def _differences(axes: Axes, results: Results) -> None:
    for way in results.ways:
        reached = [(each.budget_usd, each.difference) for each in way.budgets if each.difference]
        if way.name in _ON_MIXTURE or not reached:
            continue
        costs, found = [_PER * cost for cost, _ in reached], [_points(each) for _, each in reached]
        colour = _COLOURS[way.name]
        axes.plot(costs, [each.estimate for each in found], color=colour, label=label(way.name))
        if way.name in _BANDED:
            _band(axes, costs, found, colour)
    axes.axhline(0.0, color="black", lw=1.0, ls="--")
    _logarithmic(axes)
    axes.set_xlabel("budget, USD per 1,000 queries")
    axes.set_ylabel("points of accuracy above the best mixture")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _points(found: Interval) -> Interval:
    """The interval in hundredths."""
    return Interval(estimate=100 * found.estimate, low=100 * found.low, high=100 * found.high)


def _calibration(axes: Axes, results: Results) -> None:
    bins = results.calibration
    axes.plot((0, 1), (0, 1), "--", color="black", lw=1.0)
    predicted, scores = [each.predicted for each in bins], [each.score for each in bins]
    middle = [each.estimate for each in scores]
    axes.errorbar(predicted, middle, yerr=_ends(scores), fmt="o-", color=_COLOURS["leadline"], ms=4)
    axes.set_xlabel("predicted accuracy")
    axes.set_ylabel("mean score")


def _coverage(axes: Axes, results: Results) -> None:
    found = [each for each in results.latency_coverage if each.quantile == 0.95][::-1]
    places = np.arange(len(found))
    axes.axvspan(0.935, 0.965, color="#2e7d32", alpha=0.12, lw=0)
    axes.axvline(0.95, color="black", lw=1.0, ls="--")
    shares = np.array([each.share for each in found])
    ends = np.array([[each.share - each.low, each.high - each.share] for each in found]).T
    axes.errorbar(shares, places, xerr=ends, fmt="o", color=_COLOURS["leadline"], ms=4)
    axes.set_yticks(places, [each.arm for each in found], fontsize=8)
    axes.set_xlabel("coverage of the 0.95 quantile")


def _importance(axes: Axes, results: Results) -> None:
    top = list(results.importance.items())[:_MOST_FEATURES][::-1]
    axes.barh([name for name, _ in top], [gain for _, gain in top], color=_COLOURS["leadline"])
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("share of the gain")


def _learning_curve(axes: Axes, results: Results) -> None:
    for place, name in enumerate(dict.fromkeys(each.way for each in results.learning_curve)):
        points = [each for each in results.learning_curve if each.way == name]
        known = [(each.queries, each.gap_closed) for each in points if each.gap_closed]
        apart = 1.03**place  # so that error bars stand side by side
        queries, gaps = [apart * each for each, _ in known], [gap for _, gap in known]
        middle = [gap.estimate for gap in gaps]
        colour = _COLOURS[name]
        axes.errorbar(
            queries, middle, yerr=_ends(gaps), fmt="o-", color=colour, ms=4, label=label(name)
        )
    _logarithmic(axes)
    axes.set_xlabel("training queries")
    axes.set_ylabel("gap closed")
    axes.legend(fontsize=8)


def _ablation(axes: Axes, results: Results) -> None:
    found = [each for each in results.ablation if each.loss is not None][::-1]
    losses = [each.loss for each in found if each.loss is not None]
    middle, colours = [loss.estimate for loss in losses], [_COLOURS[each.way] for each in found]
    places = np.arange(len(found))
    axes.barh(places, middle, xerr=_ends(losses), color=colours, alpha=0.8)
    axes.axvline(0.0, color="black", lw=1.0)
    names = [f"{each.without} ({label(each.way)})" for each in found]
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xlabel("gap closed that the part adds")


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis with plain numbers on it."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _ends(found: list[Interval]) -> Floats:
    """How far both ends lie from the middle, (2, k), as error bars want it."""
    ends = np.array([(each.estimate - each.low, each.high - each.estimate) for each in found])
    return np.asarray(np.maximum(ends.reshape(-1, 2).T, 0.0))


_SKETCHES = (
    _Sketch(
        title="Frontier",
        note="Mean accuracy against mean cost; every way's own envelope, bands are 95 %.",
        draw=_frontier,
        has=lambda results: results.constants,
        height=lambda _results: 5.6,
    ),
    _Sketch(
        title="Against the best mixture of constants",
        note="Accuracy above the best mixture of constants at each budget that a way reaches.",
        draw=_differences,
        has=lambda results: any(way.budgets for way in results.ways),
    ),
    _Sketch(
        title="Calibration",
        note="Leadline's predicted accuracy against the mean score, over (query, arm) rows.",
        draw=_calibration,
        has=lambda results: results.calibration,
        height=lambda _results: 4.8,
        width=5.2,
    ),
    _Sketch(
        title="Latency coverage",
        note="Share of latencies up to the predicted 0.95 quantile; the band is 0.935-0.965.",
        draw=_coverage,
        has=lambda results: results.latency_coverage,
        height=lambda results: _tall(len(results.constants)),
    ),
    _Sketch(
        title="Importance",
        note="Share of the loss that splits on a feature took away in the accuracy model.",
        draw=_importance,
        has=lambda results: results.importance,
        height=lambda _results: 6.4,
    ),
    _Sketch(
        title="Learning curve",
        note="Gap closed against the number of training queries.",
        draw=_learning_curve,
        has=lambda results: results.learning_curve,
    ),
    _Sketch(
        title="Ablation",
        note="How much of the gap each part closes, on top of all others.",
        draw=_ablation,
        has=lambda results: results.ablation,
        height=lambda results: _tall(len(results.ablation)),
    ),
    _Sketch(
        title="New arms",
        note="Error of predictions of an arm left out of training, by the number of its outcomes.",
        draw=new_arms_drawn.draw,
        has=lambda results: results.new_arms,
    ),
)
