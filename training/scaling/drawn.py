"""The figures of the scaling-law report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from training.benchmark.figures import Drawn
from training.report.drawing import svg
from training.scaling.values import Law, ScalingLaws, Step

_COLOURS = ("#1f5fbf", "#b3261e", "#2e7d32", "#8e5bb5", "#c77700", "#00838f", "#6d4c41", "#c2456b")
_FLAT = "#9e9e9e"
_MOST_MODELS, _ACROSS, _MOST_STEPS = 6, 2, 14
_APART = 1.02


def drawn(found: ScalingLaws) -> list[Drawn]:
    """Accuracy over compute by model, and what the next dollar buys; those that have content."""
    made = []
    models = _models(found.laws)
    if models:
        shown = models[:_MOST_MODELS]
        rows = ceil(len(shown) / _ACROSS)
        made.append(
            Drawn(
                title="What compute buys",
                note=(
                    "Mean accuracy with 95 % intervals over inference compute in single passes, "
                    "by model; lines are fitted laws, dotted where none can be told. a is the "
                    "exponent by which errors fall." + _left_out(models)
                ),
                svg=svg(
                    "scaling laws",
                    partial(_laws, found.laws, shown),
                    width=8.6,
                    height=0.6 + 4.2 * rows,
                ),
            )
        )
    steps = [each for each in found.steps if np.isfinite(each.per_usd.estimate)][:_MOST_STEPS]
    if steps:
        made.append(
            Drawn(
                title="Where the next dollar buys most",
                note=(
                    "Right answers that one more dollar buys, with 95 % intervals, from each arm "
                    "to the next dearer one; grey where it may buy none."
                ),
                svg=svg(
                    "next dollar",
                    partial(_steps, steps),
                    width=8.6,
                    height=1.2 + 0.42 * len(steps),
                ),
            )
        )
    return made


def _models(laws: Sequence[Law]) -> list[str]:
    """Models by their number of arms, most first."""
    counts = {each.model: 0 for each in laws}
    for each in laws:
        counts[each.model] += len(each.rungs)
    return sorted(counts, key=lambda model: (-counts[model], model))


def _left_out(models: Sequence[str]) -> str:
    more = len(models) - _MOST_MODELS
    return f" {more} models with fewer arms are left out." if more > 0 else ""


def _laws(laws: Sequence[Law], models: Sequence[str], figure: Figure) -> None:
    rows = ceil(len(models) / _ACROSS)
    across = min(len(models), _ACROSS)
    every = figure.subplots(rows, across, squeeze=False, sharey=True).ravel()
    names = list(dict.fromkeys(_name(each) for each in laws))
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}
    for axes, model in zip(every, models, strict=False):
        own = [law for law in laws if law.model == model]
        for place, each in enumerate(own):
            _law(axes, each, colours[_name(each)], _APART ** (place - (len(own) - 1) / 2))
        axes.set_title(model, fontsize=10)
        _logarithmic(axes)
        axes.set_xlabel("inference compute, single passes")
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    for axes in every[:: across or 1]:
        axes.set_ylabel("mean accuracy")
    for axes in every[len(models) :]:
        axes.set_axis_off()


def _law(axes: Axes, law: Law, colour: str, aside: float) -> None:
    spent = [aside * each.compute for each in law.rungs]  # error bars stand side by side
    middle = np.array([each.accuracy.estimate for each in law.rungs])
    ends = np.array([(each.accuracy.low, each.accuracy.high) for each in law.rungs]).T
    away = np.maximum(np.abs(ends - middle), 0.0)
    axes.errorbar(spent, middle, yerr=away, fmt="o", color=colour, ms=4, lw=0.9, alpha=0.8)
    if law.curve:
        axes.plot(*np.array(law.curve).T, color=colour, lw=1.6, label=_label(law))
    else:
        axes.plot(spent, middle, ":", color=colour, lw=1.1, label=_label(law))


def _name(law: Law) -> str:
    shared = [each.partition("=")[2] for each in law.params.split()]
    return " ".join([law.strategy, *shared]).replace("_", " ")


def _label(law: Law) -> str:
    if law.exponent is None:
        return f"{_name(law)}: {law.told.removeprefix('not identifiable: ')}"
    found = law.exponent
    return f"{_name(law)}: a = {found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}x"))
    axes.xaxis.set_minor_locator(NullLocator())


def _steps(steps: Sequence[Step], figure: Figure) -> None:
    axes = figure.add_subplot()
    shown = steps[::-1]
    for place, each in enumerate(shown):
        found, colour = each.per_usd, _COLOURS[0] if each.buys else _FLAT
        low = found.low if np.isfinite(found.low) else found.estimate
        high = found.high if np.isfinite(found.high) else found.estimate
        axes.plot((low, high), (place, place), color=colour, lw=2.0, solid_capstyle="butt")
        axes.plot(found.estimate, place, "o", color=colour, ms=5)
    ends = [end for each in shown for end in (each.per_usd.low, each.per_usd.high)]
    known = [0.0, *(end for end in ends if np.isfinite(end))]
    axes.set_xlim(1.4 * min(known) - 0.02, 1.4 * max(known) + 0.02)
    axes.axvline(0.0, color="black", lw=1.0, ls="--")
    axes.set_xscale("symlog", linthresh=0.1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axes.set_yticks(range(len(shown)), [_told(each) for each in shown], fontsize=7)
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.set_xlabel("right answers per dollar more")


def _told(step: Step) -> str:
    traffic = "" if step.traffic is None else f" ({100 * step.traffic:.0f} % of decisions)"
    return f"{_short(step.weaker)}{traffic}\nto {_short(step.stronger)}"


def _short(arm: str) -> str:
    return arm.replace("base=chain_of_thought&", "").replace("_", " ")
