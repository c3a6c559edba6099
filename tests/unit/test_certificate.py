"""A certificate: the cheapest value that is shown to be enough, or what is missing to show one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.policy.certificate import (
    Asked,
    Candidates,
    Certificate,
    Origin,
    Status,
    Window,
    certify,
)
from router.policy.hedging import Sample, passed
from router.types import Floats

ORIGIN = Origin(source_digest="ab" * 32, policy_version=7, left_out=3, unlabelled_n=12)


def candidates(values: Floats) -> Candidates:
    """Candidates of rising cost, of full information."""
    count = values.shape[1]
    return Candidates(
        value_usd=np.geomspace(1e-4, 1.0, count),
        cost_usd=np.linspace(1e-4, 1e-2, count),
        effective_n=np.full(count, float(len(values))),
        sample=Sample(values=values),
    )


def curve(rows: int, means: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9), seed: int = 0) -> Candidates:
    """Scores of the same queries: whoever is right at a value is right at all dearer ones."""
    luck = np.random.default_rng(seed).random((rows, 1))
    return candidates((luck < np.array(means)).astype(float))


def certified(found: Candidates, floor: float, confidence: float = 0.95) -> Certificate:
    return certify(found, Asked(floor=floor, confidence=confidence), ORIGIN)


def test_the_cheapest_value_that_is_enough_is_certified() -> None:
    found = certified(curve(2_000), 0.75)
    assert found.status is Status.CERTIFIED
    assert found.value_usd == pytest.approx(np.geomspace(1e-4, 1.0, 4)[2])
    assert found.lower_bound == 0.75 <= found.estimate == pytest.approx(0.8, abs=0.03)
    assert (found.n, found.needed_n, found.left_out, found.unlabelled_n) == (2_000, None, 3, 12)
    assert (found.policy_version, found.source_digest) == (7, "ab" * 32)


def test_where_the_cheapest_is_enough_the_bound_says_by_how_much() -> None:
    found = certified(curve(2_000), 0.3)
    assert found.value_usd == pytest.approx(1e-4)
    assert 0.45 < found.lower_bound < 0.5


def test_what_the_log_never_tried_at_the_dearest_does_not_hide_what_is_enough_below_it() -> None:
    luck = np.random.default_rng(1).random((1_500, 4)) < (0.5, 0.72, 0.8, 0.9)
    values = luck.astype(float)
    values[:, 3] = np.where(np.arange(1_500) % 50 == 7, 50.0 * values[:, 3], 0.0)
    found = replace(candidates(values), expected=np.array([0.5, 0.72, 0.8, 0.9]))
    assert not certified(replace(found, expected=None), 0.75).certified
    told = certified(found, 0.75)
    assert told.certified
    assert told.value_usd == pytest.approx(found.value_usd[2])


def test_too_little_data_says_so_and_takes_the_safe_side() -> None:
    found = certified(curve(40), 0.87)
    assert found.status is Status.NOT_CERTIFIABLE
    assert not found.certified
    assert found.value_usd == 1.0
    assert found.lower_bound < 0.87


def test_the_number_that_it_says_is_about_what_certifies_half_of_the_time() -> None:
    needs = [certified(curve(200, seed=seed), 0.86).needed_n for seed in range(20)]
    known = [need for need in needs if need is not None]
    typical = int(np.median(known))
    share = np.mean([certified(curve(typical, seed=100 + s), 0.86).certified for s in range(40)])
    assert 0.25 < share < 0.85
    scores = np.random.default_rng(0).permutation(np.arange(40) < 34).astype(float)
    message = certified(candidates(scores[:, None]), 0.8).message
    assert re.fullmatch(r"not certifiable: n = 40, needs about [\d,]+", message), message


def test_a_floor_beyond_reach_is_infeasible_and_says_what_is_reached() -> None:
    found = certified(curve(2_000), 0.97)
    assert found.status is Status.INFEASIBLE
    assert "no trade-off reaches a mean accuracy of at least 0.97" in found.message
    assert "about 0.9" in found.message
    assert found.needed_n is None
    assert found.value_usd == 1.0


def test_an_estimate_below_a_floor_that_may_hold_names_no_number() -> None:
    found = certified(candidates((np.arange(60) < 54).astype(float)[:, None]), 0.93)
    assert found.status is Status.NOT_CERTIFIABLE
    assert "not clearly above" in found.message


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(10, 400), st.floats(0.2, 0.9))
def test_a_higher_floor_or_confidence_never_takes_a_cheaper_value(
    seed: int, rows: int, floor: float
) -> None:
    found = curve(rows, seed=seed)
    loose, strict, sure = (
        certified(found, floor),
        certified(found, min(floor + 0.05, 1.0)),
        certified(found, floor, 0.995),
    )
    assert strict.value_usd >= loose.value_usd
    assert sure.value_usd >= loose.value_usd
    assert not (strict.certified and not loose.certified)
    assert not (sure.certified and not loose.certified)


def test_all_looks_together_are_false_no_more_often_than_stated() -> None:
    """A mean at the floor itself is looked at again and again while its sample grows."""
    looks = [30 * 1.5**number for number in range(8)]
    luck = np.random.default_rng(4).random((round(looks[-1]), 400)) < 0.7
    spent = [Asked(floor=0.7, confidence=0.9, look=look + 1).level for look in range(len(looks))]
    assert sum(spent) < 0.1
    assert Asked(floor=0.7, confidence=0.9).level == pytest.approx(0.1)
    ever = [
        passed(Sample(values=luck[: round(rows)].astype(float)), 0.7, level)
        for rows, level in zip(looks, spent, strict=True)
    ]
    assert np.any(ever, axis=0).mean() <= 0.1 + 0.03
    found = certify(curve(2_000), Asked(floor=0.75, confidence=0.95, look=9), ORIGIN)
    assert (found.status, found.confidence) == (Status.CERTIFIED, 0.95)


def test_a_certificate_is_the_same_after_json() -> None:
    window = Window(since=datetime(2026, 1, 1, tzinfo=UTC), until=datetime(2026, 2, 1, tzinfo=UTC))
    for found in (certified(curve(40), 0.87), certified(curve(900), 0.5)):
        for each in (found, replace(found, window=window)):
            assert Certificate.from_mapping(json.loads(json.dumps(each.to_mapping()))) == each
    with pytest.raises(KeyError):
        Certificate.from_mapping({})


def test_one_interaction_and_scores_that_never_vary_are_no_error() -> None:
    for rows, score in ((1, 1.0), (1, 0.0), (500, 1.0), (500, 0.0)):
        found = certified(candidates(np.full((rows, 3), score)), 0.9)
        assert found.certified == (rows == 500 and score == 1.0)
        assert 0.0 <= found.lower_bound <= 1.0
