"""What one attempt showed of its model's backend."""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST_LOG = 20.0
"""No logarithm of a ratio is further from 0: callers may say any latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one attempt showed of its model's backend; times in epoch seconds.

    `log_ratio` is the logarithm of its latency over `median_s`, the median predicted for it
    at the usual speed, None where either is unknown. `first_token_s` is what its first call's
    first token took, `firsts` how many times that its first tokens take in all, and
    `tokens_per_s` how fast it wrote then. `tenant` tells callers apart.
    """

    ended_s: float
    started_s: float
    failed: bool = False
    log_ratio: float | None = None
    tenant: str = ""
    median_s: float | None = None
    first_token_s: float | None = None
    firsts: float = 1.0
    tokens_per_s: float | None = None


def seen(
    started_s: float,
    now_s: float,
    *,
    latency_s: float | None = None,
    median_s: float | None = None,
    first_token_s: float | None = None,
    firsts: float = 1.0,
    output_tokens: int | None = None,
    failed: bool = False,
    tenant: str = "",
) -> Seen | None:
    """What an attempt showed, reported at `now_s`; None where it tells nothing of its backend.

    A failed attempt's latency is not that of an answer, and a first token comes before the
    last. How fast one of several calls wrote is not known.
    """
    ratio = rate = None
    if latency_s and median_s and not failed and 0.0 < latency_s < math.inf and median_s > 0.0:
        ratio = min(max(math.log(latency_s) - math.log(median_s), -MOST_LOG), MOST_LOG)
    if ratio is None and latency_s is None and not failed:
        return None
    if ratio is None or first_token_s is None or not 0.0 < first_token_s <= (latency_s or 0.0):
        first_token_s = None
    elif output_tokens and firsts == 1.0 and latency_s and first_token_s < latency_s:
        rate = output_tokens / (latency_s - first_token_s)
    return Seen(
        ended_s=now_s if latency_s is None else min(started_s + latency_s, now_s),
        started_s=started_s,
        failed=failed,
        log_ratio=ratio,
        tenant=tenant,
        median_s=median_s,
        first_token_s=first_token_s,
        firsts=firsts,
        tokens_per_s=rate,
    )
