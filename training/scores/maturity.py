"""When an answer is old enough that a score which has not come will hardly come any more.

The delay of scores is learnt with the Kaplan-Meier estimator (1958): an answer that has no
score yet is censored at its age, so that young answers neither hide late scores nor count
as answers that nobody scored. Most answers may never be scored, so what counts is the share
of the scores that come at all (the plateau of a cure model, Maller & Zhou 1996).
"""

from __future__ import annotations

import numpy as np

from router.types import Floats

ARRIVED = 0.95
"""The share of scores that have come when an answer is ripe."""

_OLD_ENOUGH = 0.1


def arrived(delay_s: Floats, age_s: Floats) -> tuple[Floats, Floats]:
    """Times, rising, and the share of answers that are scored by each.

    `delay_s` (n,) is NaN where no score has come, `age_s` (n,) how old each answer is. The
    curve ends where fewer than a tenth of the answers are older, as beyond it few tell.
    """
    known = ~np.isnan(delay_s)
    waited_s = np.maximum(np.where(known, delay_s, age_s), 0.0)
    order = np.lexsort((~known, waited_s))
    times, came = waited_s[order], known[order]
    at_risk = np.arange(len(times), 0, -1)
    share = 1.0 - np.cumprod(1.0 - came / at_risk)
    inside = came & (times <= np.quantile(age_s, 1.0 - _OLD_ENOUGH)) if len(times) else came
    return times[inside], np.asarray(share[inside], np.float64)


def ripe_after_s(delay_s: Floats, age_s: Floats) -> float:
    """The age by which 95 % of the scores that ever come have come; 0 where none has."""
    times, share = arrived(delay_s, age_s)
    if not len(times):
        return 0.0 if np.isnan(delay_s).all() else float(np.nanmax(delay_s))
    return float(times[np.searchsorted(share, ARRIVED * share[-1] - 1e-12)])
