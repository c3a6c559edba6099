"""Whether arms do, cost and take what the active policy learnt that they would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from router.types import Arm, Floats, Mask
from training.drift.tests import LEAST_UNITS, Change, Values, mean_change
from training.drift.windows import Kind, Outcomes, Tested, Untold, Window
from training.log.dataset import Indices

ALL = "all arms"
_LEAST_USD = 1e-9
_LEAST_S = 1e-3
_CLIP = 1e-3
_LEAST_SPREAD = 0.1
_STEPS = 25

Read = Callable[[Outcomes], Floats]


def changes(reference: Window, current: Window, arms: Sequence[Arm]) -> Iterator[Tested | Untold]:
    """Compares outcomes by arm, by model where it has several arms, and over all."""
    both = reference.outcomes, current.outcomes
    groups = _groups(arms, both)
    for kind, read in _figures(both).items():
        values = _values(reference, current, read, by_hour=kind in _SLOW).known()
        for where, group in groups.items():
            change = mean_change(values.take(group[values.arm])) if len(values.arm) else None
            if change is not None:
                yield Tested(kind=kind, where=where, change=change)
            else:
                yield Untold(kind=kind, where=where, why=_why(values, group))
    yield _calibration(reference, current)


_SLOW = frozenset({Kind.LATENCY, Kind.LATENCY_BOUND})


def _groups(arms: Sequence[Arm], both: Sequence[Outcomes]) -> Mapping[str, Mask]:
    """Masks (a,) of arms that were seen: each one, those of one model, and all."""
    seen = np.unique(np.concatenate([each.arm for each in both])).tolist()
    members: dict[str, list[int]] = {arms[place].key: [place] for place in seen}
    for model in dict.fromkeys(arms[place].model for place in seen):
        own = [place for place in seen if arms[place].model == model]
        if 1 < len(own) < len(seen):
            members[model] = own
    if len(seen) > 1:
        members[ALL] = seen
    every = np.arange(len(arms))
    return {name: np.isin(every, places) for name, places in members.items()}


def _figures(both: Sequence[Outcomes]) -> Mapping[Kind, Read]:
    """What is compared of each outcome; latencies themselves where no median was predicted."""
    foretold = any(np.isfinite(each.latency_p50_s).any() for each in both)

    def latency(each: Outcomes) -> Floats:
        usual = each.latency_p50_s if foretold else np.ones(len(each))
        return np.asarray(
            np.log(np.maximum(each.latency_s, _LEAST_S) / np.maximum(usual, _LEAST_S))
        )

    return {
        Kind.ACCURACY: lambda each: each.score - each.accuracy,
        Kind.PRICE: lambda each: (
            np.log(each.cost_usd + _LEAST_USD) - np.log(each.catalog_usd + _LEAST_USD)
        ),
        Kind.LATENCY: latency,
        Kind.LATENCY_BOUND: _above,
    }


def _above(each: Outcomes) -> Floats:
    above = np.where(each.latency_s > each.latency_p95_s, 1.0, 0.0)
    return np.asarray(np.where(np.isnan(each.latency_s + each.latency_p95_s), np.nan, above))


def _values(reference: Window, current: Window, read: Read, *, by_hour: bool) -> Values:
    both = reference, current
    outcomes = [each.outcomes for each in both]
    return Values(
        value=np.concatenate([read(each) for each in outcomes]),
        weight=np.concatenate([each.weight for each in outcomes]),
        arm=np.concatenate([each.arm for each in outcomes]),
        unit=np.concatenate([_unit(each, by_hour=by_hour) for each in both]),
        now=np.repeat((False, True), [len(each) for each in outcomes]),
    )


def _unit(window: Window, *, by_hour: bool) -> Indices:
    hour = window.outcomes.hour
    if by_hour and hour is not None:
        return hour
    return window.queries.unit[window.outcomes.query]


def _why(values: Values, group: Mask) -> str:
    now = values.now[group[values.arm]]
    return (
        f"{int((~now).sum())} outcomes before and {int(now.sum())} now; from {LEAST_UNITS:.0f} "
        "independent ones in each on it can be told"
    )


def _calibration(reference: Window, current: Window) -> Tested | Untold:
    """Whether the slope of scores on predicted log-odds changed (Cox 1958); 1 is calibrated."""
    found = [_slope(reference), _slope(current)]
    old, new = found
    if old is None or new is None:
        why = f"needs {LEAST_UNITS:.0f} scored outcomes in each window, with unlike predictions"
        return Untold(kind=Kind.CALIBRATION, where=ALL, why=why)
    error = float(np.hypot(old[1], new[1]))
    change = Change.by_z(old[0], new[0], error, n_before=old[2], n_now=new[2])
    return Tested(kind=Kind.CALIBRATION, where=ALL, change=change)


def _slope(window: Window) -> tuple[float, float, int] | None:
    """The slope of a logistic regression, its error by sums over units, and the outcomes."""
    found = window.outcomes
    known = np.isfinite(found.score) & np.isfinite(found.accuracy) & np.isfinite(found.weight)
    predicted = np.clip(found.accuracy[known], _CLIP, 1.0 - _CLIP)
    unit = np.unique(_unit(window, by_hour=False)[known], return_inverse=True)[1]
    log_odds = np.log(predicted / (1.0 - predicted))
    if int(unit.max(initial=-1)) + 1 < LEAST_UNITS or log_odds.std() < _LEAST_SPREAD:
        return None
    x, weight = np.column_stack((np.ones(len(log_odds)), log_odds)), found.weight[known]
    at, score = np.array([0.0, 1.0]), found.score[known]
    for _ in range(_STEPS):
        mean = 1.0 / (1.0 + np.exp(-np.clip(x @ at, -30.0, 30.0)))
        bread = np.linalg.inv(
            (x * (weight * mean * (1.0 - mean))[:, None]).T @ x + 1e-9 * np.eye(2)
        )
        step = bread @ (x.T @ (weight * (score - mean)))
        at = at + np.clip(step, -1.0, 1.0)
    away = weight * (score - mean)
    sums = np.column_stack([np.bincount(unit, away * column) for column in x.T])
    error = float(np.sqrt((bread @ (sums.T @ sums) @ bread)[1, 1]))
    return float(at[1]), error, int(known.sum())
