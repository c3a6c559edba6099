"""Learning from simulated logs: no leak, honest figures, same bytes, unkind logs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from router.bundle.embedder import load_embedder
from router.bundle.loader import load
from router.errors import InvalidInput
from router.loading import bind, learned
from router.policy.embedding import StaticEmbedder
from router.policy.policy import Policy
from router.types import Catalog
from tests.kit import logs
from tests.kit.bundles import KEY, TRUSTED
from training.learning.contexts import Encoded
from training.learning.learner import Learner
from training.learning.loglinear import at_rows
from training.learning.policy import learn, write_bundle
from training.learning.targets import Trained
from training.log.dataset import Dataset
from training.log.models import described
from training.log.splits import folds, holdout

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOSTILE_TEXTS = (
    "",
    " ",
    "x" * 1_000_000,
    "9" * 5_000,
    "é" * 3_000,
    "\u202e🙂" * 50,
    "a b " * 9_000,
)


@cache
def embedder() -> StaticEmbedder:
    return load_embedder()


@cache
def simulated_policy() -> Trained:
    return learn(logs.simulated(900).dataset, embedder=embedder())


def bound(trained: Trained, directory: Path) -> Policy:
    write_bundle(trained, directory, KEY, NOW)
    bundle = load(directory, trusted=TRUSTED, probe=False)
    catalog = Catalog(models=bundle.manifest.models, arms=bundle.manifest.arms)
    return bind(learned(bundle, embedder()), catalog, 1)


def test_no_score_leaks_into_its_own_prediction() -> None:
    made = logs.simulated(500)
    scores = np.array([each["score"] for each in made.rows])
    np.random.default_rng(0).shuffle(scores)
    rows = [{**each, "score": score} for each, score in zip(made.rows, scores, strict=True)]
    assert _out_of_fold_auc(logs.dataset(rows)) == pytest.approx(0.5, abs=0.05)
    assert _out_of_fold_auc(made.dataset) > 0.8


def _out_of_fold_auc(dataset: Dataset) -> float:
    learner = Learner(arms=dataset.arms, models=described(dataset), seed=0)
    encoded = Encoded.of(dataset.queries, embedder())
    fold = folds(dataset.queries, 5)
    forecast = learner.fit(encoded, dataset.rows, fold, lambda _: None).out_of_fold_
    raw = at_rows(forecast.raw, dataset.rows)
    return float(roc_auc_score(dataset.rows.score > 0.5, raw))


def test_the_held_out_figures_are_near_the_truth(tmp_path: Path) -> None:
    made, figures = logs.simulated(900), simulated_policy().summary["held_out"]
    assert figures["prediction"]["ece"] < 0.1
    assert figures["routing"]["how"] == "full information"
    assert figures["routing"]["gap_closed"] > 0.1
    policy = bound(simulated_policy(), tmp_path / "bundle")
    accuracy = np.array([each.predictions.accuracy for each in policy.predict(made.texts[:150])])
    order = [["small:single", "large:single"].index(arm.key) for arm in policy.arms[1:]]
    truth = made.probability[:150][:, [2, *order]]
    assert np.abs(accuracy - truth).mean() < 0.1


def test_the_same_log_in_any_order_gives_the_same_bytes(tmp_path: Path) -> None:
    rows = logs.simulated(150).rows
    for name, each in (("one", rows), ("two", rows[::-1])):
        policy = learn(logs.dataset(each), embedder=embedder())
        write_bundle(policy, tmp_path / name, KEY, NOW)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_a_bandit_log_is_judged_by_its_propensities() -> None:
    made = logs.bandit(2_000)
    policy = learn(made.dataset, embedder=embedder())
    routing = policy.summary["held_out"]["routing"]
    assert routing["how"] == "self-normalised inverse propensity scoring"
    assert 0.0 < routing["accuracy"] <= 1.0
    assert routing["effective_rows"] > 10


def test_a_few_queries_that_met_every_arm_do_not_speak_for_a_bandit_log() -> None:
    rows = logs.bandit(900).rows
    figures = {"score": 1.0, "cost_usd": 0.01, "propensity": 0.3}
    met = [
        logs.row(each["query_id"], each["query"], arm, **figures)
        for each in rows[:100]
        for arm in range(3)
    ]
    policy = learn(logs.dataset([*rows, *met]), embedder=embedder())
    routing = policy.summary["held_out"]["routing"]
    assert routing["how"] == "self-normalised inverse propensity scoring"
    assert routing["queries"] > 100


def test_a_decision_predicts_all_arms_with_sane_figures_for_any_text(tmp_path: Path) -> None:
    policy = bound(simulated_policy(), tmp_path / "bundle")
    usual = policy.predict([logs.text(1, 3)])[0].predictions
    for text in HOSTILE_TEXTS:
        found = policy.predict([text])[0].predictions
        most = 1e6 if len(text) == 1_000_000 else 1e3
        for name in ("cost_usd", "latency_p50_s", "output_tokens"):
            ratio = getattr(found, name) / getattr(usual, name)
            assert (np.abs(np.log(ratio)) < math.log(most)).all(), (text[:5], name)
        assert ((found.accuracy >= 0) & (found.accuracy <= 1)).all()


@pytest.mark.parametrize("name", list(logs.hostile()))
def test_an_unkind_log_still_gives_a_bundle_that_loads_and_predicts(
    tmp_path: Path, name: str
) -> None:
    policy = learn(logs.dataset(logs.hostile()[name]), embedder=embedder())
    json.dumps(policy.summary, allow_nan=False)
    found = bound(policy, tmp_path / "bundle")
    predictions = found.predict(["What is 7 times 7?"])[0].predictions
    assert np.isfinite(predictions.cost_usd).all()
    assert ((predictions.accuracy >= 0) & (predictions.accuracy <= 1)).all()


def test_an_arm_without_cost_is_given_its_prior_and_the_summary_says_so() -> None:
    policy = learn(logs.dataset(logs.hostile()["an arm without cost"]), embedder=embedder())
    assert policy.summary["arms_with_prior_cost"] == ["small:single"]


def test_the_catalogs_models_stand_before_the_logs() -> None:
    dataset = logs.simulated(60).dataset
    small = next(model for model in described(dataset) if model.name == "small")
    priced = replace(small, input_usd_per_mtok=7.0, tier=3)
    policy = learn(dataset, embedder=embedder(), catalog_models=[priced])
    assert priced in policy.models
    assert {model.name for model in policy.models} == {"small", "large"}


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (logs.simulated(16).rows, "48 scored rows are too few to learn from; gather at least 50"),
        ([{**each, "score": None} for each in logs.simulated(60).rows], "no row has a score"),
        (
            [{**each, "query": "one"} for each in logs.simulated(60).rows],
            "1 different scored queries are too few",
        ),
    ],
)
def test_a_log_that_cannot_teach_is_refused_with_the_reason(rows: list[logs.Row], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        learn(logs.dataset(rows), embedder=embedder())


def test_a_log_that_was_split_by_the_same_hash_before_is_still_judged() -> None:
    made = logs.simulated(300)
    kept = ~holdout(made.texts, 0.3, seed=0)
    rows = [each for each in made.rows if kept[int(each["query_id"][1:])]]
    figures = learn(logs.dataset(rows), embedder=embedder(), seed=0).summary["held_out"]
    assert figures["queries"] > 20
