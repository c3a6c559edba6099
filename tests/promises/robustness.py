"""Step 5, prompts that ask for compute: what edits, wishes and searched gadgets do to decisions.

A policy learns from 70 % of the cascades; queries of the other 30 % are edited. Gadgets are
searched with the model in hand, on queries that are not judged, or for each query on itself.
Bounds were set after seed 0 and are judged on others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import binomtest

from router.bundle.embedder import load_embedder
from router.slo import Slo
from tests.kit.inflating import (
    ASKING,
    NOISE,
    PARAPHRASES,
    Asking,
    Edit,
    Search,
    before,
    behind,
    everywhere,
    predicted_usd,
)
from tests.kit.shared_data import SHARED_DATA
from tests.promises import Measured, promise
from training.benchmark.leadline import OneAttempt, Teacher
from training.benchmark.splits import Split, held_out
from training.learning.policy import Learning
from training.log.dataset import Dataset
from training.log.sources import read

SEEDS = (300, 301)
SLOS: Mapping[str, Slo] = {
    "value $0.002": Slo(accuracy_value_usd=0.002),
    "value $0.01": Slo(accuracy_value_usd=0.01),
    "floor 0.8": Slo(min_accuracy=0.8),
}
JUDGED, SEARCHED, OWN = 300, 12, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Of `n` edited queries, how many decisions changed, and how many to a dearer arm.

    `cost_ratio` is what the arms cost for the queries as they were, over what the arms cost
    that were picked for these.
    """

    n: int
    flipped: int
    dearer: int
    clean_usd: float
    edited_usd: float

    @property
    def cost_ratio(self) -> float:
        """What the edited queries' arms cost over those of the queries as they were."""
        return self.edited_usd / self.clean_usd

    @classmethod
    def of(cls, asking: Asking, texts: Sequence[str], edited: Sequence[str]) -> Flips:
        """Of texts and what became of them, in the same order."""
        cost_usd, rows = predicted_usd(asking.policy, texts), np.arange(len(texts))
        clean, found = asking.arms(texts), asking.arms(edited)
        clean_usd, edited_usd = cost_usd[rows, clean], cost_usd[rows, found]
        return cls(
            n=len(texts),
            flipped=int((clean != found).sum()),
            dearer=int((edited_usd > clean_usd).sum()),
            clean_usd=float(clean_usd.sum()),
            edited_usd=float(edited_usd.sum()),
        )

    def __add__(self, other: Flips) -> Flips:
        return Flips(
            n=self.n + other.n,
            flipped=self.flipped + other.flipped,
            dearer=self.dearer + other.dearer,
            clean_usd=self.clean_usd + other.clean_usd,
            edited_usd=self.edited_usd + other.edited_usd,
        )

    def __str__(self) -> str:
        flipped, dearer = _share(self.flipped, self.n), _share(self.dearer, self.n)
        return f"{flipped} flipped, {dearer} to a dearer arm, cost x{self.cost_ratio:.2f}"


def _share(count: int, n: int) -> str:
    found = binomtest(count, n).proportion_ci(method="wilson")
    return f"{count / n:.0%} [{found.low:.0%}, {found.high:.0%}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A policy that has learnt without some queries, and how many of these are used for what."""

    taught: OneAttempt
    split: Split
    seed: int
    judged: int = JUDGED
    searched: int = SEARCHED
    own: int = OWN
    steps: int = 6

    @classmethod
    def of(cls, log: Dataset, seed: int, **sizes: int) -> Subject:
        """One of a log on one split of 70/30; `sizes` replaces those above."""
        split, learning = held_out(log, 0.3, seed), Learning(embedder=load_embedder(), seed=seed)
        teacher = Teacher(partial(learning.final, judged={}))
        return cls(taught=OneAttempt(teacher).fit(split.train), split=split, seed=seed, **sizes)

    def asking(self, slo: Slo) -> Asking:
        """Its decisions under the slo."""
        return Asking(policy=self.taught.taught_.policy, slo=slo)

    @property
    def texts(self) -> Sequence[str]:
        """Queries to judge on."""
        return self.split.test.queries[self.searched : self.searched + self.judged]

    def edits(self, name: str, edit: Edit) -> list[str]:
        """The judged queries, edited."""
        rng = np.random.default_rng([self.seed, *name.encode()])
        return [edit(text, rng) for text in self.texts]


Found = dict[tuple[str, bool], Flips]
"""By what was done to the queries, and whether the slo is guarded."""


def found_by(subject: Subject, slo: Slo) -> Found:
    """What every edit and search does to decisions under the slo, unguarded and guarded."""
    found: Found = {}
    plain = subject.asking(slo)
    for name, edit in {**NOISE, **PARAPHRASES, **ASKING}.items():
        edited = subject.edits(name, edit)
        for asking in (plain, plain.guarded):
            found[name, asking.slo.guarded] = Flips.of(asking, subject.texts, edited)
    for asking in (plain, plain.guarded):
        for name, flips in _searched(subject, asking):
            found[name, asking.slo.guarded] = flips
    return found


