"""Adaptive sampling against fixed numbers of samples, on logs that have samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router.policy.sampling import Agreement, FixedSamples, Planned, SamplingRule
from router.types import Floats
from training.benchmark.bootstrap import Interval, Resamples, interval
from training.benchmark.results import Sampled
from training.benchmark.splits import Split
from training.learning.sampling import ArmAccuracy, exchangeable, fit, stopped
from training.log.samples import Samples, polled

FIXED = (1, 3, 5)
THRESHOLDS = (0.8, 0.9, 0.95)
VALUES_IN_SAMPLES = (30, 100, 300, 1_000, 3_000)
"""What a right answer is worth, in prices of a sample."""

_ORDERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ends:
    """Where each of r rules stopped g groups of samples: `drawn` and `score` (r, g)."""

    rules: tuple[str, ...]
    query: tuple[str, ...]
    price_usd: Floats
    drawn: Floats
    score: Floats


def sampled(
    splits: Sequence[Split], samples: Samples, resamples: int, seed: int
) -> tuple[Sampled, ...]:
    """Judges every rule on the samples of all test queries; the first draws them all.

    The learnt plan has seen the training queries alone, and takes the arm's accuracy there
    for the predicted one. Groups are walked in several orders where that is fair. Nothing
    is judged where a split has too few samples.
    """
    ends = [_walked(split, samples, seed) for split in splits]
    known = [each for each in ends if each is not None]
    if not known or len(known) < len(ends):
        return ()
    together = _Ends(
        rules=known[0].rules,
        query=tuple(text for each in known for text in each.query),
        price_usd=np.concatenate([each.price_usd for each in known]),
        drawn=np.hstack([each.drawn for each in known]),
        score=np.hstack([each.score for each in known]),
    )
    return _judged(together, resamples, np.random.default_rng(seed))


def _walked(split: Split, samples: Samples, seed: int) -> _Ends | None:
    train, test = (samples.of_queries(side.queries) for side in (split.train, split.test))
    rules = _rules(train, test, seed) if len(train) and len(test) else {}
    if not rules:
        return None
    free, rng = exchangeable(test), np.random.default_rng(seed)
    orders = [polled(test.reordered(rng, free)) for _ in range(_ORDERS)]
    stops = [[stopped(rule, found) for found in orders] for rule in rules.values()]
    return _Ends(
        rules=tuple(rules),
        query=test.query,
        price_usd=test.price_usd,
        drawn=np.array([np.mean([each.drawn for each in ends], axis=0) for ends in stops]),
        score=np.array([np.mean([each.score for each in ends], axis=0) for ends in stops]),
    )


def _rules(train: Samples, test: Samples, seed: int) -> Mapping[str, SamplingRule]:
    """The rules by name; none where training has too few samples."""
    means, most = ArmAccuracy.of(train), test.answer.shape[1]
    model = fit(train, means.at(train), seed=seed)
    if model is None:
        return {}
    plan, predicted = model.plan(most), means.at(test)[:, None]
    learnt = {
        f"learnt, an answer worth {value:,} samples": Planned(
            plan=plan, value_usd=value, price_usd=np.ones_like(predicted), predicted=predicted
        )
        for value in VALUES_IN_SAMPLES
    }
    return {
        f"all {most} samples": FixedSamples(samples=most),
        **{_named(count): FixedSamples(samples=count) for count in FIXED if count < most},
        **{f"agreement {least:g}": Agreement(threshold=least, most=most) for least in THRESHOLDS},
        **learnt,
    }


def _named(count: int) -> str:
    return "1 sample" if count == 1 else f"{count} samples"


def _judged(ends: _Ends, count: int, rng: np.random.Generator) -> tuple[Sampled, ...]:
    """Paired intervals by query: a resampled query brings the groups of all its arms."""
    texts, query = np.unique(np.array(ends.query, object), return_inverse=True)
    resamples = Resamples(len(texts), count, rng)

    def means(values: Floats) -> Floats:
        sums = np.array([np.bincount(query, row, len(texts)) for row in values])
        groups = np.bincount(query, minlength=len(texts))[None].astype(np.float64)
        return resamples.means(sums) / resamples.means(groups)

    drawn, score = means(ends.drawn), means(ends.score)
    cost = means(ends.drawn * ends.price_usd)
    return tuple(
        Sampled(
            rule=name,
            samples=_known(interval(drawn[:, rule])),
            accuracy=_known(interval(score[:, rule])),
            difference=_known(interval(score[:, rule] - score[:, 0])),
            sample_share=_known(interval(drawn[:, rule] / drawn[:, 0])),
            cost_share=interval(cost[:, rule] / cost[:, 0]) if (cost[:, 0] > 0).all() else None,
        )
        for rule, name in enumerate(ends.rules)
    )


def _known(found: Interval | None) -> Interval:
    if found is None:
        raise ValueError("an interval of finite values is always defined")
    return found
