"""Certificates: the cheapest trade-off whose mean accuracy is at least a floor, with a confidence.

Learn then test (Angelopoulos et al. 2021): each value of a correct answer is a hypothesis,
"the mean accuracy under it is below the floor". They are tested in an order that was fixed
before, so that the chance that the chosen one is below the floor is at most the level,
however many values there are (`router.policy.walking`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

import numpy as np
from scipy.special import ndtri

from router.policy.hedging import Sample, lower_bound, needed
from router.policy.walking import brought, cheapest, levels, parts, passes, starts
from router.types import Floats

MOST_NEEDED = 10_000_000
"""A need of more interactions than so many is not worth a number."""

MOST_UNTRIED = 0.5
"""Interactions that show less of a value than this tell nothing of it."""


class Status(StrEnum):
    """What a certificate says of its floor.

    Certified: it holds, at the confidence. Not certifiable: the interactions do not show
    that it holds, and more may. Infeasible: they show that no trade-off reaches it. Voided:
    accuracy is no longer what it was measured to be.
    """

    CERTIFIED = "certified"
    NOT_CERTIFIABLE = "not_certifiable"
    INFEASIBLE = "infeasible"
    VOIDED = "voided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When the interactions happened, from the first to the last."""

    since: datetime
    until: datetime

    def to_mapping(self) -> dict[str, str]:
        """Both times as ISO 8601."""
        return {"since": self.since.isoformat(), "until": self.until.isoformat()}

    @classmethod
    def from_mapping(cls, value: Mapping[str, str]) -> Self:
        """Reads what `to_mapping` wrote. Raises KeyError, TypeError or ValueError."""
        return cls(
            since=datetime.fromisoformat(value["since"]),
            until=datetime.fromisoformat(value["until"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A statement about an slo's accuracy floor under one policy.

    With `confidence`, the mean accuracy of decisions at `value_usd`, the value of a correct
    answer, is at least `lower_bound`; `estimate` is the best guess of it, `cost_usd` what
    such a decision is expected to cost. `floor` is what was asked; where that is a share of
    what `reference_arm` reaches, it is that share of the arm's estimated mean, and what
    holds is that accuracy - share x the arm's is at least `lower_bound` - `floor`; the arm's
    mean is at least `reference_bound`, with half the chance to be wrong. Where
    nothing is certified the value is the dearest, which is the safe side. `effective_n` is
    what n interactions of a bandit log are worth; `needed_n` is about how many certify,
    half of the time. `left_out` counts queries that have no outcome for an arm that may be
    chosen or no arm at all, `unlabelled_n` those that count by their predictions alone.
    """

    status: Status
    message: str
    floor: float
    reference_arm: str = ""
    reference_share: float | None = None
    reference_bound: float | None = None
    confidence: float
    estimate: float
    lower_bound: float
    n: int
    effective_n: float
    needed_n: int | None = None
    left_out: int = 0
    unlabelled_n: int = 0
    value_usd: float
    cost_usd: float
    window: Window | None = None
    source_digest: str
    policy_version: int

    @property
    def certified(self) -> bool:
        """Whether the floor is certified."""
        return self.status is Status.CERTIFIED

    def to_mapping(self) -> dict[str, Any]:
        """The certificate as plain JSON values."""
        plain = asdict(self) | {"status": self.status.value}
        return plain | {"window": self.window.to_mapping() if self.window else None}

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` wrote. Raises KeyError, TypeError or ValueError."""
        known = {"reference_bound": None, **value}
        known = {item.name: known[item.name] for item in fields(cls)}
        window = known["window"]
        known["window"] = None if window is None else Window.from_mapping(window)
        return cls(**known | {"status": Status(known["status"])})


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What interactions show of the trade-off at k values of a correct answer, cheapest first.

    `sample` holds what each interaction is worth under each value: its score, or for a
    relative floor its score less the share of the reference arm's, whose estimated mean
    times the share is `reference`. `cost_usd` and `effective_n` (k,) follow `value_usd` (k,).
    `referred` holds no more than what the reference arm alone is worth; `untried` (k,) is
    how much more the mean may be, for what the log never tried counts as the worst.
    `expected` (k,) is what the interactions are expected to be worth by what was known before
    them; None where nothing is.
    """

    value_usd: Floats
    cost_usd: Floats
    effective_n: Floats
    sample: Sample
    reference: float = 0.0
    referred: Sample | None = None
    untried: Floats | float = 0.0
    expected: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be certified: `floor` is on the mean score, or a share of the reference arm's.

    The `look` is the number of this one among all looks at interactions that grow; None
    where there is but one.
    """

    floor: float
    confidence: float
    reference_arm: str = ""
    look: int | None = None

    @property
    def level(self) -> float:
        """The chance of a false certificate at this look."""
        return (1.0 - self.confidence) * share_of(self.look)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a certificate's figures come from; as `Certificate` says."""

    source_digest: str
    policy_version: int
    left_out: int = 0
    unlabelled_n: int = 0
    window: Window | None = None


def share_of(look: int | None) -> float:
    """The share of the level that a look spends: 6 / (pi look)^2, which adds up to 1; None: all."""
    return 1.0 if look is None else 6.0 / (np.pi * look) ** 2


def certify(candidates: Candidates, asked: Asked, origin: Origin) -> Certificate:
    """The certificate of the cheapest value that meets what is asked, or of why there is none.

    There is at least one interaction.
    """
    sample, reference, referred = candidates.sample, candidates.reference, candidates.referred
    threshold = 0.0 if asked.reference_arm else asked.floor
    begins = starts(candidates.expected, threshold, len(candidates.value_usd))
    found = int(cheapest(passes(sample, threshold, asked.level, begins), begins))
    place = min(found, len(candidates.value_usd) - 1)
    estimate = reference + float(sample.corrected[:, place].mean())
    status, needed_n = Status.CERTIFIED, None
    if found > place:
        status, needed_n = _failed(candidates, threshold, asked.level, begins)
    blind = status is Status.NOT_CERTIFIABLE and _is_blind(candidates, threshold, asked.level)
    said = _message(status, asked, len(sample), needed_n, estimate)
    return Certificate(
        status=status,
        message=_never_tried(len(sample)) if blind else said,
        floor=reference + threshold,
        reference_arm=asked.reference_arm,
        reference_share=asked.floor if asked.reference_arm else None,
        reference_bound=lower_bound(referred, asked.level / 2.0) if referred else None,
        confidence=asked.confidence,
        estimate=min(max(estimate, 0.0), 1.0),
        lower_bound=reference + _bound(sample, found, threshold, asked.level, begins),
        n=len(sample),
        effective_n=float(candidates.effective_n[place]),
        needed_n=needed_n,
        left_out=origin.left_out,
        unlabelled_n=origin.unlabelled_n,
        value_usd=float(candidates.value_usd[place]),
        cost_usd=float(candidates.cost_usd[place]),
        window=origin.window,
        source_digest=origin.source_digest,
        policy_version=origin.policy_version,
    )


def _bound(
    sample: Sample, found: int, threshold: float, level: float, begins: Sequence[int]
) -> float:
    """What holds at the level: of a value that the data chose, just what it was chosen for."""
    last = sample.values.shape[1] - 1
    if 0 < found <= last:
        return threshold
    if found:
        return lower_bound(sample.column(last), level)
    own = levels(level, begins)[brought(begins, last + 1) - 1]
    every = (lower_bound(sample.column(place), each) for place, each in enumerate(own.tolist()))
    return max(threshold, min(every))


def _failed(
    candidates: Candidates, threshold: float, level: float, begins: Sequence[int]
) -> tuple[Status, int | None]:
    """Whether any value may reach the threshold, and about how many interactions would show it."""
    sample = candidates.sample
    if (_best(sample, level) + candidates.untried < threshold).all():
        return Status.INFEASIBLE, None
    estimate, variance = _moments(sample)
    own = levels(level, begins)[np.array(parts(begins)) - 1]
    counts = [
        needed(float(variance[place]), gap, each)
        for place, each in zip(begins, own.tolist(), strict=True)
        if (gap := float(estimate[place]) - threshold) > 0.0
    ]
    count = min(counts, default=MOST_NEEDED)
    known = len(sample) < count < MOST_NEEDED
    return Status.NOT_CERTIFIABLE, _rounded(count) if known else None


def _best(sample: Sample, level: float) -> Floats:
    """What the means may be at most, about, (k,)."""
    estimate, variance = _moments(sample)
    return np.asarray(estimate + ndtri(1.0 - level) * np.sqrt(variance / len(sample)))


def _is_blind(candidates: Candidates, threshold: float, level: float) -> bool:
    """Whether more of such interactions would not help: what may be enough was never tried."""
    sample, tried = candidates.sample, np.asarray(candidates.untried) <= MOST_UNTRIED
    enough = _moments(sample)[0] >= threshold
    return not bool((enough | tried & (_best(sample, level) >= threshold)).any())


def _moments(sample: Sample) -> tuple[Floats, Floats]:
    """Means and variances of the values, drawn to what was guessed of them while they are few."""
    values, few = sample.corrected, 5.0
    squared = np.square(values - values.mean(axis=0)).sum(axis=0)
    return values.mean(axis=0), (squared + few * sample.variance) / (len(values) + few)


def _rounded(count: int) -> int:
    """Two digits are all that such a guess is worth."""
    step: int = 10 ** max(len(str(count)) - 2, 0)
    return -(-count // step) * step


def _never_tried(rows: int) -> str:
    return (
        f"not certifiable: n = {rows:,}, and the log has never tried what this "
        "would take; set exploration_rate"
    )


def _message(status: Status, asked: Asked, rows: int, needed_n: int | None, estimate: float) -> str:
    relative = f" of what {asked.reference_arm} reaches" if asked.reference_arm else ""
    floor = f"a mean accuracy of at least {asked.floor:g}{relative}"
    if status is Status.CERTIFIED:
        return f"certified: {floor}, with a confidence of {asked.confidence:g} from n = {rows:,}"
    if status is Status.INFEASIBLE:
        return f"infeasible: no trade-off reaches {floor}; the dearest reaches about {estimate:.3f}"
    if needed_n is not None:
        return f"not certifiable: n = {rows:,}, needs about {needed_n:,}"
    return (
        f"not certifiable: n = {rows:,}, and the dearest trade-off is estimated at "
        f"{estimate:.3f}, not clearly above {floor}; lower the floor or bring more outcomes"
    )
