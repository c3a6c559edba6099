"""Whether a candidate has learnt from the interactions that it is judged by.

A leak makes it look far better than it is, so that three signs are looked for: it knows
more of logged arms than of others, it fits outcomes better than a model can that has seen
their like, or better than training foretold.
"""

from __future__ import annotations

import numpy as np

from router.types import Floats
from training.evaluation.intervals import Scores, t_interval
from training.evaluation.logged import counted
from training.gate.contest import Contest
from training.gate.facts import Learnt
from training.gate.verdict import Condition
from training.log.dataset import Indices

MOST_APART = 0.05
"""How much further it may be from the reward model on logged arms, as a share."""

LEAST_MODEL, LEAST_FORETOLD = 0.75, 0.85
"""Its Brier score as a share of the reward model's here, and of what training foretold.

Below both is too good: a better model was foretold to be, and what was foretold hangs on
the arms and queries of the log, as the reward model's score does.
"""

LEAST_ALONE = 0.6
"""The share of what training foretold that is too good whatever the reward model's is."""

_CONFIDENCE = 0.9999
_LEAST_ROWS = 30


def not_leaked(contest: Contest, learnt: Learnt) -> Condition:
    """Whether none of the three signs of a leak shows."""
    known = np.flatnonzero(~np.isnan(contest.held.score))
    apart, usual = _apart(contest), _distance(contest)
    own, model = (_misses(contest, each, known) for each in _both(contest))
    enough = len(known) >= _LEAST_ROWS
    signs = [
        apart.mean > MOST_APART * usual and _low(apart) > 0.0,
        enough
        and _too_good(contest, own, model, known)
        and (learnt.brier is None or _beyond(own, learnt, LEAST_FORETOLD)),
        enough and _beyond(own, learnt, LEAST_ALONE),
    ]
    return Condition(
        name="nothing leaked",
        held=not any(signs),
        measured={
            "brier": float(own.mean()) if enough else None,
            "reward_model_brier": float(model.mean()) if enough else None,
            "foretold_brier": learnt.brier,
            "distance": usual,
            "more_on_logged_arms": apart.mean,
            "more_on_logged_arms_low": _low(apart),
        },
        must=f"a Brier score of at least {LEAST_MODEL:.0%} of the reward model's or "
        f"{LEAST_FORETOLD:.0%} of the foretold, and {LEAST_ALONE:.0%} of that at least; no more "
        f"than {MOST_APART:.0%} further from the model on logged arms",
        why=_said(signs),
    )


def _said(signs: list[bool]) -> str:
    told = (
        "it knows more of logged arms than of others",
        "it fits outcomes better than a model can",
        "it fits outcomes better than training foretold",
    )
    found = [text for sign, text in zip(signs, told, strict=True) if sign]
    return f"{', '.join(found)}; train it without these interactions" if found else ""


def _apart(contest: Contest) -> Scores:
    """By how much more it departs from the reward model on logged arms, as scores.

    What a policy predicts of an arm cannot hang on whether it was picked after the policy
    was made. The squared distance to the reward model is known for every arm, so that
    w x (distance - mean distance over arms) averages 0 without a leak.
    """
    held, rows = contest.held, np.arange(len(contest.held))
    target, distance = _target(contest), _squares(contest)
    weight = target[rows, held.arm] / held.propensity
    usual = (target * distance).sum(axis=1)
    return Scores(values=weight * (distance[rows, held.arm] - usual), cluster=counted(held.cluster))


def _distance(contest: Contest) -> float:
    return float((_target(contest) * _squares(contest)).sum(axis=1).mean())


def _target(contest: Contest) -> Floats:
    """The mean of all contestants' picks, (n, a)."""
    picks = contest.candidate.target + contest.rival_target + contest.constant_target
    return np.asarray(picks / 3.0)


def _squares(contest: Contest) -> Floats:
    return np.square(contest.candidate.accuracy - contest.held.expected_score)


def _both(contest: Contest) -> tuple[Floats, Floats]:
    return contest.candidate.accuracy, contest.held.expected_score


def _misses(contest: Contest, accuracy: Floats, known: Indices) -> Floats:
    """The squared errors on the scored interactions."""
    held = contest.held
    return np.square(accuracy[known, held.arm[known]] - held.score[known])


def _too_good(contest: Contest, own: Floats, model: Floats, known: Indices) -> bool:
    cluster = contest.held.cluster
    within = Scores(
        values=LEAST_MODEL * model - own,
        cluster=None if cluster is None else counted(cluster[known]),
    )
    return _low(within) > 0.0


def _beyond(own: Floats, learnt: Learnt, share: float) -> bool:
    if learnt.brier is None or learnt.brier_rows < _LEAST_ROWS:
        return False
    error = float(own.std()) * np.sqrt(1.0 / len(own) + 1.0 / learnt.brier_rows)
    return bool(float(own.mean()) + 3.0 * error < share * learnt.brier)


def _low(scores: Scores) -> float:
    return t_interval(scores, 2.0 * _CONFIDENCE - 1.0).low
