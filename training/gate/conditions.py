"""What the gate measures on held-out interactions: utility, calibration, latency.

Utility in dollars is value x score - cost. All estimates are doubly robust and paired, row
by row on the same interactions. The estimator is fixed beforehand: switch-DR is sharper
where weights are large, but its interval leaves out its bias, and whichever of several
looks best has no error rate.
"""

from __future__ import annotations

import numpy as np

from router.types import Floats, Mask
from training.evaluation.logged import Logged
from training.evaluation.ope import Evaluation, How, compare, evaluate
from training.gate.contest import Contest, Contestant, Held
from training.gate.verdict import Condition
from training.learning.calibration import calibration_error

ABOVE_INCUMBENT = 0.95
"""That the candidate's utility is above the incumbent's: one that is equal passes 1 in 20."""

ABOVE_CONSTANT = 0.9
"""The same of the best constant arm's, which differs on more interactions.

It decides alone only where the incumbent has sunk below that arm: one below an arm that the
incumbent is above is below the incumbent too.
"""

BLOCKING = 0.99
"""That something is worse, on one side, before it blocks."""

MOST_ECE = 0.05
"""The calibration error beyond chance that a candidate may have whatever the incumbent's is."""

MOST_BROKEN_PROMISE = 0.1
"""By how much predictions of a candidate's own picks may exceed what these reach."""

_BINS = 15
_LEAST_ROWS = 30


def utility(held: Held) -> Logged:
    """The interactions with their utility in dollars."""
    value = held.value_usd
    return Logged(
        arm=held.arm,
        propensity=held.propensity,
        reward=value * held.score - held.cost_usd,
        predicted=value[:, None] * held.expected_score - held.expected_cost_usd,
        response=held.response,
        cluster=held.cluster,
        region=held.region,
    )


def above_incumbent(contest: Contest, incumbent: Contestant) -> Condition:
    """Whether the candidate's utility is above the incumbent's."""
    return _above(contest, "incumbent", incumbent.target, ABOVE_INCUMBENT)


def above_constant(contest: Contest) -> Condition:
    """Whether the candidate's utility is above the best constant arm's."""
    return _above(contest, "best constant", contest.constant_target, ABOVE_CONSTANT)


def _above(contest: Contest, other: str, target: Floats, confidence: float) -> Condition:
    logged = utility(contest.held)
    found = compare(logged, contest.candidate.target, target, _one_sided(confidence))
    value = float(contest.held.value_usd.mean())
    return Condition(
        name=f"utility above the {other}'s",
        held=bool(found.can_tell and found.low > 0.0),
        measured={
            "difference_usd": found.estimate,
            "low_usd": found.low,
            "difference_points": 100.0 * found.estimate / value,
            "low_points": 100.0 * found.low / value,
            "value_usd": value,
            **_differing(contest.candidate.target, target, found),
        },
        must=f"the lower {confidence:.1%} bound of the difference is above 0",
        why=found.reason or _not_above(found, other),
    )


def _one_sided(confidence: float) -> How:
    return How(confidence=2.0 * confidence - 1.0)


def _differing(target: Floats, other: Floats, found: Evaluation) -> dict[str, float]:
    """How often the picks differ, and what the log is worth where they do."""
    return {
        "differing": float(np.abs(target - other).sum(axis=1).mean() / 2.0),
        "interactions": len(target),
        "effective_n": min(each.effective_n for each in found.overlap),
    }


def _not_above(found: Evaluation, other: str) -> str:
    if found.low > 0.0:
        return ""
    if found.estimate <= 0.0:
        return f"the candidate's utility is not above the {other}'s"
    return (
        f"chance may explain that the candidate is ahead of the {other}; bring more interactions, "
        "or explore more"
    )


