"""PGR and APGR: the performance gap between a weak and a strong model that is recovered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.types import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """`average` is APGR; `at_half` is PGR at half of the way from the weak to the strong."""

    average: float
    at_half: float


def recovered(points: Floats, weak: Floats, strong: Floats) -> Recovered | None:
    """PGR and APGR of points (k, 2), given the weak and the strong model's own (2,).

    PGR = (r - r_weak) / (r_strong - r_weak), and APGR is its integral over the share of
    calls that go to the strong model, from 0 to 1. RouteLLM has two models; with any
    number of arms the weak one is the cheapest constant and the strong one the most
    accurate, and the share of calls becomes the share of the extra cost, (c - c_weak) /
    (c_strong - c_weak), which is the same where each has one price. As there, both models
    end the curve, its points are joined by straight lines, and no hull is taken; chance
    recovers 0.5. Source: Ong et al. 2024, RouteLLM, section 3. None where the strong model
    is neither dearer nor more accurate.
    """
    if strong[0] <= weak[0] or strong[1] <= weak[1]:
        return None
    shares = (points[:, 0] - weak[0]) / (strong[0] - weak[0])
    gains = (points[:, 1] - weak[1]) / (strong[1] - weak[1])
    inside = (shares > 0.0) & (shares < 1.0)
    order = np.argsort(shares[inside], kind="stable")
    x = np.concatenate(([0.0], shares[inside][order], [1.0]))
    y = np.concatenate(([0.0], gains[inside][order], [1.0]))
    return Recovered(average=float(np.trapezoid(y, x)), at_half=float(np.interp(0.5, x, y)))
