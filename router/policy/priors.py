"""What an arm is expected to bring before anything was learnt of it.

Accuracy follows a power law in compute from a base that rises with the model's tier;
tokens and cost follow compute; latency follows compute but for samples, which run side by
side. The figures are fitted by eye to the published tables, which measured one model: they
order arms sensibly and promise nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.policy.arms import compute
from router.types import Arm, Model, Strategy

LATENCY_SPREAD = np.array([0.0, 0.99, 1.40])
"""Log ratios of the 0.5, 0.95 and 0.99 quantiles to the median: log-normal, sigma 0.6."""

_EXPONENT = 0.15
_BASE_ACCURACY, _ACCURACY_PER_TIER, _MOST_BASE = 0.45, 0.10, 0.85
_MOST_ACCURACY = 0.97
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


def _calls(arm: Arm) -> float:
    single = arm.params.get("base") == Strategy.SINGLE
    if arm.strategy == Strategy.SELF_CONSISTENCY:
        return max(compute(arm) / (1.0 if single else 2.0), 1.0)
    return max(compute(arm), 1.0) if arm.strategy in _MANY_CALLS else 1.0


_MANY_CALLS = frozenset({Strategy.REFINEMENT, Strategy.TREE_OF_THOUGHTS, Strategy.DYNAMIC})
