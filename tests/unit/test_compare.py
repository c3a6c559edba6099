"""Two policies compared: true differences lie in their intervals; what is unknown is said so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.slo import Slo
from router.types import Arm, Floats
from tests.kit import logs
from tests.kit.embedding import embedder
from training.compare.log import Behaviour, Interactions, Learnt, Rewards, Source
from training.compare.measured import Facts, differences
from training.compare.picks import Picks
from training.compare.slices import slice_differences
from training.evaluation.logged import one_hot
from training.evaluation.slices import facet
from training.log import sources
from training.log.dataset import Dataset, Indices
from training.report.measured import Told

ARMS = (Arm(model="small", strategy="single"), Arm(model="large", strategy="single"))
COST_USD = np.array([1e-5, 2e-4])
START = datetime(2026, 3, 1, tzinfo=UTC)


def truth(hard: Floats) -> Floats:
    """The chance of a right answer of each arm, (n, 2)."""
    return np.asarray(1.0 / (1.0 + np.exp(1.5 * hard[:, None] - np.array([0.3, 2.0]))))


def interactions(
    n: int, seed: int, *, full: bool, tried: float = 0.5
) -> tuple[Interactions, Floats]:
    """Interactions with the chance (n, 2) that made them; the large arm is `tried` as often."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=n)
    chance = truth(hard)
    score = (rng.random((n, 2)) < chance).astype(float)
    cost = np.tile(COST_USD, (n, 1))
    rewards = Rewards(score=score, cost_usd=cost, latency_s=np.full((n, 2), np.nan))
    if not full:
        arm = (rng.random(n) < tried).astype(np.intp)
        own = (np.arange(n), arm)
        rewards = Rewards(
            score=np.where(rng.random(n) < 0.3, np.nan, score[own]),
            cost_usd=cost[own],
            latency_s=np.full(n, np.nan),
            behaviour=Behaviour(arm=arm, propensity=np.array([1.0 - tried, tried])[arm]),
        )
    kinds = np.where(hard > 0.0, "hard", "easy").tolist()
    made = Interactions(
        texts=tuple(map(str, range(n))),
        arms=ARMS,
        rewards=rewards,
        facets=(facet("kind", kinds),),
        unseen=np.ones(n, bool),
        cluster=np.arange(n),
        slos=(("default", Slo()),),
    )
    return made, chance


def picks(arm: Indices, chance: Floats) -> Picks:
    return Picks(
        arm=arm,
        target=one_hot(arm, 2),
        answered=np.ones(len(arm), bool),
        accuracy=chance,
        cost_usd=np.tile(COST_USD, (len(arm), 1)),
        latency_s=np.full(chance.shape, np.nan),
    )


def sides(chance: Floats) -> tuple[Picks, Picks]:
    """A that takes the small arm for all, and B that takes the large one where it helps more."""
    n = len(chance)
    gain = chance[:, 1] - chance[:, 0]
    return picks(np.zeros(n, np.intp), chance), picks((gain > 0.3).astype(np.intp), chance)


def facts_of(log: Interactions, both: tuple[Picks, Picks]) -> Facts:
    return Facts(log=log, one=both[0], other=both[1])


def told(log: Interactions, both: tuple[Picks, Picks]) -> dict[str, Told]:
    facts = facts_of(log, both)
    return {each.name: each.difference for each in differences(both, facts, "")}


@pytest.mark.parametrize("full", [True, False])
def test_true_differences_lie_within_their_intervals(full: bool) -> None:
    held = 0
    for seed in range(20):
        log, chance = interactions(800, seed, full=full)
        both = sides(chance)
        own = [chance[np.arange(800), each.arm] for each in both]
        found = told(log, both)
        assert not found["accuracy"].reason
        held += found["accuracy"].low <= float((own[1] - own[0]).mean()) <= found["accuracy"].high
        spent = COST_USD[both[1].arm] - COST_USD[both[0].arm]
        assert found["cost_usd"].low <= float(spent.mean()) <= found["cost_usd"].high
    assert held >= 17


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1_000), st.booleans())
def test_b_less_a_is_a_less_b_the_other_way_round(seed: int, full: bool) -> None:
    log, chance = interactions(400, seed, full=full)
    one, other = sides(chance)
    found, turned = told(log, (one, other)), told(log, (other, one))
    for name in ("accuracy", "cost_usd"):
        assert found[name].estimate == pytest.approx(-turned[name].estimate)
        assert found[name].low == pytest.approx(-turned[name].high)


@pytest.mark.parametrize("full", [True, False])
def test_policies_that_decide_the_same_differ_by_nothing(full: bool) -> None:
    log, chance = interactions(200, 1, full=full)
    _, other = sides(chance)
    found = told(log, (other, other))["accuracy"]
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)


