"""What an arm is expected to bring before anything was learnt of it.

Its errors follow a power law in compute, fitted to the published table of one model, and
each tier takes a share of them away; tokens and cost follow compute; latency follows
compute but for samples, which run side by side. They order arms sensibly and promise
nothing: outcomes of other arms, by empirical Bayes, and then its own take their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.policy.arms import compute
from router.policy.resemblance import NOISE, covariance
from router.policy.scaling import (
    REFINEMENT_FLAT_ROUNDS,
    SECONDS_PER_COMPUTE,
    SELF_CONSISTENCY_FLAT_SAMPLES,
)
from router.types import Arm, Floats, Model, Strategy

LATENCY_SPREAD = np.array([0.0, 0.99, 1.40])
"""Log ratios of the 0.5, 0.95 and 0.99 quantiles to the median: log-normal, sigma 0.6."""

SINGLE_PASS_ERROR, EXPONENT = 0.558, 0.258
"""The error is 0.558 x compute^-0.258: least squares on `scaling.MATH`, within 0.033 of it.

Accuracy itself then grows as compute^0.20 from 1x to 8x, as compute^0.17 to 20x.
"""

TIER_ERROR = 0.85
"""A model has so many of the errors of one a tier below it."""

_LEAST_ERROR = 0.03
_STEADY_ARMS = 2.0
_GUESSED_TIER = 0.3
_LEAST_ROWS, _MOST_ROWS = 2.0, 100.0
_INPUT_TOKENS, _OUTPUT_TOKENS = 200.0, 150.0
_CLIP = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Expected figures of one arm on a typical query."""

    accuracy: float
    cost_usd: float
    output_tokens: float
    latency_s: float


def prior(arm: Arm, model: Model) -> Prior:
    """The arm's expected figures from its compute and its model's tier and prices."""
    spent = compute(arm)
    sent = calls(arm)
    error = SINGLE_PASS_ERROR * TIER_ERROR**model.tier * _useful_compute(arm) ** -EXPONENT
    output_tokens = _OUTPUT_TOKENS * spent
    cost_usd_micros = (
        _INPUT_TOKENS * sent * model.input_usd_per_mtok + output_tokens * model.output_usd_per_mtok
    )
    in_turn = spent / sent if arm.strategy == Strategy.SELF_CONSISTENCY else spent
    return Prior(
        accuracy=1.0 - max(error, _LEAST_ERROR),
        cost_usd=cost_usd_micros / 1e6,
        output_tokens=output_tokens,
        latency_s=SECONDS_PER_COMPUTE * in_turn,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is expected of a arms before any outcome of theirs.

    `accuracy` (a,), and how many rows' worth of outcomes that is, `rows` (a,).
    """

    accuracy: Floats
    rows: Floats


def expect(arms: Sequence[Arm], models: Sequence[Model], trained: Mapping[str, float]) -> Expected:
    """What is to be expected of arms from those that were trained on; a model per arm.

    `trained` are mean accuracies by key. The priors' log-odds are moved by how far those
    of trained arms lie from theirs, the more the more alike the arms are. How much to
    trust that is learnt by leaving each trained arm out in turn (empirical Bayes): its
    error, in units of what was expected of it, scales what is expected of all. Of a model
    of which no arm was trained on, the tier is a guess, and so its arms vary by more.
    """
    log_odds = _log_odds(
        np.array([prior(*both).accuracy for both in zip(arms, models, strict=True)])
    )
    alike = covariance(arms, models)
    known = np.flatnonzero([arm.key in trained for arm in arms])
    seen = _log_odds(np.array([trained[arms[place].key] for place in known.tolist()], np.float64))
    inverse = np.linalg.inv(alike[np.ix_(known, known)] + NOISE * np.eye(len(known)))
    away = inverse @ (seen - log_odds[known])
    to_known = alike[:, known]
    variance = np.diag(alike) + NOISE - ((to_known @ inverse) * to_known).sum(axis=1)
    scale = (float((away**2 / np.diag(inverse)).sum()) + _STEADY_ARMS) / (len(known) + _STEADY_ARMS)
    accuracy = 1.0 / (1.0 + np.exp(-(log_odds + to_known @ away)))
    foreign = ~np.isin([arm.model for arm in arms], [arms[place].model for place in known.tolist()])
    variance = scale * variance + _GUESSED_TIER * foreign
    rows = 1.0 / (accuracy * (1.0 - accuracy) * variance)
    return Expected(accuracy=accuracy, rows=np.clip(rows, _LEAST_ROWS, _MOST_ROWS))


def expected_accuracy(
    arms: Sequence[Arm], models: Sequence[Model], trained: Mapping[str, float]
) -> Floats:
    """The accuracies of `expect`, shape (a,)."""
    return expect(arms, models, trained).accuracy


def _log_odds(accuracy: Floats) -> Floats:
    cut = np.clip(accuracy, _CLIP, 1.0 - _CLIP)
    return np.asarray(np.log(cut / (1.0 - cut)))


def _useful_compute(arm: Arm) -> float:
    """The arm's compute as far as accuracy was seen to rise with it."""
    flat = replace(arm, params={**arm.params, **_FLAT})
    return min(compute(arm), compute(flat))


_FLAT = {"samples": SELF_CONSISTENCY_FLAT_SAMPLES, "rounds": REFINEMENT_FLAT_ROUNDS}


def calls(arm: Arm) -> float:
    """How often the arm sends the query to its model."""
    single = arm.params.get("base") == Strategy.SINGLE
    if arm.strategy == Strategy.SELF_CONSISTENCY:
        return max(compute(arm) / (1.0 if single else 2.0), 1.0)
    return max(compute(arm), 1.0) if arm.strategy in _MANY_CALLS else 1.0


_MANY_CALLS = frozenset({Strategy.REFINEMENT, Strategy.TREE_OF_THOUGHTS, Strategy.DYNAMIC})
