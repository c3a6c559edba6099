"""What an arm is expected to bring before anything was learnt of it.

Accuracy follows a power law in compute from a base that rises with the model's tier;
tokens and cost follow compute; latency follows compute but for samples, which run side by
side. The figures are fitted by eye to the published tables, which measured one model: they
order arms sensibly and promise nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router.policy.arms import compute
from router.types import Arm, Floats, Model, Strategy

LATENCY_SPREAD = np.array([0.0, 0.99, 1.40])
"""Log ratios of the 0.5, 0.95 and 0.99 quantiles to the median: log-normal, sigma 0.6."""

_EXPONENT = 0.15
_BASE_ACCURACY, _ACCURACY_PER_TIER, _MOST_BASE = 0.45, 0.10, 0.85
_MOST_ACCURACY = 0.97
_STEADY_ARMS = 2.0
_INPUT_TOKENS, _OUTPUT_TOKENS = 200.0, 150.0
_SINGLE_PASS_S = 0.8


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
    calls = _calls(arm)
    base = min(_BASE_ACCURACY + _ACCURACY_PER_TIER * model.tier, _MOST_BASE)
    output_tokens = _OUTPUT_TOKENS * spent
    cost_usd_micros = (
        _INPUT_TOKENS * calls * model.input_usd_per_mtok + output_tokens * model.output_usd_per_mtok
    )
    in_turn = spent / calls if arm.strategy == Strategy.SELF_CONSISTENCY else spent
    return Prior(
        accuracy=min(base * spent**_EXPONENT, _MOST_ACCURACY),
        cost_usd=cost_usd_micros / 1e6,
        output_tokens=output_tokens,
        latency_s=_SINGLE_PASS_S * in_turn,
    )


def expected_accuracy(
    arms: Sequence[Arm], models: Sequence[Model], trained: Mapping[str, float]
) -> Floats:
    """What is to be expected of arms before any outcome, shape (a,); a model per arm.

    The priors' log-odds, moved by how far the arms that were trained on (mean accuracies
    by key) lie from theirs: empirical Bayes, that move being shrunk as by two more arms
    that lie where their prior says.
    """
    priors = [prior(arm, model).accuracy for arm, model in zip(arms, models, strict=True)]
    log_odds = np.array([_log_odds(accuracy) for accuracy in priors])
    moves = [
        _log_odds(trained[arm.key]) - expected
        for arm, expected in zip(arms, log_odds.tolist(), strict=True)
        if arm.key in trained
    ]
    move = sum(moves) / (len(moves) + _STEADY_ARMS)
    return np.asarray(1.0 / (1.0 + np.exp(-(log_odds + move))))


def _log_odds(accuracy: float) -> float:
    cut = min(max(accuracy, 0.01), 0.99)
    return math.log(cut / (1.0 - cut))


def _calls(arm: Arm) -> float:
    single = arm.params.get("base") == Strategy.SINGLE
    if arm.strategy == Strategy.SELF_CONSISTENCY:
        return max(compute(arm) / (1.0 if single else 2.0), 1.0)
    return max(compute(arm), 1.0) if arm.strategy in _MANY_CALLS else 1.0


_MANY_CALLS = frozenset({Strategy.REFINEMENT, Strategy.TREE_OF_THOUGHTS, Strategy.DYNAMIC})
