"""A fall of accuracy: bets are fair, no batch changes a bit, and falls are found by model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import InvalidInput
from router.policy.change import Change, Seen, share_of
from router.types import Floats

START = datetime(2026, 3, 1, tzinfo=UTC)


def outcomes(expected: Floats, right: Floats, model: Sequence[str], seed: int) -> list[Seen]:
    """Outcomes that are right with these probabilities, one a minute."""
    scores = np.random.default_rng(seed).random(len(right)) < right
    return [
        Seen(model=name, score=float(score), expected=each, at=START + place * timedelta(minutes=1))
        for place, (name, score, each) in enumerate(
            zip(model, scores, expected.tolist(), strict=True)
        )
    ]


def traffic(count: int, seed: int, *, fall: float = 0.0) -> list[Seen]:
    """Two models; from half of the outcomes on the one named `a` is less often right."""
    rng = np.random.default_rng([seed, 1])
    expected, model = rng.beta(7.0, 3.0, count), rng.choice(["a", "b"], count)
    late = (np.arange(count) >= count // 2) & (model == "a")
    right = np.clip(expected - 0.05 - fall * late, 0.0, 1.0)
    return outcomes(expected, right, model.tolist(), seed)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(0, 200),
    fall=st.sampled_from((0.0, 0.5)),
    expected=st.floats(0.0, 1.0),
)
def test_bets_win_nothing_on_average_while_accuracy_is_what_it_was(
    seed: int, count: int, fall: float, expected: float
) -> None:
    known = Change().observe(traffic(count, seed, fall=fall))
    edge = max([each.edge for each in known.streams.values()], default=-1.0)
    right = min(max(expected + edge, 0.0), 1.0)
    after = [
        known.observe([Seen(model="a", score=score, expected=expected, at=START)]).e_value
        for score in (0.0, 1.0)
    ]
    mean = (1.0 - right) * after[0] + right * after[1]
    if right >= expected + edge:
        assert mean <= known.e_value + 1e-9 * max(after)


def test_the_same_outcomes_in_batches_and_out_of_json_give_the_same_watch() -> None:
    seen = traffic(400, seed=3, fall=0.5)
    whole, parts = Change().observe(seen), Change()
    for start, end in pairwise((0, 1, 150, 151, 400)):
        read = orjson.loads(orjson.dumps(parts.to_mapping()))
        parts = Change.from_mapping(read).observe(seen[start:end])
    assert parts.to_mapping() == whole.to_mapping()


def test_a_fall_is_found_by_the_model_that_fell_with_what_had_been_measured() -> None:
    seen = traffic(1_600, seed=5, fall=0.4)
    change = Change().observe(seen[:800])
    assert change.found is None
    found = change.observe(seen[800:]).found
    assert found is not None
    assert found.fallen == ("a",)
    assert datetime.fromisoformat(found.since) >= seen[800].at
    assert found.accuracy == pytest.approx(0.25, abs=0.1)
    assert found.measured == pytest.approx(0.65, abs=0.06)
    assert "by a: 0." in str(found)
    assert "outcomes of a since" in str(found)


def test_harder_queries_of_which_that_was_predicted_are_no_fall() -> None:
    rng = np.random.default_rng(0)
    expected = np.concatenate((rng.beta(8.0, 2.0, 600), rng.beta(2.0, 8.0, 600)))
    change = Change().observe(outcomes(expected, expected, ["a"] * 1_200, seed=1))
    assert change.found is None


def test_the_streams_weights_add_up_to_one() -> None:
    assert sum(map(share_of, range(10_000))) == pytest.approx(1.0, abs=1e-3)


def test_what_is_no_watch_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not a watch of this version"):
        Change.from_mapping({"level": 0.05, "streams": [["a", {}]], "found": None})
