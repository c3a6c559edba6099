"""AIQ: average improvement in quality, as RouterBench defines it."""

from __future__ import annotations

import numpy as np

from router.types import Floats
from training.benchmark.envelope import Envelope


def aiq(points: Floats, low_usd: float, high_usd: float) -> float | None:
    """The mean accuracy over a range of costs of the non-decreasing convex hull of the points.

    AIQ = 1 / (c_max - c_min) x the integral from c_min to c_max of the hull of the points
    (k, 2), which stays at its last value beyond its dearest point. Below its cheapest
    point a way can serve nobody and counts 0, as in the authors' code. Here the range is
    that of the constant arms, so that all ways share it. Source: Hu et al. 2024,
    RouterBench, section 3.
    """
    if not low_usd < high_usd:
        return None
    hull = Envelope.of(points)
    inside = (hull.cost_usd > low_usd) & (hull.cost_usd < high_usd)
    first = max(low_usd, float(hull.cost_usd[0]))
    if first >= high_usd:
        return 0.0
    costs = np.unique(np.concatenate(([first], hull.cost_usd[inside], [high_usd])))
    return float(np.trapezoid(hull.at(costs), costs)) / (high_usd - low_usd)
