"""What each way's decisions use and emit, once they are as accurate as the best constant arm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from router.types import Floats, Mask
from training.benchmark.bootstrap import Interval, Resamples, interval
from training.benchmark.judging import Judge
from training.benchmark.results import Point, Used
from training.learning.energy import EnergyRates
from training.log.dataset import Indices

_SLACK = 1e-9


def energies(judge: Judge, ways: Sequence[str], rates: EnergyRates) -> tuple[Used, ...]:
    """The ways whose attempts and energy are known; empty where the log counts no tokens."""
    return tuple(_energies(judge, ways, rates))


def _energies(judge: Judge, ways: Sequence[str], rates: EnergyRates) -> Iterator[Used]:
    tokens = judge.trial.tokens
    if tokens is None:
        return
    counted = np.asarray(~np.isnan(tokens).any(axis=1), bool)
    for name in ways:
        walked = judge.trial.walked[name]
        if walked.tried is None:
            continue
        points = judge.points(walked)[0]
        place = _as_accurate(points, float(judge.best[0, 1]))
        energy_wh, gco2e = (
            _mean(judge.resamples, each, counted)
            for each in _used(walked.tried[place], tokens, rates)
        )
        if energy_wh is not None:
            cost_usd, accuracy = points[place].tolist()
            at = Point(cost_usd=cost_usd, accuracy=accuracy)
            yield Used(way=name, at=at, energy_wh=energy_wh, gco2e=gco2e)


def _as_accurate(points: Floats, accuracy: float) -> int:
    """The cheapest of the points (v, 2) with that accuracy; the most accurate where none has it."""
    enough = points[:, 1] >= accuracy - _SLACK
    if not enough.any():
        return int(points[:, 1].argmax())
    return int(np.where(enough, points[:, 0], np.inf).argmin())


def _used(tried: Indices, tokens: Floats, rates: EnergyRates) -> list[Floats]:
    """Watt-hours and grams of each query (q,), over the attempts (q, m) that were made."""
    spent = tokens[np.arange(len(tokens))[:, None], tried]
    return [np.where(tried >= 0, each, 0.0).sum(axis=1) for each in rates.used(spent, tried)]


def _mean(resamples: Resamples, values: Floats, counted: Mask) -> Interval | None:
    """The mean over the queries whose tokens were counted; None where a value is not known."""
    total, share = resamples.means(np.stack((np.where(counted, values, 0.0), counted))).T
    return interval(np.divide(total, share, out=np.full(len(share), np.nan), where=share > 0))
