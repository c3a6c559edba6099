"""Published figures on what more inference compute buys; this is their only home.

Compute is counted in single passes without chain of thought. The two tables disagree
where they overlap (8x buys 68.4 % in the first and 58.7 % in the second, 12x of
refinement 71.5 % and 10x of it 61.2 %): accuracy and cost are taken from `MATH`, latency
and the strategies that stand nowhere else from `STRATEGIES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.types import Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One row: what a strategy reached, at which compute; accuracies are shares in [0, 1]."""

    strategy: Strategy
    params: Mapping[str, int] = field(default_factory=dict)
    compute: float
    math_accuracy: float
    gsm8k_accuracy: float | None = None
    cost_usd: float | None = None
    latency_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceListed:
    """A model's price per million tokens, and the compute up to which it scales."""

    model: str
    usd_per_mtok: float
    compute_max: float


MATH = (
    Measured(strategy=Strategy.SINGLE, compute=1, math_accuracy=0.423, cost_usd=0.001),
    Measured(
        strategy=Strategy.CHAIN_OF_THOUGHT,
        params={"tokens": 256},
        compute=2,
        math_accuracy=0.541,
        cost_usd=0.002,
    ),
    Measured(
        strategy=Strategy.CHAIN_OF_THOUGHT,
        params={"tokens": 1024},
        compute=4,
        math_accuracy=0.627,
        cost_usd=0.004,
    ),
    Measured(
        strategy=Strategy.CHAIN_OF_THOUGHT,
        params={"tokens": 4096},
        compute=8,
        math_accuracy=0.684,
        cost_usd=0.008,
    ),
    Measured(
        strategy=Strategy.SELF_CONSISTENCY,
        params={"samples": 10},
        compute=20,
        math_accuracy=0.742,
        cost_usd=0.020,
    ),
    Measured(
        strategy=Strategy.SELF_CONSISTENCY,
        params={"samples": 50},
        compute=100,
        math_accuracy=0.798,
        cost_usd=0.100,
    ),
    Measured(
        strategy=Strategy.REFINEMENT,
        params={"rounds": 3},
        compute=12,
        math_accuracy=0.715,
        cost_usd=0.012,
    ),
)

STRATEGIES = (
    Measured(
        strategy=Strategy.SINGLE,
        compute=1,
        math_accuracy=0.423,
        gsm8k_accuracy=0.681,
        latency_s=0.8,
    ),
    Measured(
        strategy=Strategy.CHAIN_OF_THOUGHT,
        params={"steps": 8},
        compute=8,
        math_accuracy=0.587,
        gsm8k_accuracy=0.824,
        latency_s=6.4,
    ),
    Measured(
        strategy=Strategy.REFINEMENT,
        params={"rounds": 10},
        compute=10,
        math_accuracy=0.612,
        gsm8k_accuracy=0.850,
        latency_s=8.0,
    ),
    Measured(
        strategy=Strategy.TREE_OF_THOUGHTS,
        params={"depth": 3, "width": 5},
        compute=15,
        math_accuracy=0.678,
        gsm8k_accuracy=0.883,
        latency_s=12.0,
    ),
    Measured(
        strategy=Strategy.DYNAMIC,
        compute=4,
        math_accuracy=0.635,
        gsm8k_accuracy=0.861,
        latency_s=3.2,
    ),
)

PRICES = (
    PriceListed(model="o1", usd_per_mtok=15.00, compute_max=10),
    PriceListed(model="Claude 3.5 Sonnet", usd_per_mtok=3.00, compute_max=5),
    PriceListed(model="Gemini 1.5 Pro", usd_per_mtok=2.50, compute_max=8),
    PriceListed(model="Llama 3.1 405B", usd_per_mtok=1.20, compute_max=100),
    PriceListed(model="Mixtral 8x22B", usd_per_mtok=0.50, compute_max=3),
)

USD_PER_COMPUTE = 0.001  # of every row of MATH
SECONDS_PER_COMPUTE = 0.8  # of every row of STRATEGIES
SELF_CONSISTENCY_FLAT_SAMPLES = 50
REFINEMENT_FLAT_ROUNDS = 9
EXPONENT_LOW, EXPONENT_HIGH = 0.15, 0.35


def measured(strategy: Strategy, **params: int) -> Measured:
    """The row of `MATH`, or else of `STRATEGIES`, with exactly these parameters.

    Raises KeyError when neither table has it.
    """
    for row in (*MATH, *STRATEGIES):
        if row.strategy is strategy and dict(row.params) == params:
            return row
    raise KeyError(f"no published row for {strategy} with {params}")