def test_what_the_log_never_tried_cannot_be_told() -> None:
    log, chance = interactions(600, 1, full=False, tried=0.001)
    found = told(log, sides(chance))
    assert found["accuracy"].reason.startswith("cannot tell: ")
    assert found["latency_s"].reason.startswith("cannot tell: ")
    assert told(*_nothing(log, chance))["accuracy"].reason.startswith("cannot tell: ")


def _nothing(log: Interactions, chance: Floats) -> tuple[Interactions, tuple[Picks, Picks]]:
    none = np.empty(0, np.intp)
    one, other = (each.take(none) for each in sides(chance))
    return log.take(none), (one, other)


@pytest.mark.parametrize("full", [True, False])
def test_the_slice_that_gains_is_found(full: bool) -> None:
    log, chance = interactions(6_000, 3, full=full)
    hard = log.facets[0].of == log.facets[0].names.index("hard")
    one = picks(np.zeros(6_000, np.intp), chance)
    other = picks(hard.astype(np.intp), chance)
    first, second = slice_differences(log, (one, other), facts_of(log, (one, other)))
    assert (first.name, first.differing) == ("hard", 1.0)
    assert first.measured.low > 0.0
    assert second.differing == 0.0
    assert second.measured.low <= 0.0 <= second.measured.high


def test_a_slice_with_little_in_it_is_not_told() -> None:
    log, chance = interactions(600, 3, full=True)
    rare = facet("kind", ["rare" if place < 20 else "usual" for place in range(600)])
    log = replace(log, facets=(rare,))
    both = sides(chance)
    found = {each.name: each for each in slice_differences(log, both, facts_of(log, both))}
    assert found["rare"].measured.reason == "cannot tell: worth 20 interactions"
    assert not found["usual"].measured.reason


def source(
    rows: list[logs.Row], *learnt: Learnt, most: int = 100, held_out: bool = False
) -> Source:
    table = sources.from_batches([pa.RecordBatch.from_pylist(rows)]).table
    return Source(
        table=table,
        learnt=(learnt[0], learnt[-1]),
        slos=(("default", Slo()),),
        most=most,
        held_out=held_out,
    )


def timed(rows: list[logs.Row]) -> list[logs.Row]:
    """The rows, a minute between queries."""
    return [
        {**row, "occurred_at": START + timedelta(minutes=int(row["query_id"][1:]))} for row in rows
    ]


def test_only_what_came_after_both_watermarks_is_unseen() -> None:
    early, late = (
        Learnt(digest=None, watermark=START + timedelta(minutes=minutes)) for minutes in (10, 29)
    )
    rows = timed(logs.bandit(60).rows)
    found = source(rows, early, late).interactions(embedder())
    assert (len(found), int(found.unseen.sum()), found.caution) == (60, 30, "")
    assert "up to 2026-03-01 00:29:00" in found.seen
    assert source(rows, early, late, held_out=True).interactions(embedder()).unseen.all()


def test_the_very_log_that_taught_a_policy_shows_nothing_even_on_ones_word() -> None:
    rows = logs.simulated(40).rows
    own = Learnt(digest=logs.dataset(rows).digest, watermark=None)
    other = Learnt(digest="0", watermark=None)
    found = source(rows, other, own, held_out=True).interactions(embedder())
    assert not found.unseen.any()
    assert found.seen == "a policy has learnt from this very log"


def test_a_log_without_times_is_taken_with_a_caution() -> None:
    unknown = Learnt(digest="0", watermark=START)
    found = source(logs.simulated(40).rows, unknown).interactions(embedder())
    assert found.unseen.all()
    assert found.caution.startswith("times do not tell")


def test_the_newest_interactions_are_taken_where_there_are_more() -> None:
    rows, unknown = timed(logs.simulated(60).rows), Learnt(digest="0", watermark=None)
    found = source(rows, unknown, most=25).interactions(embedder())
    taken = {f"Case {place}:" for place in range(35, 60)}
    assert {text.partition(" what")[0] for text in found.texts} == taken
    dataset = Dataset.from_table(source(rows, unknown).table)
    places = [dataset.queries.index(text) for text in found.texts]
    assert np.array_equal(found.rewards.score, dataset.table("score")[places])


def test_a_summary_tells_what_was_learnt_from() -> None:
    found = Learnt.of({"dataset_digest": "d", "watermark": "2026-03-01T00:00:00"})
    assert (found.digest, found.watermark) == ("d", START)
    assert Learnt.of({"watermark": "soon"}) == Learnt(digest=None, watermark=None)
