"""The scaling-law report holds: intervals cover known exponents, published ones come back."""

from __future__ import annotations

import numpy as np

from router.policy.scaling import EXPONENT_HIGH, EXPONENT_LOW
from tests.kit.scaling import published, table, voting
from tests.kit.shared_data import SHARED_DATA
from tests.promises import Measured
from training.log.dataset import Dataset
from training.log.sources import read
from training.scaling.groups import Table
from training.scaling.law import scaling_laws
from training.scaling.values import FITTED

RUNS = 300
QUERIES = 1_000
SAMPLES = (1, 2, 4, 8, 16)
EXPONENTS = (0.15, 0.25, 0.35)


def covered(exponent: float, runs: int = RUNS) -> float:
    """The share of 95 % intervals that hold the exponent by which errors truly fall."""
    rng, arms = np.random.default_rng(round(100 * exponent)), voting(SAMPLES)
    right = np.tile(1.0 - 0.5 * np.array(SAMPLES, float) ** -exponent, (QUERIES, 1))
    held = 0
    for _ in range(runs):
        [law] = scaling_laws(table(arms, right, rng), rng=rng, resamples=200).laws
        held += law.exponent is not None and law.exponent.low <= exponent <= law.exponent.high
    return held / runs


def real() -> tuple[int, int, str]:
    """Ladders of the strategies table with an exponent, all of them, and the surest step."""
    dataset = Dataset.from_table(read(SHARED_DATA / "strategies.parquet").table)
    found = scaling_laws(
        Table(arms=dataset.arms, score=dataset.table("score"), cost_usd=dataset.table("cost_usd")),
        rng=np.random.default_rng(0),
    )
    best = found.next_dollar
    fitted = sum(each.told == FITTED for each in found.laws)
    step = "nowhere" if best is None else f"{best.weaker} to {best.stronger}"
    return fitted, len(found.laws), step


def holds() -> Measured:
    """Coverage at three exponents, the published figures, and the real strategies."""
    shares = {exponent: covered(exponent) for exponent in EXPONENTS}
    rng = np.random.default_rng(0)
    laws = [each for each in scaling_laws(published(20_000, rng), rng=rng).laws if each.exponent]
    exponents = {each.strategy: each.exponent.estimate for each in laws if each.exponent}
    fitted, ladders, step = real()
    inside = [EXPONENT_LOW <= each <= EXPONENT_HIGH for each in exponents.values()]
    return Measured(
        figures="coverage "
        + ", ".join(f"{share:.1%} at {exponent}" for exponent, share in shares.items())
        + "; published figures simulated: "
        + ", ".join(f"{name} {value:.2f}" for name, value in exponents.items())
        + f"; real strategies: {fitted} of {ladders} ladders fitted, the next dollar from {step}",
        held=min(shares.values()) >= 0.92 and all(inside) and len(inside) >= 2,
    )


if __name__ == "__main__":
    print(holds())
