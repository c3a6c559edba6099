"""The scaling-law report of a log: what its outcomes say more compute buys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from router.errors import InvalidInput
from training.log.dataset import Dataset
from training.scaling.groups import Table
from training.scaling.law import scaling_laws
from training.scaling.values import ScalingLaws

MOST_QUERIES = 30_000


def laws_of(log: pa.Table, *, seed: int = 0) -> ScalingLaws | None:
    """The laws of up to 30,000 of a log's queries; None where no outcome has a score.

    Arms that a policy picked for what suits them are weighed by 1 / propensity, so that
    means are those of all queries as far as the log has explored.
    """
    whole = Dataset.from_table(log)
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(whole.queries))[:MOST_QUERIES])
    rows = whole.rows.take(np.isin(whole.rows.query, drawn) & whole.scored)
    part = Dataset(
        queries=tuple(whole.queries[place] for place in drawn.tolist()),
        arms=whole.arms,
        rows=replace(rows, query=np.searchsorted(drawn, rows.query)),
    )
    table = Table(
        arms=whole.arms,
        score=part.table("score"),
        cost_usd=part.table("cost_usd"),
        weight=part.table("weight"),
    )
    try:
        return scaling_laws(table, rng=rng, traffic=_traffic(whole))
    except InvalidInput:
        return None


def _traffic(whole: Dataset) -> dict[str, float]:
    """The share of outcomes that each arm has, by its key."""
    count = np.bincount(whole.rows.arm, minlength=len(whole.arms))
    share = count / max(int(count.sum()), 1)
    return {arm.key: float(each) for arm, each in zip(whole.arms, share, strict=True)}
