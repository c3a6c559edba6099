"""Outcomes of the simulated provider's model of published figures, and of laws that are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router.policy.arms import compute
from router.simulation import scaling
from router.types import Arm, Floats, Strategy
from training.scaling.groups import Table

USD_PER_COMPUTE = 0.001
PUBLISHED = (
    Arm(model="m", strategy=Strategy.SINGLE),
    *(
        Arm(model="m", strategy=Strategy.CHAIN_OF_THOUGHT, params={"tokens": tokens})
        for tokens in (256, 1_024, 4_096)
    ),
    *(
        Arm(model="m", strategy=Strategy.SELF_CONSISTENCY, params={"samples": samples})
        for samples in (10, 50)
    ),
    *(
        Arm(model="m", strategy=Strategy.REFINEMENT, params={"rounds": rounds})
        for rounds in (1, 3, 6)
    ),
)


def published(queries: int, rng: np.random.Generator) -> Table:
    """Outcomes of a model of ability 0 on questions of all difficulties."""
    levels = rng.integers(0, scaling.LEVELS, queries) / (scaling.LEVELS - 1)
    hidden = rng.normal(0.0, scaling.HIDDEN_SPREAD, queries)
    logits = -(scaling.SLOPE * (levels - 0.5) + hidden)
    at = np.linspace(logits.min(), logits.max(), 60)
    right = np.column_stack(
        [np.interp(logits, at, [scaling.accuracy(x, arm) for x in at]) for arm in PUBLISHED]
    )
    return table(PUBLISHED, right, rng)


def table(arms: Sequence[Arm], right: Floats, rng: np.random.Generator) -> Table:
    """Right and wrong answers with these probabilities (q, a), at a price per compute."""
    cost = USD_PER_COMPUTE * np.array([compute(arm) for arm in arms])
    return Table(
        arms=tuple(arms),
        score=(rng.random(right.shape) < right).astype(float),
        cost_usd=np.tile(cost, (len(right), 1)) * rng.gamma(20.0, 1.0 / 20.0, right.shape),
    )


def voting(samples: Sequence[int]) -> tuple[Arm, ...]:
    """Self-consistency of one model over single passes, so that compute counts samples."""
    return tuple(
        Arm(
            model="m",
            strategy=Strategy.SELF_CONSISTENCY,
            params={"base": "single", "samples": count},
        )
        for count in samples
    )
