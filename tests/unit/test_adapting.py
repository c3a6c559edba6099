"""A policy takes in arms that it was not trained on, from few outcomes and with no retraining."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from router.bundle.embedder import load_embedder
from router.bundle.loader import load
from router.bundle.signing import trusted_keys
from router.errors import InvalidInput
from router.loading import bind, learned
from router.policy.policy import Policy
from router.types import Catalog, Floats, Predictions
from tests.kit import logs
from tests.kit.bundles import KEY, NOW, TRUSTED
from training.learning.adapting import LEAST_SCORED_ROWS, adapt, opened
from training.learning.policy import learn, write_bundle
from training.learning.targets import Trained

NEW = "large:self_consistency?samples=3"
MADE = logs.simulated(500, seed=4)
UNSEEN = logs.simulated(400, seed=5)


def of_new_arm(rows: list[logs.Row], *, new: bool) -> list[logs.Row]:
    return [row for row in rows if (row["strategy"] == "self_consistency") == new]


@cache
def base() -> Trained:
    return learn(logs.dataset(of_new_arm(MADE.rows, new=False)), embedder=load_embedder())


@cache
def adapted(rows: int) -> Trained:
    outcomes = of_new_arm(logs.simulated(rows, seed=6).rows, new=True)
    return adapt(base(), logs.dataset(outcomes))


def bound(policy: Trained, directory: Path) -> Policy:
    write_bundle(policy, directory, KEY, NOW)
    bundle = load(directory, trusted=TRUSTED)
    catalog = Catalog(models=bundle.manifest.models, arms=bundle.manifest.arms)
    return bind(learned(bundle, load_embedder()), catalog, 1)


def predicted(policy: Policy, name: str = "accuracy") -> Floats:
    found = policy.predict(UNSEEN.texts)
    return np.array([getattr(each.predictions, name) for each in found])


def test_fifty_outcomes_bring_sensible_predictions_of_unseen_queries(tmp_path: Path) -> None:
    policy = bound(adapted(50), tmp_path / "bundle")
    assert [arm.key for arm in policy.arms][-1] == NEW
    accuracy, truth = predicted(policy)[:, -1], UNSEEN.probability[:, 2]
    assert np.corrcoef(accuracy, truth)[0, 1] > 0.9
    assert abs(accuracy.mean() - truth.mean()) < 0.08
    assert np.abs(accuracy - truth).mean() < 0.6 * np.abs(truth.mean() - truth).mean()


def test_more_outcomes_bring_predictions_nearer_to_the_truth(tmp_path: Path) -> None:
    truth = UNSEEN.probability[:, 2]
    away = [
        np.abs(predicted(bound(adapted(rows), tmp_path / str(rows)))[:, -1] - truth).mean()
        for rows in (8, 60, 400)
    ]
    assert away[2] < away[0]
    assert away[2] < 0.1


def test_spending_is_learnt_from_the_outcomes(tmp_path: Path) -> None:
    policy = bound(adapted(60), tmp_path / "bundle")
    costs = [row["cost_usd"] for row in of_new_arm(UNSEEN.rows, new=True)]
    seconds = np.array([row["latency_s"] for row in of_new_arm(UNSEEN.rows, new=True)])
    assert predicted(policy, "cost_usd")[:, -1].mean() == pytest.approx(np.mean(costs), rel=0.25)
    assert (seconds <= predicted(policy, "latency_p95_s")[:, -1]).mean() > 0.88


def test_arms_that_the_policy_has_keep_their_place_and_nearly_their_predictions(
    tmp_path: Path,
) -> None:
    before, after = bound(base(), tmp_path / "one"), bound(adapted(50), tmp_path / "two")
    assert after.arms[:-1] == before.arms
    assert np.abs(predicted(after)[:, :-1] - predicted(before)).max() < 0.1
    for name in ("cost_usd", "latency_p95_s", "output_tokens"):
        assert np.array_equal(predicted(after, name)[:, :-1], predicted(before, name))


def test_adapting_is_the_same_in_any_order_of_rows_bit_for_bit(tmp_path: Path) -> None:
    rows = of_new_arm(logs.simulated(50, seed=6).rows, new=True)
    for name, each in (("one", rows), ("two", rows[::-1])):
        write_bundle(adapt(base(), logs.dataset(each)), tmp_path / name, KEY, NOW)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_a_bundle_is_opened_as_what_was_written(tmp_path: Path) -> None:
    write_bundle(base(), tmp_path / "bundle", KEY, NOW)
    policy = opened(tmp_path / "bundle", trusted=trusted_keys((), KEY), embedder=load_embedder())
    write_bundle(policy, tmp_path / "again", KEY, NOW)
    for file in (tmp_path / "bundle").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_an_arm_with_too_few_outcomes_keeps_its_prior_and_the_summary_says_so(
    tmp_path: Path,
) -> None:
    few = adapted(LEAST_SCORED_ROWS - 1)
    (told,) = few.summary["adapted"]
    assert (told["arm"], told["from"], told["scored_rows"]) == (NEW, "prior", 4)
    accuracy = predicted(bound(few, tmp_path / "bundle"))
    assert ((accuracy > 0) & (accuracy < 1)).all()


def test_the_summary_tells_how_well_the_rows_were_predicted_before_and_after() -> None:
    (told,) = adapted(400).summary["adapted"]
    assert (told["from"], told["scored_rows"]) == ("outcomes", 400)
    assert told["after"]["brier"] <= told["before"]["brier"]
    assert told["after"]["accuracy"] == pytest.approx(told["mean_score"], abs=0.03)


def test_rows_of_arms_that_the_policy_has_are_not_looked_at() -> None:
    rows = logs.simulated(50, seed=6).rows
    mixed = adapt(base(), logs.dataset(rows))
    changed = [row if row in of_new_arm(rows, new=True) else {**row, "score": 0.5} for row in rows]
    again = adapt(base(), logs.dataset(changed))
    for name, array in mixed.arrays.items():
        assert np.array_equal(array, again.arrays[name], equal_nan=True), name


def test_a_log_without_new_arms_is_refused_with_the_reason() -> None:
    known = logs.dataset(of_new_arm(MADE.rows, new=False))
    with pytest.raises(InvalidInput, match="has all 2 arms of the log"):
        adapt(base(), known)
    with pytest.raises(InvalidInput, match="has all 1 arms"):
        adapt(adapted(50), logs.dataset(of_new_arm(MADE.rows, new=True)))


def test_an_adapted_policy_takes_in_the_next_arm_too(tmp_path: Path) -> None:
    rows = [{**row, "model": "other"} for row in of_new_arm(UNSEEN.rows, new=True)]
    policy = bound(adapt(adapted(50), logs.dataset(rows)), tmp_path / "bundle")
    assert [arm.key for arm in policy.arms][-2:] == [NEW, NEW.replace("large", "other")]
    for name in Predictions.__slots__:
        assert np.isfinite(predicted(policy, name)[0]).all(), name


@pytest.mark.parametrize(
    "name",
    [
        "all scores 1",
        "all scores 0",
        "no cost, latency or tokens",
        "NaN here and there",
        "fractional scores",
        "texts of 1 MB",
    ],
)
def test_an_unkind_log_of_a_new_arm_still_gives_a_policy_that_predicts(
    tmp_path: Path, name: str
) -> None:
    rows = [{**row, "model": "other"} for row in logs.hostile()[name]]
    policy = bound(adapt(base(), logs.dataset(rows)), tmp_path / "bundle")
    accuracy = predicted(policy)
    assert ((accuracy >= 0) & (accuracy <= 1)).all()
    assert np.isfinite(predicted(policy, "cost_usd")).all()
