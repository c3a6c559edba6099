"""Thinning: what is rare stays whole, what stays says what it stands for, and little is whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from router.types import Floats
from training.log.dataset import Dataset, floats
from training.log.rows import SCHEMA
from training.log.thinning import MOST, Most, some_held, thinned

FEW = Most(typical=1_000, scored=600, unscored=400, held=500, held_scored=100)
START = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = 12_000


def log(rows: int = ROWS, *, scored: float = 0.3, rare: float = 0.01) -> pa.Table:
    """Decisions a minute apart, half of whose texts come back; `rare` of them have another arm."""
    rng = np.random.default_rng(0)
    number, other = rng.integers(0, 400, rows), rng.random(rows) < 0.5
    score = (rng.random(rows) < 0.4).astype(float)
    picked = rng.random(rows) < rare
    told = {
        "query_id": [str(place) for place in range(rows)],
        "query": [
            f"text {number[place]}" if other[place] else f"own text {place}"
            for place in range(rows)
        ],
        "model": np.where(picked, "rare", "usual").tolist(),
        "strategy": ["single"] * rows,
        "strategy_params": ["{}"] * rows,
        "score": np.where(rng.random(rows) < scored, score, np.nan),
        "cost_usd": 1.0 + score,
        "propensity": np.where(picked, rare, 1.0 - rare),
        "occurred_at": [START + timedelta(minutes=place) for place in range(rows)],
    }
    arrays = [
        pa.array(told[item.name], item.type, from_pandas=True)
        if item.name in told
        else pa.nulls(rows, item.type)
        for item in SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def kept_of(table: pa.Table) -> Floats:
    return np.asarray(table["kept"], bool)


def test_a_log_that_a_fit_can_take_is_left_whole() -> None:
    table = log(500)
    found = thinned(table, np.ones(500, bool), most=MOST)
    assert kept_of(found).all()
    assert found["propensity"].equals(table["propensity"])


def test_rare_arms_and_rare_scores_stay_whole() -> None:
    table = log(scored=0.02)
    kept = kept_of(thinned(table, np.ones(ROWS, bool), most=FEW))
    assert kept[np.asarray(table["score"].is_valid())].all()
    rare = np.asarray(table["model"].to_numpy() == "rare")
    assert kept[rare].all()
    assert kept.mean() < 0.2


@pytest.mark.parametrize("seed", range(3))
def test_what_stays_stands_for_all(seed: int) -> None:
    table = log()
    found = thinned(table, np.ones(ROWS, bool), seed, FEW)
    kept, chance = kept_of(found), floats(found, "propensity") / floats(table, "propensity")
    assert kept.mean() < 0.25
    for values in (np.ones(ROWS), np.nan_to_num(floats(table, "score")), np.arange(ROWS) / ROWS):
        error = np.sqrt((values**2 * (1.0 / chance - 1.0)).sum())
        assert abs((values / chance)[kept].sum() - values.sum()) < 4.0 * error


def test_rows_of_the_other_side_stay_as_they_are() -> None:
    table, taught = log(), np.arange(ROWS) % 2 == 0
    found = thinned(table, taught, most=FEW)
    assert kept_of(found)[~taught].all()
    assert not kept_of(found)[taught].all()
    before, after = (floats(each, "propensity")[~taught] for each in (table, found))
    assert (before == after).all()


def test_what_was_asked_at_once_stays_together() -> None:
    one = log(ROWS // 2)
    again = one.set_column(2, "model", pa.array(["rare"] * len(one), pa.large_string()))
    kept = kept_of(thinned(pa.concat_tables([one, again]), np.ones(ROWS, bool), most=FEW))
    assert (kept[: len(one)] == kept[len(one) :]).all()
    assert 0.0 < kept.mean() < 1.0


def test_typical_queries_are_a_share_of_all_texts_whatever_their_arms() -> None:
    table = log(rare=0.2)
    found = thinned(table, np.ones(ROWS, bool), most=FEW)
    dataset = Dataset.from_table(found.filter(found["kept"]))
    texts = len(table["query"].unique())
    assert dataset.typical is not None
    assert dataset.typical.sum() == pytest.approx(texts * FEW.typical / ROWS, rel=0.15)
    asked = set(np.array(dataset.queries, object)[dataset.typical])
    whole = table.filter(pa.array([text in asked for text in table["query"].to_pylist()]))
    rare = np.mean(np.asarray(whole["model"].to_numpy() == "rare"))
    assert rare == pytest.approx(0.2, abs=0.04)


def test_what_judges_is_thinned_evenly() -> None:
    table, held = log(), np.arange(ROWS) >= ROWS // 2
    stays = some_held(table, held, most=FEW)
    assert not stays[~held].any()
    assert stays.sum() == pytest.approx(500, rel=0.15)
    scarce = some_held(log(scored=0.02), held, most=FEW)
    assert scarce.sum() == held.sum()
