"""Latency bounds on real latencies: how often they break, and what happens when a backend slows.

Policies are trained on 70 % of the cascades, bundled, verified and loaded, and decide on the
rest. `python -m tests.promises.latency` prints each case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from router.bundle.embedder import load_embedder
from router.errors import Infeasible
from router.offline import Asked, Policy
from router.slo import Slo
from router.types import Catalog, Floats, SloStatus
from tests.kit.shared_data import SHARED_DATA
from tests.kit.slowing import World, walk
from training.benchmark.leadline import Teacher
from training.benchmark.splits import held_out
from training.learning.policy import learn
from training.log.dataset import Dataset
from training.log.sources import read

BOUNDS_S = (0.3, 0.42, 0.58, 0.8, 1.12, 1.55, 2.16, 3.0)
MOST_LATE = 0.06
SPLITS = 3
RESAMPLES = 500

SLOWED_BOUNDS_S = (0.8, 1.5, 3.0)
RATES_PER_S = (5.0, 20.0)
FACTOR, TROUBLE_S, OVER_S, END_S = 4.0, 60.0, 180.0, 300.0
MET_AGAIN_S, BACK_S = 30.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """A policy, and queries that it has not seen with the latencies of its arms, (q, a)."""

    policy: Policy
    queries: tuple[str, ...]
    latency_s: Floats


@cache
def taught(seed: int) -> Taught:
    """One 70/30 split."""
    log = Dataset.from_table(read(SHARED_DATA / "cascades.parquet").table)
    split = held_out(log, 0.3, seed)
    policy = Teacher(partial(learn, embedder=load_embedder()))(split.train).policy
    index = {arm.key: place for place, arm in enumerate(split.test.arms)}
    latency_s = split.test.table("latency_s")[:, [index[arm.key] for arm in policy.arms]]
    return Taught(policy=policy, queries=split.test.queries, latency_s=latency_s)


def objectives(max_latency_s: float) -> Mapping[str, Slo]:
    """What a tenant may want besides the bound."""
    some = {
        "as the best arm": Slo(),
        "floor 0.7": Slo(min_accuracy=0.7),
        "floor 0.8": Slo(min_accuracy=0.8),
        "1e-4 $": Slo(accuracy_value_usd=1e-4),
        "1e-2 $": Slo(accuracy_value_usd=1e-2),
    }
    return {name: replace(slo, max_latency_s=max_latency_s) for name, slo in some.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """How often decisions that said that they meet a bound broke it.

    The 95 % interval is a bootstrap over queries, whose decisions belong together. `worst`
    is the greatest share of any objective; `slowest` is the share if every decision took
    the arm whose predicted quantile is nearest to the bound, where choosing on noise costs
    most.
    """

    bound_s: float
    decisions: int
    share: float
    low: float
    high: float
    worst: float
    slowest: float


def broken(bound_s: float) -> Broken:
    """All objectives on all splits under one bound."""
    late = [_late(taught(seed), bound_s) for seed in range(SPLITS)]
    texts = [text for seed in range(SPLITS) for text in taught(seed).queries]
    every = np.concatenate([each for each, _ in late], axis=1)
    slowest = np.concatenate([each for _, each in late])
    low, high = _interval(every, texts)
    return Broken(
        bound_s=bound_s,
        decisions=int((~np.isnan(every)).sum()),
        share=float(np.nanmean(every)),
        low=low,
        high=high,
        worst=float(np.nanmean(every, axis=1).max()),
        slowest=float(np.nanmean(slowest)),
    )


def _late(known: Taught, bound_s: float) -> tuple[Floats, Floats]:
    """Whether the bound was broken, by objective and query (o, q), NaN where not promised.

    Then the same for the slowest arm that is predicted to meet it, (q,).
    """
    slos = list(objectives(bound_s).values())
    late = np.full((len(slos), len(known.queries)), np.nan)
    slowest = np.full(len(known.queries), np.nan)
    asked = [Asked(query_id=str(row), text=text) for row, text in enumerate(known.queries)]
    for slo, each, decision in known.policy.decide_many(asked, slos):
        row = int(each.query_id)
        if isinstance(decision, Infeasible):
            continue
        if decision.choice.slo_status is SloStatus.MET:
            late[slo, row] = known.latency_s[row, decision.choice.index] > bound_s
        expected_s = decision.predictions.latency_s(0.95)
        if slo == 0 and (expected_s <= bound_s).any():
            place = int(np.where(expected_s <= bound_s, expected_s, -np.inf).argmax())
            slowest[row] = known.latency_s[row, place] > bound_s
    return late, slowest


def _interval(late: Floats, texts: Sequence[str]) -> tuple[float, float]:
    """The central 95 % of shares when queries are drawn anew; late (o, n) of n texts."""
    _, query = np.unique(texts, return_inverse=True)
    rows, count = ~np.isnan(late), int(query.max()) + 1
    broke = np.bincount(query, np.nansum(late, axis=0), count)
    promised = np.bincount(query, rows.sum(axis=0), count)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(count, np.full(count, 1.0 / count), RESAMPLES)
    shares = (drawn @ broke) / np.maximum(drawn @ promised, 1.0)
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowed:
    """What came of a backend's trouble, the most used one's, in simulated time.

    Shares of promised decisions that broke the bound: before, in the first 30 s of it, in
    the 30 s after those, and from then to its end; and the backend's share of the traffic
    from 60 s after it over that before it.
    """

    case: str
    decisions: int
    before: float
    at_first: float
    then: float
    rest: float
    back: float
    probes: int


def slowed(bound_s: float, per_s: float, factor: float, seed: int = 0) -> Slowed:
    """A backend that is slower by a factor for two minutes; infinite: it fails."""
    known = taught(0)
    slo = Slo(accuracy_value_usd=_middle_value(known.policy), max_latency_s=bound_s)
    world = _world(known, slo)
    most = _most_used(world)

    def trouble(model: str, at_s: float) -> float:
        return factor if model == most and TROUBLE_S <= at_s < OVER_S else 1.0

    walked = walk(world, trouble, per_s=per_s, seconds=END_S, seed=seed)
    met_s = TROUBLE_S + MET_AGAIN_S
    return Slowed(
        case=f"{most}, x {factor:g}, {per_s:g}/s, bound {bound_s:g} s",
        decisions=len(walked.at_s),
        before=walked.late_share(0.0, TROUBLE_S),
        at_first=walked.late_share(TROUBLE_S, met_s),
        then=walked.late_share(met_s, met_s + 30.0),
        rest=walked.late_share(met_s, OVER_S),
        back=walked.traffic(most, OVER_S + BACK_S, END_S) / walked.traffic(most, 0.0, TROUBLE_S),
        probes=int(walked.probe.sum()),
    )


def _middle_value(policy: Policy) -> float:
    """A value of a correct answer at which several models are used."""
    curve = policy._policy.tradeoff
    assert curve is not None
    return float(np.quantile(curve.value_usd, 0.7))


def _world(known: Taught, slo: Slo) -> World:
    policy = known.policy._policy
    timed = np.flatnonzero(~np.isnan(known.latency_s).any(axis=1))
    texts = [known.queries[row] for row in timed.tolist()]
    predicted = known.policy._predicted(texts)
    manifest = known.policy.manifest
    return World(
        policy=policy,
        catalog=Catalog(models=manifest.models, arms=manifest.arms),
        known=[predicted[text] for text in texts],
        latency_s=known.latency_s[timed],
        slo=slo,
    )


def _most_used(world: World) -> str:
    calm = walk(world, lambda _model, _at_s: 1.0, per_s=5.0, seconds=60.0, seed=1)
    models, counts = np.unique(calm.model, return_counts=True)
    return str(models[counts.argmax()])


def every_slowed(factors: Sequence[float] = (FACTOR, np.inf)) -> Iterator[Slowed]:
    """Each bound, each rate, slower or failing."""
    for factor in factors:
        for bound_s in SLOWED_BOUNDS_S:
            for per_s in RATES_PER_S:
                yield slowed(bound_s, per_s, factor)


def main() -> None:
    """Prints every case."""
    for bound_s in BOUNDS_S:
        print(broken(bound_s), flush=True)
    for each in every_slowed():
        print(each, flush=True)


if __name__ == "__main__":
    main()
