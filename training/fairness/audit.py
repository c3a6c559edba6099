"""The fairness audit: what each slice gets, and whether a candidate takes from any.

A slice blocks promotion where it falls short by more than the bound, and by more than
chance would explain in any of the slices (all at once, at the level). Slices with too few
subjects to tell are named and block nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from router.errors import InvalidInput
from router.types import Floats, Mask
from training.evaluation.simultaneous import Estimates, estimates, normals
from training.evaluation.slices import Facet
from training.fairness.figures import Against, Group, Judged, Measure, least_errors, linear
from training.fairness.verdict import Audit, Interval, Shortfall, Slice, Told
from training.learning.threads import one_thread
from training.log.dataset import Indices

ACCURACY_BOUND = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How strict the audit is. Shortfalls without a bound are told and block nothing.

    Bounds on accuracy are differences, those on spend and thinking shares of what is
    compared with. A slice of fewer than `least_units` subjects is too small.
    """

    bounds: Mapping[Group, float] = field(
        default_factory=lambda: {(Measure.ACCURACY, Against.INCUMBENT): ACCURACY_BOUND}
    )
    level: float = 0.05
    least_units: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.level < 1.0:
            raise InvalidInput(f"{self.level} is not between 0 and 1", field="level")
        for group, bound in self.bounds.items():
            if not bound >= 0.0:
                name = f"the bound of {' against '.join(group)}"
                raise InvalidInput(f"{name} is {bound}, below 0", field="bounds")


@one_thread()
def audit(
    candidate: Judged,
    facets: Sequence[Facet],
    *,
    incumbent: Judged | None = None,
    subject: Indices | None = None,
    asked: Asked | None = None,
) -> Audit:
    """Audits what a candidate gives each slice, against all and, in pairs, the incumbent.

    Interactions of one `subject` (n,) count together; without any, each stands alone.
    Raises InvalidInput where the parts are not of one length or hold NaN.
    """
    asked = asked or Asked()
    given = np.arange(len(candidate)) if subject is None else subject
    _check(candidate, facets, incumbent, given)
    unit = np.asarray(np.unique(given, return_inverse=True)[1], np.intp)
    units = np.concatenate([_units(each, unit) for each in facets])
    maker = _Maker(
        candidate=candidate,
        incumbent=incumbent,
        facets=facets,
        unit=unit,
        units=units,
        asked=asked,
        drawn=normals(len(units), np.random.default_rng(asked.seed)),
    )
    levels = {measure: maker.intervals((measure, None), asked.level) for measure in Measure}
    shortfalls = list(maker.shortfalls())
    names = [(each.name, name) for each in facets for name in each.names]
    counts = np.concatenate([np.bincount(each.of, minlength=len(each)) for each in facets])
    slices = [
        Slice(
            facet=of,
            name=name,
            n=int(counts[place]),
            units=float(units[place]),
            share=float(counts[place]) / len(candidate),
            told=Told.TOLD if maker.told[place] else Told.TOO_FEW,
            accuracy=levels[Measure.ACCURACY][place],
            spend_usd=levels[Measure.SPEND][place],
            thinking=levels[Measure.THINKING][place],
            shortfalls=tuple(each for each in (row[place] for row in shortfalls) if each),
        )
        for place, (of, name) in enumerate(names)
    ]
    overall = {measure: float(candidate.of(measure).mean()) for measure in Measure}
    return Audit(slices=tuple(slices), overall=overall, level=asked.level)


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes the intervals of one group of estimates after the other."""

    candidate: Judged
    incumbent: Judged | None
    facets: Sequence[Facet]
    unit: Indices
    units: Floats
    asked: Asked
    drawn: Floats

    @cached_property
    def told(self) -> Mask:
        """Slices that are large enough, (s,)."""
        return self.units >= self.asked.least_units

    def shortfalls(self) -> Iterator[list[Shortfall | None]]:
        """A list over all slices for each group; those with a bound share the level."""
        against = Against if self.incumbent is not None else (Against.OVERALL,)
        groups = [(measure, other) for measure in Measure for other in against]
        bounded = max(sum(group in self.asked.bounds for group in groups), 1)
        for group in groups:
            bound = self.asked.bounds.get(group)
            level = self.asked.level / (1 if bound is None else bounded)
            yield [
                None
                if each is None
                else Shortfall(measure=group[0], against=group[1], interval=each, bound=bound)
                for each in self.intervals(group, level)
            ]

    def intervals(
        self, group: tuple[Measure, Against | None], level: float
    ) -> list[Interval | None]:
        """Simultaneous intervals of a measure, or of its shortfall, for all slices."""
        found = self._estimates(*group)
        away = found.error * found.critical(self.told, self.units, level, self.drawn)
        ends = zip(found.estimate, away, self.told, strict=True)
        return [
            Interval(estimate=float(mid), low=float(mid - out), high=float(mid + out))
            if told
            else None
            for mid, out, told in ends
        ]

    def _estimates(self, measure: Measure, against: Against | None) -> Estimates:
        value = self.candidate.of(measure)
        other = self.incumbent.of(measure) if self.incumbent is not None else None
        parts = [linear(value, other, each, measure, against) for each in self.facets]
        least = np.zeros(len(self.units))
        if measure is Measure.ACCURACY:
            paired = value - other if against is Against.INCUMBENT and other is not None else value
            least = np.concatenate([least_errors(paired, each) for each in self.facets])
        return estimates(parts, self.facets, self.unit, least)


def _units(each: Facet, unit: Indices) -> Floats:
    """The effective number of subjects of each slice (Kish), (k,)."""
    units = int(unit.max(initial=-1)) + 1
    load = np.bincount(each.of * units + unit, minlength=len(each) * units)
    load = load.reshape(len(each), units).astype(np.float64)
    squares = (load**2).sum(axis=1)
    total = load.sum(axis=1) ** 2
    return np.asarray(np.divide(total, squares, out=np.zeros(len(each)), where=squares > 0))


def _check(
    candidate: Judged, facets: Sequence[Facet], incumbent: Judged | None, subject: Indices
) -> None:
    if not len(candidate) or not facets:
        raise InvalidInput("there is nothing to audit; give interactions and a way to part them")
    judged = [candidate] if incumbent is None else [candidate, incumbent]
    lengths = {len(subject), *map(len, judged), *(len(each.of) for each in facets)}
    if len(lengths) > 1:
        raise InvalidInput("incumbent, facets and subject are not of the candidate's length")
    for each in judged:
        for measure in Measure:
            if not np.isfinite(each.of(measure)).all():
                raise InvalidInput(f"{measure} holds what is no number; leave such rows out")