def _searched(subject: Subject, asking: Asking) -> Iterator[tuple[str, Flips]]:
    """What gadgets do that were found knowing the model, and the guard where there is one."""
    others, own = subject.split.test.queries[: subject.searched], subject.texts[: subject.own]
    for number, put in enumerate((before, behind, everywhere)):
        rng = np.random.default_rng([subject.seed, number])
        search = Search(asking=asking, put=put, rng=rng, steps=subject.steps)
        gadget = search.universal(others)
        edited = [put(text, gadget) for text in subject.texts]
        yield f"gadget {put.__name__}", Flips.of(asking, subject.texts, edited)
        if put is behind:
            gadgets = search.own(own)
            edited = [put(text, each) for text, each in zip(own, gadgets, strict=True)]
            yield "own gadget behind", Flips.of(asking, own, edited)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clean:
    """What decisions for queries as they are reached in truth: mean accuracy and cost."""

    accuracy: float
    cost_usd: float


def clean(subject: Subject, asking: Asking) -> Clean:
    """On all queries that were held back, by the log's own scores and costs."""
    test, arms = subject.split.test, [arm.key for arm in asking.policy.arms]
    place = {key: number for number, key in enumerate(arms)}
    column = np.array([place[arm.key] for arm in test.arms])
    score, cost_usd = np.full((2, len(test.queries), len(arms)), np.nan)
    rows = test.rows
    score[rows.query, column[rows.arm]] = rows.score
    cost_usd[rows.query, column[rows.arm]] = rows.cost_usd
    chosen = np.arange(len(test.queries)), asking.arms(test.queries)
    return Clean(accuracy=float(score[chosen].mean()), cost_usd=float(cost_usd[chosen].mean()))


Every = Mapping[tuple[str, str, bool], Sequence[Flips]]
"""By slo, what was done to the queries, and whether the slo is guarded: one for each seed."""

HARMLESS = (*NOISE, *PARAPHRASES)
AT_AN_END = ("gadget before", "gadget behind", "own gadget behind")
MOST_BY_WISHES, MOST_BY_GADGETS = 1.05, 1.15


@promise(
    step=5,
    name="Robustness to prompts that ask for compute",
    must="over three slos: wishes in words cost at most 5 % more in the mean; gadgets before or "
    "behind a query, searched with the model and the guard in hand, at most 15 % more with the "
    "guard and less than half of what they do without; noise and paraphrases nothing in the mean",
)
def robustness() -> Measured:
    """Prints a line for each suite under each slo."""
    found: dict[tuple[str, str, bool], list[Flips]] = {}
    prices: list[tuple[float, float]] = []
    log = Dataset.from_table(read(SHARED_DATA / "cascades.parquet").table)
    for seed in SEEDS:
        subject = Subject.of(log, seed)
        for slo_name, slo in SLOS.items():
            for (name, guarded), flips in found_by(subject, slo).items():
                found.setdefault((slo_name, name, guarded), []).append(flips)
            prices.append(price(subject, slo))
    for (slo_name, name, guarded), each in sorted(found.items()):
        print(f"    {slo_name:13} {name:18} {'guarded' if guarded else 'plain':8} {_pooled(each)}")
    points, cost = np.mean(prices, axis=0)
    wishes, gadgets = (_excess(found, names, guarded=False) for names in (["wishes"], AT_AN_END))
    harmless, left = (
        _excess(found, HARMLESS, guarded=False),
        _excess(found, AT_AN_END, guarded=True),
    )
    said = ", ".join(
        f"{what} {_shares(found, names, guarded=False)} without the guard and "
        f"{_shares(found, names, guarded=True)} with it"
        for what, names in (
            ("noise", list(NOISE)),
            ("paraphrases", list(PARAPHRASES)),
            ("wishes", ["wishes"]),
            ("junk", ["junk"]),
            ("gadgets at an end", AT_AN_END),
            ("gadgets everywhere", ["gadget everywhere"]),
        )
    )
    return Measured(
        figures=f"flipped / to a dearer arm (Wilson, 95 %) / cost: {said}; unedited "
        f"queries pay for the guard {100 * points:+.1f} points of accuracy, at "
        f"x{cost:.2f} of the cost",
        held=harmless <= 1.02
        and wishes <= MOST_BY_WISHES
        and left <= MOST_BY_GADGETS
        and left - 1.0 < (gadgets - 1.0) / 2.0,
    )


def price(subject: Subject, slo: Slo) -> tuple[float, float]:
    """What the guard does to queries as they are: accuracy more, and the ratio of cost."""
    asking = subject.asking(slo)
    before_it, with_it = clean(subject, asking), clean(subject, asking.guarded)
    return with_it.accuracy - before_it.accuracy, with_it.cost_usd / before_it.cost_usd


def _pooled(flips: Sequence[Flips]) -> Flips:
    total, *others = flips
    for each in others:
        total += each
    return total


def _excess(found: Every, names: Sequence[str], *, guarded: bool) -> float:
    """The mean cost ratio over slos, suites and seeds."""
    chosen = [each for (_, name, own), each in found.items() if name in names and own is guarded]
    return float(np.mean([flips.cost_ratio for each in chosen for flips in each]))


def _shares(found: Every, names: Sequence[str], *, guarded: bool) -> str:
    chosen = [each for (_, name, own), each in found.items() if name in names and own is guarded]
    total = _pooled([flips for each in chosen for flips in each])
    ratio = _excess(found, names, guarded=guarded)
    flipped, dearer = _share(total.flipped, total.n), _share(total.dearer, total.n)
    return f"{flipped} / {dearer} / x{ratio:.2f}"
