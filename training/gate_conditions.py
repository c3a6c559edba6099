"""What the gate measures on held-out interactions: utility, calibration, latency, leaks.

Utility in dollars is value x score - cost. All estimates are doubly robust and paired, row
by row on the same interactions. The estimator is fixed beforehand: switch-DR is sharper
where weights are large, but its interval leaves out its bias, and whichever of several
looks best has no error rate.
"""

from __future__ import annotations

import numpy as np

from router.types import Floats, Mask
from training.calibration import calibration_error
from training.gate_contest import Contest, Contestant, Held
from training.gate_verdict import Condition
from training.intervals import Scores, t_interval
from training.logged import Logged, counted
from training.ope import Evaluation, How, compare, evaluate

CONFIDENCE = 0.95
"""That of the interval whose lower end must be above 0: equal ones pass in 1 of 40."""

BLOCKING = 0.99
"""That something is worse, on one side, before it blocks."""

MOST_ECE = 0.05
"""The calibration error beyond chance that a candidate may have whatever the incumbent's is."""

MOST_BROKEN_PROMISE = 0.1
"""By how much predictions of a candidate's own picks may exceed what these reach."""

_BINS = 15
_LEAK_CONFIDENCE = 0.9999
_LEAK_SHARE = 0.1
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


def beats(contest: Contest, other: str, target: Floats) -> Condition:
    """Whether the candidate's utility is above that of another's picks (n, a)."""
    logged = utility(contest.held)
    found = compare(logged, contest.candidate.target, target, How(confidence=CONFIDENCE))
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
        must=f"the {CONFIDENCE:.0%} interval of the difference lies above 0",
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


def not_leaked(contest: Contest) -> Condition:
    """Whether the candidate knows more of the logged arms than of those that were not picked.

    What a policy predicts of an arm can't hang on whether it was picked after the policy
    was made. Its squared distance to the reward model is known for every arm, so that
    w x (distance - mean distance over arms) averages 0, unless it has seen the outcomes.
    """
    held, candidate = contest.held, contest.candidate
    rows = np.arange(len(held))
    target = (candidate.target + contest.rival_target + contest.constant_target) / 3.0
    distance = np.square(candidate.accuracy - held.expected_score)
    usual = np.asarray((target * distance).sum(axis=1))
    weight = target[rows, held.arm] / held.propensity
    apart = Scores(
        values=weight * (distance[rows, held.arm] - usual), cluster=counted(held.cluster)
    )
    low = t_interval(apart, 2.0 * _LEAK_CONFIDENCE - 1.0).low
    mean = float(usual.mean())
    leaked = low > 0.0 and apart.mean > _LEAK_SHARE * mean
    return Condition(
        name="nothing leaked",
        held=not leaked,
        measured={
            "distance": mean,
            "more_on_logged_arms": apart.mean,
            "more_on_logged_arms_low": low,
        },
        must=f"no more than {_LEAK_SHARE:.0%} further from the reward model on logged arms",
        why="it knows the held-out outcomes; train it without these interactions" if leaked else "",
    )
