"""Step 3: slos as promises: certificates, the monitor, latency under load, budgets, and the law."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from statistics import median
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router import pipeline
from router.bundle.embedder import load_embedder
from router.bundle.loader import load_archive
from router.conditions import PLAIN, Backend, Conditions, Conversation, Promise
from router.loading import bind, learned
from router.policy.policy import Policy, Predicted
from router.slo import Slo
from router.types import Bounds, Query
from tests.kit.bundles import TRUSTED
from tests.kit.laws import check
from tests.kit.policies import catalog, some_conditions, some_slos
from tests.kit.serving_bundles import bundle
from tests.promises import Measured, certificates, latency, monitoring, pacing, passes, promise
from tests.promises.latency_served import served
from training.learning.head import MOST_TREES

BOUNDS_S = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 3.0)
BUDGET_SEEDS = range(2)
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@promise(
    step=3,
    name="Certified floors hold",
    must="at most 5 % of certified trade-offs below their floor in truth, plus the chance of 500 "
    "runs, in each table, at n = 300, 1,000 and 3,000, from full and from bandit logs; "
    "prediction-powered margins shorter than plain ones",
)
def certified() -> Measured:
    """On the half of each table that the policy has not seen."""
    return certificates.the_promise_holds()


@promise(
    step=3,
    name="The monitor's false alarms",
    must="1,000 streams at the floor, a look after each of 10,000 outcomes: at most 5 % in total",
)
def false_alarms() -> Measured:
    """At three floors, with right or wrong answers and with fractional scores."""
    found = monitoring.false_alarms()
    return Measured(
        figures="; ".join(map(str, found)), held=all(each.share <= 0.05 for each in found)
    )


@promise(
    step=3,
    name="The monitor finds a drop",
    must="5 points below the floor, found within 1,500 outcomes in 90 % of the streams, from the "
    "start at each floor, and over all histories together",
)
def drops() -> Measured:
    """From the start, and after 5,000 outcomes above or at the floor."""
    found = monitoring.detections()
    first = [each for each in found if each.history == "from the start"]
    together = sum(each.within for each in found) / len(found)
    worst = min(found, key=lambda each: each.within)
    return Measured(
        figures=f"{'; '.join(map(str, first))}; all histories together {together:.1%}, "
        f"the hardest: {worst}",
        held=all(each.within >= 0.9 for each in first) and together >= 0.9,
    )


@promise(
    step=3,
    name="Latency bounds hold",
    must="cascades, bounds from 0.3 to 3 s: realised violations at the 0.95 quantile at most 6 %",
)
def bounds_hold() -> Measured:
    """Five objectives on three 70/30 splits; also if every decision took the slowest arm."""
    found = [latency.broken(bound_s) for bound_s in BOUNDS_S]
    shares = [each.share for each in found]
    return Measured(
        figures=f"{min(shares):.1%} to {max(shares):.1%}, "
        f"highest upper 95 % limit {max(each.high for each in found):.1%}, worst objective "
        f"{max(each.worst for each in found):.1%}, choosing the slowest arm "
        f"{max(each.slowest for each in found):.1%}",
        held=max(shares) <= 0.06,
    )


@promise(
    step=3,
    name="A backend that slows",
    must="4x slower or failing in simulation: the bound is met again within 30 s, traffic is back "
    "within 60 s of its recovery; on a real server too",
)
def slowed() -> Measured:
    """In simulated time over rates and bounds, then on two real workers."""
    found, real = list(latency.every_slowed()), served()
    late, back = max(each.then for each in found), min(each.back for each in found)
    return Measured(
        figures=f"{len(found)} runs: violations from 30 s on at most {late:.1%}, traffic after "
        f"60 s at least {back:.2f} of before; real server: left in {real.left_s:.1f} s, back in "
        f"{real.back_s:.1f} s",
        held=late <= 0.06 and back >= 0.8 and real.left_s <= 30.0 and real.back_s <= 60.0,
    )


@promise(
    step=3,
    name="Budgets are paced",
    must="a day of bursty traffic on 3 workers: never above the cap, at most 3 % unspent where "
    "demand allows, accuracy above a hard stop's",
)
def paced() -> Measured:
    """The day after a first one, whose hourly demand it knows; the first is reported beside."""
    cases = [case for case in pacing.CASES if case[0] < 1.0]
    found = [
        pacing.two_days(seed, share, free_arm=free)
        for seed in BUDGET_SEEDS
        for share, free in cases
    ]
    least = min(each.second.spent for each in found)
    gains = [each.second.accuracy - each.hard_stop.accuracy for each in found]
    first = min(each.first.spent for each in found)
    return Measured(
        figures=f"{len(found)} days: spent {least:.1%} at least and never above the cap, accuracy "
        f"{100 * min(gains):+.1f} to {100 * max(gains):+.1f} points on a hard stop; "
        f"a first day, with nothing known of the demand, {first:.1%} at least",
        held=all(each.capped for each in found) and least >= 0.97 and min(gains) > 0.0,
    )


@promise(
    step=3,
    name="Every bound is obeyed or named",
    must="10,000 random slos x predictions x conditions: the choice obeys every bound or says "
    "which could not be met, never an error",
)
def law() -> Measured:
    """By Hypothesis, which shrinks what it finds."""

    @settings(
        max_examples=10_000, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.integers(0, 2**32 - 1), some_slos(), some_conditions())
    def every(seed: int, slo: Slo, conditions: Conditions) -> None:
        check(seed, slo, conditions)

    every()
    return Measured(figures="10,000 decisions, no other", held=True)


@promise(
    step=3,
    name="An slo reaches every worker",
    must="a change is applied by every worker within 2 s",
)
def slo_change() -> Measured:
    """Its own test, on a real server."""
    held = passes("an_slo_change_reaches_every_worker")
    return Measured(figures="within 2 s" if held else "later", held=held)


@promise(
    step=3,
    name="What a promise costs a decision",
    must="less than 0.1 ms more at the median than the same decision without conditions",
)
def added() -> Measured:
    """A learned policy of 24 arms; both in turn, prediction left out of both."""
    policy = _policy()
    [known] = policy.predict(["Prove that there is no largest prime."])
    plain = Slo(min_accuracy=0.6)
    full = replace(
        plain, max_latency_s=20.0, max_energy_wh=10.0, usd_per_kgco2e=1.0, safe_arm="m3:single"
    )
    surrounded = Conditions(
        promise=Promise(certificate_id="c", value_usd=0.5),
        backends={"m1": Backend(slowdown=2.0), "m2": Backend(available=False)},
        cost_multiplier=1.5,
        budget_left_usd=100.0,
        conversation=Conversation(model="m3", cached_tokens=2_000),
    )
    turns = [
        (_seconds(policy, known, plain, PLAIN), _seconds(policy, known, full, surrounded))
        for _ in range(3_000)
    ]
    before, after = (1e6 * median(each) for each in zip(*turns, strict=True))
    return Measured(
        figures=f"{before:.0f} us, {after - before:+.0f} us with all conditions at once",
        held=after - before < 100.0,
    )


@cache
def _policy() -> Policy:
    loaded = load_archive(bundle(catalog(), trees=MOST_TREES), trusted=TRUSTED, probe=False)
    return bind(learned(loaded, load_embedder()), catalog(), 1)


def _seconds(policy: Policy, known: Predicted, slo: Slo, conditions: Conditions) -> float:
    query, started = Query(text="x", input_tokens=3_000), time.perf_counter()
    pipeline.decide(
        policy,
        query,
        slo,
        Bounds(),
        decision_id=UUID(int=1),
        now=NOW,
        predicted=known,
        conditions=conditions,
    )
    return time.perf_counter() - started
