"""What is shown of Leadline's own predictions, besides how its choices did."""

from __future__ import annotations

import numpy as np

from router.types import Floats
from training.benchmark.bootstrap import Resamples, interval
from training.benchmark.coverage import Coverage, coverage
from training.benchmark.results import CalibrationBin
from training.benchmark.trial import Trial
from training.benchmark.ways import Predicted
from training.log.dataset import Indices

BINS = 15


def calibration(
    trial: Trial, predicted: Predicted, resamples: Resamples
) -> tuple[CalibrationBin, ...]:
    """Bins of equal count over all (query, arm) rows; queries are resampled whole."""
    known = ~np.isnan(predicted.accuracy)
    if not known.any():
        return ()
    where = _bins(predicted.accuracy[known])
    count = int(where.max()) + 1
    query = np.nonzero(known)[0]
    rows = _sums(query, where, np.ones(len(where)), known.shape[0], count)
    right = _sums(query, where, trial.score[known], known.shape[0], count)
    expected = _sums(query, where, predicted.accuracy[known], known.shape[0], count)
    seen = resamples.means(rows.T)
    shares = np.divide(resamples.means(right.T), seen, out=np.zeros_like(seen), where=seen > 0)
    found = [(interval(shares[:, place]), place) for place in range(count)]
    return tuple(
        CalibrationBin(
            rows=int(rows[:, place].sum()),
            predicted=float(expected[:, place].sum() / rows[:, place].sum()),
            score=score,
        )
        for score, place in found
        if score is not None
    )


def latency_coverage(trial: Trial, predicted: Predicted) -> tuple[Coverage, ...]:
    """Coverage of the latency quantiles per arm, where the test log has latencies."""
    if predicted.latency_s is None:
        return ()
    return coverage(trial.arms, trial.latency_s, predicted.latency_s)


def _bins(values: Floats) -> Indices:
    """The bin of each value: equal counts, equal values together, none empty."""
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
    found = np.searchsorted(edges, values, side="right")
    return np.asarray(np.unique(found, return_inverse=True)[1], np.intp)


def _sums(query: Indices, where: Indices, values: Floats, queries: int, bins: int) -> Floats:
    """The sum of values per query and bin, (q, bins)."""
    cell = query * bins + where
    total = np.bincount(cell, values, queries * bins).astype(np.float64)
    return np.asarray(total.reshape(queries, bins))
