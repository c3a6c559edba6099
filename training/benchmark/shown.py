"""The benchmark's tables, the same on a terminal and in the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.benchmark.bootstrap import Interval
from training.benchmark.judging import TARGETS
from training.benchmark.results import Results, WayFigures

LABELS = {
    "best_constant": "best constant",
    "mixture": "mixture of constants",
    "uniform": "uniform",
    "knn": "kNN, tuned",
    "linear": "linear",
    "mlp": "MLP, tuned",
    "lightgbm": "LightGBM per arm",
    "leadline": "Leadline, one attempt",
    "leadline_continuation": "Leadline, continuation",
    "oracle": "oracle",
}

NEW_ARM_LABELS = {
    "adapted": "Leadline, arm taken in",
    "retrained": "Leadline, trained anew",
    "constant": "mean of the outcomes",
}

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A table as texts, under a title with a note on how to read it."""

    title: str
    note: str
    columns: Row
    rows: tuple[Row, ...]


def tables(results: Results) -> list[Shown]:
    """All tables that have rows."""
    parts = (_main, _shares, _energy, _field, _curve, _ablation, _sampling, _new_arms)
    made = [part(results) for part in parts]
    return [each for each in made if each.rows]


def label(name: str) -> str:
    """What people call a way."""
    return LABELS.get(name, name)


def between(
    found: Interval | None, scale: float = 1.0, digits: int = 3, *, sign: bool = False
) -> str:
    """An interval as `estimate [low, high]`; a dash where there is none."""
    if found is None or not math.isfinite(found.estimate):
        return "-"
    form = f"{'+' if sign else ''}.{digits}f"
    low, middle, high = (
        format(scale * each, form) if math.isfinite(each) else "never"
        for each in (found.low, found.estimate, found.high)
    )
    return f"{middle} [{low}, {high}]"


def _main(results: Results) -> Shown:
    return Shown(
        title="Gap closed, and against constants",
        note=(
            "Gap closed: 0 is the best mixture of constants, 1 the oracle; constants are added, "
            "so it cannot fall below 0 and chance lies a little above. By split: its mean over "
            "the splits, each judged alone, which is higher, as fewer queries flatter. Alone: by "
            "the way's own points, where it can. At its cost: points of accuracy above the best "
            "constant at what that one costs. Worse and better: budgets of 60 at which the way's "
            "own points are significantly below or above the best mixture; unreached are those "
            "below its cheapest point. All intervals are paired-bootstrap 95 %."
        ),
        columns=(
            "way",
            "gap closed",
            "by split",
            "alone",
            "at its cost",
            "worse",
            "better",
            "unreached",
            "verdict",
        ),
        rows=tuple(_main_row(way) for way in results.ways),
    )


def _main_row(way: WayFigures) -> Row:
    return (
        label(way.name),
        between(way.gap_closed),
        _mean(way.gap_closed_by_split),
        between(way.gap_closed_alone),
        between(way.against_best_constant, 100, 1, sign=True),
        str(way.worse_budgets),
        str(way.better_budgets),
        str(way.unreached_budgets),
        way.verdict,
    )


def _mean(gaps: Sequence[float]) -> str:
    mean = float(np.mean(gaps))
    return f"{mean:.3f}" if math.isfinite(mean) else "-"


def _shares(results: Results) -> Shown:
    return Shown(
        title="Cost at shares of the best constant's accuracy",
        note=(
            f"As a share of the cost of {results.best_constant}; a dash where that accuracy is "
            "not reached, 'never' where it is not in so many of the resamples."
        ),
        columns=("way", *(f"{100 * target:g} %" for target in TARGETS)),
        rows=tuple(
            (label(way.name), *(between(each.cost, digits=2) for each in way.cost_shares))
            for way in results.ways
        ),
    )


def _energy(results: Results) -> Shown:
    return Shown(
        title="Energy and emissions per decision",
        note=(
            "By the tokens that the log counts and the catalog's figures, over all attempts of a "
            f"decision, at a way's cheapest point that is as accurate as {results.best_constant}, "
            "or else at its most accurate one; cost in USD per 1,000 queries."
        ),
        columns=("way", "Wh", "gCO2e", "accuracy", "cost"),
        rows=tuple(
            (
                label(each.way),
                _used(each.energy_wh),
                _used(each.gco2e),
                f"{each.at.accuracy:.3f}",
                f"{1_000 * each.at.cost_usd:.4g}",
            )
            for each in results.energy
        ),
    )


