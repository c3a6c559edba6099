"""What a bundle holds: the arrays and figures that are made of out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from router.errors import InvalidInput
from router.policy.calibration import Calibration
from router.policy.embedding import Embedder
from router.policy.evidence import EvidenceModel
from router.policy.features import FeatureSpec
from router.policy.sampling import SamplingModel
from router.policy.tradeoff import CONTINUED, Tradeoff
from router.types import Arm, Floats, Mask, Model
from training.evaluation.held_out import Figures, Predicted, prediction_figures, routing_figures
from training.learning import evidence, sampling
from training.learning.calibration import calibrate
from training.learning.contexts import Encoded
from training.learning.energy import EnergyRates
from training.learning.learner import Forecast, Learner
from training.learning.novelty import reference
from training.learning.spending import LatencyShape, finish
from training.learning.tradeoffs import continued, traced
from training.log.dataset import Dataset
from training.log.samples import Samples

LEAST_SCORED_ROWS = 50
LEAST_QUERIES = 10
_GOLDEN_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusted:
    """What out-of-fold predictions teach on top of the models."""

    calibration: Calibration
    latency: LatencyShape
    tradeoff: Tradeoff
    continued: Tradeoff
    evidence: EvidenceModel
    sampling: SamplingModel | None
    best_arm: int

    def predicted(self, forecast: Forecast) -> Predicted:
        """Calibrated accuracy and mean cost of a forecast."""
        return _predicted(forecast, self.calibration)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A policy as training hands it on, under the names of a bundle's parts."""

    booster_text: str
    arrays: Mapping[str, NDArray[Any]]
    features: FeatureSpec
    embedder: Embedder
    arms: tuple[Arm, ...]
    models: tuple[Model, ...]
    golden_rows: Floats
    golden_raw: Floats
    summary: Figures


def check(dataset: Dataset) -> None:
    """Raises InvalidInput that says what is missing when the log cannot teach."""
    scored = int(dataset.scored.sum())
    if scored == 0:
        raise InvalidInput(
            "no row has a score, so there is nothing to learn accuracy from; report outcomes "
            "with scores first",
            field="log",
        )
    queries = len(np.unique(dataset.rows.query[dataset.scored]))
    for found, least, what in (
        (scored, LEAST_SCORED_ROWS, "scored rows"),
        (queries, LEAST_QUERIES, "different scored queries"),
    ):
        if found < least:
            raise InvalidInput(
                f"{found} {what} are too few to learn from; gather at least {least}", field="log"
            )


def adjust(dataset: Dataset, forecast: Forecast, samples: Samples | None, seed: int) -> Adjusted:
    """Learns calibration, spread, trade-off and evidence from an out-of-fold forecast."""
    rows = dataset.rows
    calibration = calibrate(forecast.raw, rows, dataset.arms)
    predicted = _predicted(forecast, calibration)
    tradeoff, best = traced(predicted, dataset)
    model, rng = evidence.fit(dataset, predicted.accuracy), np.random.default_rng(seed)
    return Adjusted(
        calibration=calibration,
        latency=finish(forecast.spending, rows.spent()),
        tradeoff=tradeoff,
        continued=continued(model, predicted, dataset, tradeoff, rng),
        evidence=model,
        sampling=_sampling(dataset, samples, predicted.accuracy, seed),
        best_arm=best,
    )


def _sampling(
    dataset: Dataset, samples: Samples | None, accuracy: Floats, seed: int
) -> SamplingModel | None:
    if samples is None:
        return None
    return sampling.fit(samples, sampling.at_groups(samples, dataset, accuracy), seed=seed)


def _predicted(forecast: Forecast, calibration: Calibration) -> Predicted:
    return Predicted(accuracy=calibration(forecast.raw)[0], cost_usd=forecast.cost_usd)


def figures(
    dataset: Dataset,
    held: Mask,
    forecast: Forecast,
    adjusted: Adjusted,
    models: Sequence[Model],
) -> Figures:
    """What the policy reaches on held-out queries (q,), given their forecast."""
    predicted, rates = adjusted.predicted(forecast), EnergyRates.of(dataset.arms, models)
    rows = dataset.rows.take(held[dataset.rows.query])
    return {
        "queries": int(held.sum()),
        "prediction": prediction_figures(predicted.accuracy, forecast.raw, rows),
        "routing": routing_figures(
            dataset, held, predicted, adjusted.tradeoff, adjusted.best_arm, rates=rates
        ),
    }


def trained(
    dataset: Dataset, encoded: Encoded, learner: Learner, adjusted: Adjusted, held_out: Figures
) -> Trained:
    """Puts the final models and what was learnt out of fold together."""
    text = learner.accuracy_.head_.booster_.model_to_string()
    golden = _golden_rows(dataset, encoded, learner)
    raw = lightgbm.Booster(model_str=text).predict(golden, raw_score=True, num_threads=1)
    return Trained(
        booster_text=text,
        arrays=_arrays(learner, adjusted),
        features=learner.projection_.spec_,
        embedder=encoded.embedder,
        arms=dataset.arms,
        models=tuple(learner.models),
        golden_rows=golden,
        golden_raw=np.asarray(raw, np.float64),
        summary=_summary(dataset, learner, adjusted, held_out),
    )


def _arrays(learner: Learner, adjusted: Adjusted) -> Mapping[str, NDArray[Any]]:
    accuracy, spec = learner.accuracy_, learner.projection_.spec_
    return {
        "mean_accuracy": accuracy.base_.table.mean_accuracy_,
        "mean_cost_usd": accuracy.base_.table.mean_cost_usd_,
        **accuracy.arrays().to_mapping(),
        **reference(accuracy.remoteness_).to_mapping(),
        **adjusted.calibration.to_mapping(),
        **learner.spending_.finished(adjusted.latency).to_mapping(),
        **adjusted.tradeoff.to_mapping(),
        **adjusted.continued.to_mapping(CONTINUED),
        **adjusted.evidence.to_mapping(),
        **(adjusted.sampling.to_mapping() if adjusted.sampling else {}),
        "feature_mean": spec.mean,
        "feature_components": spec.components,
        "feature_bounds": spec.bounds,
    }


def _golden_rows(dataset: Dataset, encoded: Encoded, learner: Learner) -> Floats:
    """Real rows, spread over the log, as the final booster sees them."""
    places = np.unique(np.linspace(0, len(dataset.rows) - 1, _GOLDEN_ROWS).astype(np.intp))
    rows = dataset.rows.take(places)
    contexts = learner.projection_.transform(encoded)
    return learner.accuracy_.base_.rows(contexts.take(rows.query), rows.arm)


def _summary(dataset: Dataset, learner: Learner, adjusted: Adjusted, held_out: Figures) -> Figures:
    return {
        "dataset_digest": dataset.digest,
        "rows": len(dataset.rows),
        "scored_rows": int(dataset.scored.sum()),
        "queries": len(dataset.queries),
        "arms": len(dataset.arms),
        "watermark": dataset.watermark.isoformat() if dataset.watermark else None,
        "seed": learner.seed,
        "weighted_by_propensity": learner.accuracy_.weighted_ and not dataset.rows.even,
        "adaptive_sampling": adjusted.sampling is not None,
        "arms_with_prior_cost": _keys(dataset, ~learner.spending_.costed_),
        "arms_without_latency": _keys(dataset, ~learner.spending_.timed_),
        "held_out": held_out,
    }


def _keys(dataset: Dataset, which: Mask) -> list[str]:
    return [arm.key for arm, named in zip(dataset.arms, which, strict=True) if named]