def calibrated(contest: Contest) -> Condition:
    """Whether predictions hold on the logged arms, and on the candidate's own picks.

    The error is that beyond what chance gives predictions that are right.
    """
    held, candidate, incumbent = contest.held, contest.candidate, contest.incumbent
    known = ~np.isnan(held.score)
    if known.sum() < _LEAST_ROWS:
        return _uncalibrated(int(known.sum()))
    error = excess_error(held, candidate, known)
    before = excess_error(held, incumbent, known) if incumbent is not None else 0.0
    most, promise = max(MOST_ECE, before), _promise(contest)
    broken = promise.low > MOST_BROKEN_PROMISE
    return Condition(
        name="calibration",
        held=error <= most and not broken,
        measured={
            "error": error,
            "incumbent_error": None if incumbent is None else before,
            "promised_too_much": promise.estimate,
            "promised_too_much_low": promise.low,
            "scored": int(known.sum()),
        },
        must=f"error at most {most:.3f}, its picks' promise at most {MOST_BROKEN_PROMISE} too high",
        why=_miscalibrated(off=error > most, broken=broken),
    )


def _uncalibrated(known: int) -> Condition:
    return Condition(
        name="calibration",
        held=False,
        measured={"scored": known},
        must=f"at least {_LEAST_ROWS} scored interactions",
        why="too few scores to tell; bring outcomes with scores",
    )


def _miscalibrated(*, off: bool, broken: bool) -> str:
    told = ["predicted accuracies are off"] if off else []
    told += ["what it picks reaches less than it predicts"] if broken else []
    return " and ".join(told)


def excess_error(held: Held, of: Contestant, known: Mask) -> float:
    """The calibration error on logged arms, less what chance alone brings it to.

    In a bin of n answers, chance is sqrt(2 / pi) x sqrt(p (1 - p) / n) in expectation.
    """
    rows = np.flatnonzero(known)
    predicted, score = of.accuracy[rows, held.arm[rows]], held.score[rows]
    weight = np.ones(len(rows)) if held.response is None else held.response[rows]
    found = calibration_error(predicted, score, weight, _BINS)
    variance = float((weight**2 * predicted * (1.0 - predicted)).sum()) / float(weight.sum()) ** 2
    return max(found - float(np.sqrt(2.0 / np.pi * _BINS * variance)), 0.0)


def _promise(contest: Contest) -> Evaluation:
    """By how much predictions exceed what the candidate's picks reach."""
    held, accuracy = contest.held, contest.candidate.accuracy
    over = Logged(
        arm=held.arm,
        propensity=held.propensity,
        reward=accuracy[np.arange(len(held)), held.arm] - held.score,
        predicted=accuracy - held.expected_score,
        response=held.response,
        cluster=held.cluster,
    )
    return evaluate(over, contest.candidate.target, _one_sided(BLOCKING))


def fast_enough(contest: Contest) -> Condition:
    """Whether late answers stay within what slos allow, or are shown to be no more than before."""
    held, target, rival = contest.held, contest.candidate.target, contest.rival_target
    allowed = float(held.late_allowed.mean())
    must = f"no more late answers than the slos' {allowed:.1%}, or than the {contest.rival}'s"
    if np.isnan(held.late).all():
        return Condition(
            name="latency", held=True, measured={"timed": 0}, must=must, why="no latency is known"
        )
    late = Logged(
        arm=held.arm,
        propensity=held.propensity,
        reward=held.late,
        predicted=held.expected_late,
        cluster=held.cluster,
        least=0.0,
        most=1.0,
    )
    share = evaluate(late, target, _one_sided(BLOCKING))
    more = compare(late, target, rival, _one_sided(BLOCKING))
    slower = more.low > 0.0 and share.estimate > allowed
    return Condition(
        name="latency",
        held=not slower,
        measured={
            "late": share.estimate,
            "allowed": allowed,
            "more_than_before": more.estimate,
            "more_than_before_low": more.low,
            "timed": int((~np.isnan(held.late)).sum()),
        },
        must=must,
        why=f"it is late more often than the {contest.rival}" if slower else "",
    )
