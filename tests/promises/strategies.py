"""Step 5, strategies: the simulated provider's rows, allocation by policy, adaptive sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from router.execution.strategies.self_consistency import SelfConsistency
from router.policy.sampling import Planned, SamplingRule
from router.policy.scaling import MATH
from router.policy.scaling import Measured as PublishedRow
from router.simulation.fleet import REFERENCE
from router.simulation.scaling import BASE_OUTPUT_TOKENS
from router.types import Arm, Floats
from tests.kit.logged import vote
from tests.kit.shared_data import SHARED_DATA
from tests.kit.simulated import Ran, answered
from tests.promises import Measured, promise
from training.benchmark.sampling import VALUES_IN_SAMPLES
from training.benchmark.splits import folded
from training.learning.sampling import ArmAccuracy, fit, stopped
from training.log.dataset import Dataset
from training.log.samples import Samples, polled
from training.log.sources import read

ROW_QUESTIONS = 2_000
OUTPUT_USD = 10e-6
"""The reference model's price of an output token."""

TAUGHT_LOSS = 0.001
"""On the training queries a rule may lose so much; the cheapest such rule is taken."""


MOST_DEVIATION = 2.7
"""Standard errors within which all 7 rows lie with a probability of 95 %."""


@promise(
    step=5,
    name="The simulated provider's rows",
    must=f"every strategy run on it, {ROW_QUESTIONS:,} questions a row: the published accuracy "
    "within sampling error, the published compute and price within 5 %",
)
def provider_rows() -> Measured:
    """Prints the table side by side."""
    arms = [Arm(model=REFERENCE, strategy=row.strategy, params=row.params) for row in MATH]
    _, ran = answered(arms, ROW_QUESTIONS)
    print(f"    {'strategy':42} published: accuracy, compute, $   measured: accuracy, compute, $")
    rows = [_beside(row, arm, ran[arm.key]) for row, arm in zip(MATH, arms, strict=True)]
    worst, compute, price = (max(column) for column in zip(*rows, strict=True))
    return Measured(
        figures=f"{len(rows)} rows: accuracy at most {worst:.1f} standard errors away, compute "
        f"{compute:.1%}, output's price {price:.1%}",
        held=worst <= MOST_DEVIATION and max(compute, price) <= 0.05,
    )


def _beside(row: PublishedRow, arm: Arm, ran: Sequence[Ran]) -> tuple[float, float, float]:
    """How far a row lies off: accuracy in standard errors, compute and price as shares."""
    assert row.cost_usd is not None
    score = np.array([each.score for each in ran])
    tokens = float(np.mean([each.output_tokens for each in ran]))
    compute, output_usd = tokens / BASE_OUTPUT_TOKENS, tokens * OUTPUT_USD
    error = float(score.std() / len(score) ** 0.5)
    print(
        f"    {arm.key:42} {row.math_accuracy:9.1%} {row.compute:5.0f}x  {row.cost_usd:.4f}"
        f"            {score.mean():9.1%} {compute:6.2f}x  {output_usd:.4f}  (+-{error:.1%})"
    )
    return (
        abs(float(score.mean()) - row.math_accuracy) / error,
        abs(compute / row.compute - 1.0),
        abs(output_usd / row.cost_usd - 1.0),
    )


@promise(
    step=5,
    name="Adaptive self-consistency",
    must="strategy_samples, averaged over its 8 arms: at most 55 % of the samples of the fixed "
    "10 for a loss of at most 0.3 points",
)
def adaptive_self_consistency() -> Measured:
    """The strategy itself on recorded samples; the rule has learnt from other queries."""
    table = read(SHARED_DATA / "strategy_samples.parquet").table
    samples, whole = Samples.from_table(table), Dataset.from_table(table)
    assert samples is not None
    arms: list[str] = []
    found: list[tuple[float, ...]] = []
    for split in folded(whole, 5, 0):
        train, test = (samples.of_queries(side.queries) for side in (split.train, split.test))
        fixed = vote(test, [SelfConsistency()] * len(test), adaptive=False)
        learnt = vote(
            test, [SelfConsistency(rule=each) for each in rules(train, test)], adaptive=True
        )
        beta = vote(test, [SelfConsistency()] * len(test), adaptive=True)
        arms += test.arm
        ways = (learnt, beta)
        columns = [
            column for way in ways for column in (way.drawn / fixed.drawn, fixed.score - way.score)
        ]
        found += zip(*(column.tolist() for column in columns), strict=True)
    share, loss, beta_share, beta_loss = (by_arm(arms, column) for column in np.array(found).T)
    return Measured(
        figures=f"{share.mean():.0%} of the samples ({share.min():.0%} to {share.max():.0%}), "
        f"loss {100 * loss.mean():+.2f} points ({100 * loss.min():+.2f} to "
        f"{100 * loss.max():+.2f}); the Beta rule {beta_share.mean():.0%}, "
        f"{100 * beta_loss.mean():+.2f}",
        held=bool(len(share) == 8 and share.mean() <= 0.55 and loss.mean() <= 0.003),
    )


def rules(train: Samples, test: Samples) -> Iterator[SamplingRule]:
    """A learnt rule for each group of the test, out of the training queries alone."""
    means = ArmAccuracy.of(train)
    model = fit(train, means.at(train), seed=0)
    assert model is not None
    most = test.answer.shape[1]
    plan, found = model.plan(most), polled(train)
    full = found.score[:, -1].mean()

    def rule(value: float, predicted: Floats) -> Planned:
        price = np.ones_like(predicted)
        return Planned(plan=plan, value_usd=value, price_usd=price, predicted=predicted)

    taught = means.at(train)[:, None]
    values = (
        value
        for value in VALUES_IN_SAMPLES
        if full - stopped(rule(value, taught), found).score.mean() <= TAUGHT_LOSS
    )
    value = next(values, VALUES_IN_SAMPLES[-1])
    return (rule(value, predicted) for predicted in means.at(test))


def by_arm(arms: list[str], values: Floats) -> Floats:
    """The mean of each arm."""
    known, arm = np.unique(np.array(arms), return_inverse=True)
    return np.asarray(np.bincount(arm, values) / np.bincount(arm, minlength=len(known)))
