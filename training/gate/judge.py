"""The gate: whether a candidate may reach traffic, and why not where it may not.

held-out interactions + what each contestant would pick there -> what must be shown
slos, slices, calibration, latency, leaks, bundle, speed        -> what blocks
                                                                -> verdict

Pure: the same contest and checks give the same verdict, whatever the interactions' order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from training.fairness.verdict import Audit
from training.gate.conditions import (
    above_constant,
    above_incumbent,
    calibrated,
    fast_enough,
)
from training.gate.contest import Contest
from training.gate.facts import (
    Bundle,
    Learnt,
    Promised,
    Timing,
    bundle_verifies,
    certifiable,
    decides_fast,
    fair,
    newer,
    unseen,
)
from training.gate.leaks import not_leaked
from training.gate.slices import no_slice_worse
from training.gate.verdict import Condition, Verdict


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What is known of a candidate beside its interactions.

    `unanswered` counts held-out queries that the incumbent has an arm for and the candidate
    has none. `audit` is the fairness audit, where one was made.
    """

    learnt: Learnt
    bundle: Bundle
    timing: Timing
    slos: Sequence[Promised] = ()
    audit: Audit | None = None
    unanswered: int = 0


def judge(contest: Contest, checks: Checks, *, seed: int = 0) -> Verdict:
    """The verdict on a candidate."""
    return Verdict(conditions=(*_shown(contest, checks, seed), *_told(checks)))


def _shown(contest: Contest, checks: Checks, seed: int) -> Iterator[Condition]:
    """The conditions that interactions tell."""
    if contest.incumbent is not None:
        yield above_incumbent(contest, contest.incumbent)
    yield above_constant(contest)
    yield no_slice_worse(contest, seed=seed)
    yield calibrated(contest)
    yield fast_enough(contest)
    yield not_leaked(contest, checks.learnt)


def _told(checks: Checks) -> Iterator[Condition]:
    """The conditions that are found out beside them."""
    yield unseen(checks.learnt)
    yield newer(checks.learnt)
    yield certifiable(checks.slos)
    if checks.audit is not None:
        yield fair(checks.audit)
    yield bundle_verifies(checks.bundle)
    yield decides_fast(checks.timing, checks.unanswered)
