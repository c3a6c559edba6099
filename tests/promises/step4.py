"""Step 4: learning every night: what a log of one policy tells of another."""

from __future__ import annotations

from tests.promises import (
    Measured,
    canary,
    drift,
    exploration,
    fairness,
    gate,
    ope,
    promise,
    scaling,
)


@promise(
    step=4,
    name="Off-policy intervals cover",
    must="500 logged sets of 3,000 from each table, three behaviour policies: 95 % intervals of DR "
    "cover 93-97 % by table; DR's error below IPS's unless the logger knew the outcomes; good "
    "overlap not named poor in 95 %",
)
def intervals() -> Measured:
    """Accuracy, cost and latency of a routed policy, of a constant one, and their difference."""
    return ope.intervals_cover()


@promise(
    step=4,
    name="Poor overlap is named",
    must="floors of 0.001, deterministic loggers, new arms, untried regions: flagged in at least "
    "95 % of the planted cases in each table",
)
def overlap() -> Measured:
    """On a tenth of the queries or on all of them, in logs of 500 and of 3,000."""
    return ope.poor_overlap_is_named()


@promise(
    step=4,
    name="Drift's false alarms",
    must="500 null windows of each table: anything called moved in at most 5 %, plus the chance "
    "of 500 runs",
)
def quiet() -> Measured:
    """At the first look, which spends most of the level."""
    return drift.quiet()


@promise(
    step=4,
    name="Drift is found and named",
    must="a fifth of the queries others, an arm 5 points worse at n = 5,000, a price x1.5, a "
    "latency x1.3: found, named and retraining asked for in 90 % on the first night",
)
def moved() -> Measured:
    """On the cascades; the fourteenth night is reported beside."""
    return drift.finds()


@promise(
    step=4,
    name="The fairness audit",
    must="equal candidates blocked in at most 5 % of 500 audits of each table, plus chance; one "
    "slice 15 points worse blocked and named in 90 %",
)
def fair() -> Measured:
    """Slices by language, topic, collection and tenant, at once."""
    return fairness.holds()


@promise(
    step=4,
    name="Scaling laws",
    must="95 % intervals cover the true exponent in at least 92 %; published figures, simulated, "
    "give exponents from 0.15 to 0.35",
)
def laws() -> Measured:
    """Laws that are known, the simulated provider's arms, and the real strategies."""
    return scaling.holds()


@promise(
    step=4,
    name="A canary's drop is rolled back",
    must="5 points of accuracy: after at most 3,000 canary decisions at the median, judged after "
    "each; also at 95 % and while the mix drifts",
)
def canary_drops() -> Measured:
    """And how long it takes for costs, latency and errors."""
    return canary.drops_are_rolled_back()


@promise(
    step=4,
    name="A canary that is no worse goes on",
    must="no rollback in 95 % of 1,000 null runs, under the plan and over 10,000 decisions",
)
def canary_nulls() -> Measured:
    """Judged after each decision, with a steady mix and with one that drifts."""
    return canary.null_runs_go_on()


@promise(
    step=4,
    name="The gate",
    must="planted candidates in logs of 10,000 of an exploring incumbent: sabotaged ones (shuffled "
    "labels, stale, leaky, broken calibration, one slice 20 points worse) promoted at most 1 %, "
    "better ones by 2 to 4 points at least 80 %, equal ones at most 5 %, none below the best "
    "constant",
)
def gated() -> Measured:
    """On every table, whatever its number of arms, at two values of a correct answer."""
    return gate.the_gate_holds()


@promise(
    step=4,
    name="Exploration worth its cost",
    must="directed against uniform, both adding a tenth to the cost: the log worth twice as many "
    "outcomes of what the next policy picks instead, in each table; its gap closed no worse",
)
def explored() -> Measured:
    """Around the picks of a policy of 500 outcomes, 5,000 decisions, 4 seeds."""
    return exploration.is_worth_its_cost()
