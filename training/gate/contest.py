"""What the gate judges by: held-out interactions, and what each contestant would do there."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from router.types import Floats
from training.evaluation.logged import one_hot
from training.evaluation.slices import Facet
from training.log.dataset import Indices


@dataclass(frozen=True, kw_only=True)
class Held:
    """n held-out interactions, of which no contestant has learnt, among a arms.

    `arm` (n,) was picked with `propensity` (n,). `score`, `cost_usd` and `late` (n,) came of
    it, NaN where unknown; `late` is 1 where the answer took longer than the slo's bound, of
    which the slo allows the share `late_allowed` (n,). `value_usd` (n,) is what a correct
    answer is worth under the row's slo, the same for all contestants. The `expected` figures
    (n, a) are an independent reward model's, which has not learnt from these rows.
    `response`, `cluster` and `region` (n,) are as in `training.evaluation.logged`.
    """

    arm: Indices
    propensity: Floats
    score: Floats
    cost_usd: Floats
    late: Floats
    late_allowed: Floats
    value_usd: Floats
    expected_score: Floats
    expected_cost_usd: Floats
    expected_late: Floats
    facets: tuple[Facet, ...] = ()
    response: Floats | None = None
    cluster: Indices | None = None
    region: Indices | None = None

    def __len__(self) -> int:
        return len(self.arm)


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """What a policy would do for n interactions, as it serves.

    `target` (n, a) are the probabilities of its picks, and `accuracy` (n, a) is what it
    predicts.
    """

    target: Floats
    accuracy: Floats


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Who is compared on which interactions.

    `constant` (n,) is the arm that is best for every query of the row's slo, chosen where
    the candidate learnt and not on these interactions. Without an incumbent the candidate
    stands against the constant alone.
    """

    held: Held
    candidate: Contestant
    constant: Indices
    incumbent: Contestant | None = None

    @property
    def constant_target(self) -> Floats:
        """The probabilities of the constant's picks, (n, a)."""
        return one_hot(self.constant, self.candidate.target.shape[1])

    @property
    def rival_target(self) -> Floats:
        """The probabilities of the incumbent's picks, or of the constant's, (n, a)."""
        return self.constant_target if self.incumbent is None else self.incumbent.target

    @property
    def rival(self) -> str:
        """Who the rival is."""
        return "best constant" if self.incumbent is None else "incumbent"

    def take(self, rows: Indices) -> Contest:
        """The same on the interactions at indices."""
        incumbent = self.incumbent
        return Contest(
            held=_taken(self.held, rows),
            candidate=_taken(self.candidate, rows),
            constant=self.constant[rows],
            incumbent=None if incumbent is None else _taken(incumbent, rows),
        )


Part = TypeVar("Part", Held, Contestant)


def _taken(whole: Part, rows: Indices) -> Part:
    return replace(
        whole, **{item.name: _rows(getattr(whole, item.name), rows) for item in fields(whole)}
    )


def _rows(values: Any, rows: Indices) -> Any:
    if isinstance(values, tuple):
        return tuple(replace(each, of=each.of[rows]) for each in values)
    return None if values is None else values[rows]