def _used(found: Interval | None) -> str:
    if found is None:
        return "unknown"
    return f"{found.estimate:.3g} [{found.low:.3g}, {found.high:.3g}]"


def _field(results: Results) -> Shown:
    return Shown(
        title="Other figures of the field",
        note=(
            "Brier, AUC and ECE of predicted accuracies over (query, arm) rows; AIQ as in "
            "RouterBench; APGR and PGR at half of the extra cost as in RouteLLM, from "
            f"{results.cheapest_constant} to {results.best_constant}."
        ),
        columns=("way", "Brier", "AUC", "ECE", "AIQ", "APGR", "PGR at half", "fit s", "walk s"),
        rows=tuple(_field_row(way) for way in results.ways),
    )


def _field_row(way: WayFigures) -> Row:
    predicted, recovered = way.prediction, way.pgr
    figures = (
        predicted.brier if predicted else None,
        predicted.auc if predicted else None,
        predicted.ece if predicted else None,
        way.aiq,
        recovered.average if recovered else None,
        recovered.at_half if recovered else None,
    )
    return (label(way.name), *map(_figure, figures), f"{way.fit_s:.1f}", f"{way.walk_s:.1f}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _curve(results: Results) -> Shown:
    points = results.learning_curve
    names = list(dict.fromkeys(each.way for each in points))
    found = {(each.queries, each.way): each.gap_closed for each in points}
    queries = sorted({each.queries for each in points})
    return Shown(
        title="Learning curve",
        note="Gap closed by the number of training queries, on the scale of all of them.",
        columns=("queries", *map(label, names)),
        rows=tuple(
            (f"{count:,}", *(between(found.get((count, name))) for name in names))
            for count in queries
        ),
    )


def _ablation(results: Results) -> Shown:
    return Shown(
        title="Ablation",
        note="Gap closed without a part, and how much the part adds.",
        columns=("without", "way", "gap closed", "the part adds"),
        rows=tuple(
            (each.without, label(each.way), between(each.gap_closed), between(each.loss, sign=True))
            for each in results.ablation
        ),
    )


def _sampling(results: Results) -> Shown:
    return Shown(
        title="Adaptive sampling",
        note=(
            "Votes over the samples of the log, stopped by a rule. Against all: points of accuracy "
            "above a vote over all samples; shares are of all samples and what they cost. "
            "Agreement is Adaptive-Consistency; a learnt plan weighs accuracy against price. "
            "All intervals are paired-bootstrap 95 %."
        ),
        columns=("rule", "samples", "accuracy", "against all", "share of samples", "of cost"),
        rows=tuple(
            (
                each.rule,
                between(each.samples, digits=2),
                between(each.accuracy),
                between(each.difference, 100, 1, sign=True),
                between(each.sample_share, digits=2),
                between(each.cost_share, digits=2),
            )
            for each in results.sampling
        ),
    )


def _new_arms(results: Results) -> Shown:
    return Shown(
        title="New arms",
        note=(
            "Each arm left out of training in turn, then predicted on unseen queries after so many "
            "of its outcomes: taken in without retraining, trained anew with them, or their mean "
            "for every query. Means over arms, with 95 % intervals over arms."
        ),
        columns=("outcomes", "way", "AUC", "Brier", "ECE", "error of the mean"),
        rows=tuple(
            (
                "all" if each.outcomes is None else f"{each.outcomes:,}",
                NEW_ARM_LABELS[each.way],
                *(between(figure) for figure in (each.auc, each.brier, each.ece, each.mean_error)),
            )
            for each in sorted(
                results.new_arms,
                key=lambda each: math.inf if each.outcomes is None else each.outcomes,
            )
        ),
    )


def headline(results: Results) -> Sequence[str]:
    """What was compared, in a few lines."""
    setup = results.setup
    left = [f"{count:,} {what}" for what, count in setup.left_out.items() if count]
    if setup.left_out_arms:
        left.append(f"arms that one log lacks: {', '.join(setup.left_out_arms)}")
    compared = (
        f"{setup.how}: {setup.train_queries:,} queries to learn from, {setup.test_queries:,} "
        f"unseen ones to judge on, {len(results.constants)} arms, {setup.resamples:,} resamples"
    )
    best = f"best constant as training saw it: {results.best_constant}"
    lines = [compared, f"{best}; cheapest: {results.cheapest_constant}"]
    return [*lines, *([f"left out: {'; '.join(left)}"] if left else [])]
