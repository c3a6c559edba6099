"""Exploration: with a small probability any feasible arm, so that the log can teach."""

from __future__ import annotations

from dataclasses import replace

from router.types import Choice


def explore(choice: Choice, rate: float, draw: float) -> Choice:
    """Epsilon-greedy inside the feasible set, with the exact propensity.

    `draw` is uniform in [0, 1). With probability `rate` an arm is drawn uniformly from the
    m feasible ones, so an arm's propensity is rate / m, plus 1 - rate for the greedy one.
    With no feasible arm, or a single one, there is nothing to explore.
    """
    if rate <= 0.0:
        return choice
    arms = choice.feasible.nonzero()[0]
    if len(arms) < 2:
        return choice
    index = choice.index
    if explored := draw < rate:
        index = int(arms[min(int(draw / rate * len(arms)), len(arms) - 1)])
    propensity = rate / len(arms) + (1.0 - rate if index == choice.index else 0.0)
    reason = f"explored inside the feasible set; {choice.reason}" if explored else choice.reason
    return replace(choice, index=index, propensity=propensity, explored=explored, reason=reason)
