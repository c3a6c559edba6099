"""Two policies on the same interactions: where they decide otherwise, and what that brings.

interactions + slo -> decisions of both -> how many differ, and what each predicts
unseen interactions -> doubly robust, paired differences -> interval, or why it cannot tell
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.errors import InvalidInput
from router.offline import Policy
from router.slo import Slo
from router.types import Arm
from training.compare.log import Interactions, Rewards
from training.compare.measured import Difference, Facts, differences
from training.compare.picks import Picks, joined, picks
from training.compare.slices import SliceDifference, slice_differences
from training.report.measured import Reliability, reliability

ALL = "all slos"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How policy B differs from policy A under one slo.

    `differing` is the share of `interactions` for which they pick another arm; `unanswered`
    have no arm under one of them and are left out. Measured differences come from the
    `unseen` ones.
    """

    slo: str
    interactions: int
    unanswered: int
    unseen: int
    differing: float
    figures: tuple[Difference, ...]
    calibration: tuple[Reliability, ...]
    slices: tuple[SliceDifference, ...]


def compared(one: Policy, other: Policy, log: Interactions) -> tuple[Compared, ...]:
    """Compares under each slo of the log, and under all where each row has its own.

    Raises InvalidInput where there is nothing to compare on.
    """
    if not len(log):
        raise InvalidInput("there is no interaction to compare on; bring a log", field="log")
    log = log.over(_all_arms(log.arms, one.arms, other.arms))
    if log.slo is None:
        return tuple(_compared(name, log, _pair((one, other), log, slo)) for name, slo in log.slos)
    groups = [
        (name, slo, np.flatnonzero(log.slo == place)) for place, (name, slo) in enumerate(log.slos)
    ]
    own = [
        (name, rows, _pair((one, other), log.take(rows), slo))
        for name, slo, rows in groups
        if len(rows)
    ]
    found = [_compared(name, log.take(rows), pair) for name, rows, pair in own]
    if len(own) > 1:
        every = np.concatenate([rows for _, rows, _ in own])
        both = tuple(joined([pair[place] for _, _, pair in own]) for place in (0, 1))
        found.insert(0, _compared(ALL, log.take(every), (both[0], both[1])))
    return tuple(found)


def _pair(both: tuple[Policy, Policy], log: Interactions, slo: Slo) -> tuple[Picks, Picks]:
    one, other = (picks(policy, log.texts, slo, log.arms) for policy in both)
    return one, other


def _compared(name: str, log: Interactions, pair: tuple[Picks, Picks]) -> Compared:
    answered = pair[0].answered & pair[1].answered
    rows = np.flatnonzero(answered)
    log, (one, other) = log.take(rows), (pair[0].take(rows), pair[1].take(rows))
    fresh = np.flatnonzero(log.unseen)
    part = log.take(fresh)
    facts = Facts(log=part, one=one.take(fresh), other=other.take(fresh))
    return Compared(
        slo=name,
        interactions=len(log),
        unanswered=int((~answered).sum()),
        unseen=len(fresh),
        differing=float((one.arm != other.arm).mean()) if len(log) else 0.0,
        figures=differences((one, other), facts, log.seen) if len(log) else (),
        calibration=tuple(_calibration(part.rewards, facts.one, facts.other)),
        slices=slice_differences(log, (one, other), facts) if len(log) else (),
    )


def _calibration(rewards: Rewards, *both: Picks) -> list[Reliability]:
    """How each policy's predictions hold on scored arms."""
    found = []
    for name, each in zip("AB", both, strict=True):
        behaviour, predicted, response = rewards.behaviour, each.accuracy, None
        if behaviour is not None:
            predicted = predicted[np.arange(len(predicted)), behaviour.arm]
            response = behaviour.response
        found.append(reliability(name, predicted.ravel(), rewards.score.ravel(), response))
    return [each for each in found if each is not None]


def _all_arms(*several: Sequence[Arm]) -> tuple[Arm, ...]:
    return tuple({arm.key: arm for arms in several for arm in arms}.values())
