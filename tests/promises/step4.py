"""Step 4: learning every night: what a log of one policy tells of another."""

from __future__ import annotations

from tests.promises import Measured, ope, promise


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
