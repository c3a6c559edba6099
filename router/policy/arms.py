"""Arms as numbers: how much compute each spends, and the descriptors that the model sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.types import Arm, Floats, Model, Strategy

ARM_FEATURES = (
    "arm_index",
    "arm_tier",
    "arm_log_input_price",
    "arm_log_output_price",
    "arm_strategy",
    "arm_log_compute",
    "arm_log_samples",
    "arm_log_token_budget",
    "arm_mean_accuracy",
    "arm_log_mean_cost",
)
"""Names of the columns of `describe`; the first is categorical, NaN for an arm not trained on."""

SPENDING = frozenset({"samples", "tokens", "rounds", "depth", "width"})
"""Parameters that say how much compute a strategy spends, and nothing else of it."""

_STRATEGIES = tuple(Strategy)
_PRICE_FLOOR_USD_PER_MTOK = 1e-3
_LEAST, _MOST = 1e-3, 1e6


def compute(arm: Arm) -> float:
    """The arm's inference compute relative to one single pass of its model.

    The multiples are those of the published tables: chain of thought 2x at 256 tokens,
    4x at 1,024 and 8x at 4,096 (the square root of the budget), samples multiply, a
    round of refinement is 4x (generate, verify, regenerate), a tree is depth x width.
    """
    params = arm.params
    match arm.strategy:
        case Strategy.CHAIN_OF_THOUGHT:
            return _thought_compute(params)
        case Strategy.SELF_CONSISTENCY:
            single = params.get("base") == Strategy.SINGLE
            return _positive(params, "samples", 5) * (1.0 if single else _thought_compute(params))
        case Strategy.REFINEMENT:
            return 4.0 * _positive(params, "rounds", 3)
        case Strategy.TREE_OF_THOUGHTS:
            return _positive(params, "depth", 3) * _positive(params, "width", 5)
        case Strategy.DYNAMIC:
            return 4.0
        case _:
            return 1.0


def most_calls(arm: Arm) -> int:
    """How often the arm calls its model at most: a thought, however long, is one call."""
    if arm.strategy == Strategy.SELF_CONSISTENCY:
        return math.ceil(_positive(arm.params, "samples", 5))
    return 1 if arm.strategy == Strategy.CHAIN_OF_THOUGHT else math.ceil(compute(arm))


def _thought_compute(params: Mapping[str, Any]) -> float:
    return 2.0 * math.sqrt(_positive(params, "tokens", 256) / 256.0)


def _positive(params: Mapping[str, Any], name: str, default: float) -> float:
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    if not _LEAST <= value <= _MOST:
        return default
    return float(value)


def chains(arms: Sequence[Arm]) -> NDArray[np.intp]:
    """Places of arms that differ in compute alone, weakest first: a row each, shape (c, l).

    They share model, strategy and every parameter but samples, tokens, rounds, depth and
    width. A short row repeats its last place.
    """
    alike: dict[tuple[str, ...], list[int]] = {}
    for place, arm in enumerate(arms):
        rest = sorted(f"{name}={arm.params[name]}" for name in arm.params if name not in SPENDING)
        alike.setdefault((arm.model, arm.strategy, *rest), []).append(place)
    rows = [sorted(row, key=lambda place: compute(arms[place])) for row in alike.values()]
    rows = [row for row in rows if len(row) > 1]
    longest = max(map(len, rows), default=1)
    padded = [row + row[-1:] * (longest - len(row)) for row in rows]
    return np.array(padded, np.intp).reshape(len(rows), longest)


def describe(
    arm: Arm,
    model: Model,
    *,
    index: int | None,
    mean_accuracy: float = math.nan,
    mean_cost_usd: float = math.nan,
) -> Floats:
    """The arm's descriptor row, shape (len(ARM_FEATURES),).

    `index` is the arm's place among the trained arms; None where it was not trained on,
    and then the means, which come from the training log too, are NaN.
    """
    params = arm.params
    return np.array(
        [
            math.nan if index is None else index,
            model.tier,
            math.log(max(model.input_usd_per_mtok, _PRICE_FLOOR_USD_PER_MTOK)),
            math.log(max(model.output_usd_per_mtok, _PRICE_FLOOR_USD_PER_MTOK)),
            _strategy_index(arm.strategy),
            math.log(compute(arm)),
            math.log(_positive(params, "samples", 1)),
            math.log(_positive(params, "tokens", 1)),
            mean_accuracy,
            math.log(mean_cost_usd) if mean_cost_usd > 0 else math.nan,
        ],
        dtype=np.float64,
    )


def _strategy_index(strategy: str) -> float:
    return float(_STRATEGIES.index(Strategy(strategy))) if strategy in _STRATEGIES else math.nan
