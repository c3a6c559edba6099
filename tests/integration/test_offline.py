"""A policy with no server, on a small real bundle."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pytest

from router.errors import BundleRefused, Infeasible
from router.offline import Asked, Policy
from router.settings import Settings
from router.slo import OnInfeasible, Slo
from router.types import Bounds, Decision, Evidence
from tests.kit.bundles import KEY, flip
from tests.kit.policies import catalog
from tests.kit.serving_bundles import bundle

ASKED = [Asked(query_id=f"q{n}", text=f"What is {n} + {n * n}?") for n in range(40)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "policy.zip"
    path.write_bytes(bundle(catalog()))
    return path


@pytest.fixture(scope="module")
def policy(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return load(archive, tmp_path_factory.mktemp("state"))


def load(path: Path, state_dir: Path, *keys: str) -> Policy:
    config = Settings.model_validate({"state_dir": state_dir})
    return Policy.load(path, trusted_keys=keys or (KEY.public_key.hex(),), settings=config)


class Row:
    """A recorded query that keeps account of the arms that were attempted."""

    def __init__(self, asked: Asked, shown: Mapping[str, Evidence]) -> None:
        self.asked, self._shown = asked, shown
        self.attempted: list[str] = []

    @property
    def arms(self) -> Collection[str]:
        return self._shown.keys()

    def attempt(self, arm: str) -> Evidence:
        self.attempted.append(arm)
        return self._shown[arm]


def rows(policy: Policy, *, arms: int = 24, confidence: float = 0.1) -> list[Row]:
    shown = {
        arm.key: Evidence(confidence=confidence, cost_usd=0.001, latency_s=0.5)
        for arm in policy.arms[:arms]
    }
    return [Row(asked, shown) for asked in ASKED]


def same(one: Decision, other: Decision) -> bool:
    numbers = zip(
        *(
            [getattr(each.predictions, name) for name in each.predictions.__slots__]
            for each in (one, other)
        ),
        strict=True,
    )
    return (
        one.decision_id == other.decision_id
        and one.choice.index == other.choice.index
        and one.choice.propensity == other.choice.propensity
        and all(np.array_equal(left, right, equal_nan=True) for left, right in numbers)
    )


def test_a_bundle_of_a_stranger_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="not trusted here"):
        load(archive, tmp_path, "aa" * 32)


def test_a_tampered_bundle_is_refused(archive: Path, tmp_path: Path) -> None:
    spoiled = tmp_path / "spoiled.zip"
    spoiled.write_bytes(flip(archive.read_bytes(), 5_000))
    with pytest.raises(BundleRefused):
        load(spoiled, tmp_path)


def test_a_bundle_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="does not exist"):
        load(tmp_path / "nothing", tmp_path)


def test_many_decisions_are_those_of_one_by_one(policy: Policy) -> None:
    slo = Slo(accuracy_value_usd=0.01, exploration_rate=0.5)
    many = [decided for _, _, decided in policy.decide_many(ASKED, [slo])]
    for asked, decided in zip(ASKED, many, strict=True):
        alone = policy.decide(asked.text, slo=slo, query_id=asked.query_id)
        assert isinstance(decided, Decision)
        assert same(alone, decided)


def test_exploration_is_reproducible_and_differs_between_slos(policy: Policy) -> None:
    slo = Slo(accuracy_value_usd=0.01, exploration_rate=1.0)
    first, again = (
        [decided.arm.key for _, _, decided in policy.decide_many(ASKED, [slo, slo])]  # type: ignore[union-attr]
        for _ in range(2)
    )
    assert first == again
    assert first[: len(ASKED)] != first[len(ASKED) :]


def test_decisions_come_slo_by_slo_in_the_order_of_the_queries(policy: Policy) -> None:
    decided = policy.decide_many(ASKED, [Slo(), Slo(min_accuracy=0.5)])
    places = [(place, asked.query_id) for place, asked, _ in decided]
    assert places == [(place, asked.query_id) for place in (0, 1) for asked in ASKED]


def test_a_query_without_a_feasible_arm_spoils_no_other(policy: Policy) -> None:
    reject = Slo(max_cost_usd=1e-9, on_infeasible=OnInfeasible.REJECT)
    decided = [each for _, _, each in policy.decide_many(ASKED, [reject, Slo()])]
    assert all(isinstance(each, Infeasible) for each in decided[: len(ASKED)])
    assert all(isinstance(each, Decision) for each in decided[len(ASKED) :])


def test_bounds_hold_on_top_of_the_slo(policy: Policy) -> None:
    wanted = policy.arms[5].key
    decision = policy.decide("What?", bounds=Bounds(allowed_arms=frozenset({wanted})))
    assert decision.arm.key == wanted


def test_replay_looks_at_no_arm_that_it_did_not_attempt(policy: Policy) -> None:
    log = rows(policy)
    for row, (_, replayed) in zip(log, policy.replay(log, [Slo(min_accuracy=0.8)]), strict=True):
        assert row.attempted == [arm.key for arm, _ in replayed.attempts]
        assert 1 <= len(set(row.attempted)) == len(row.attempted) <= 3
        assert replayed.final is not None
        assert replayed.final.key in row.attempted


def test_poor_evidence_makes_replay_go_on_and_good_evidence_makes_it_stop(policy: Policy) -> None:
    slo = Slo(accuracy_value_usd=0.005)

    def attempts(confidence: float) -> int:
        replayed = policy.replay(rows(policy, confidence=confidence), [slo])
        return sum(len(each.attempts) for _, each in replayed)

    assert attempts(0.0) > attempts(1.0) == len(ASKED)


def test_an_arm_without_a_row_is_not_available(policy: Policy) -> None:
    log = rows(policy, arms=2)
    known = {arm.key for arm in policy.arms[:2]}
    for _, replayed in policy.replay(log, [Slo(accuracy_value_usd=1.0)]):
        assert {arm.key for arm, _ in replayed.attempts} <= known


def test_a_query_whose_arms_the_policy_does_not_know_gets_a_reason(policy: Policy) -> None:
    row = Row(ASKED[0], {"stranger:single": Evidence()})
    [(_, replayed)] = policy.replay([row])
    assert replayed.attempts == ()
    assert replayed.final is None
    assert "allowed_arms" in replayed.reason


def test_a_text_alone_is_its_own_id(policy: Policy) -> None:
    one, other = policy.decide("a"), policy.decide("b")
    assert one.decision_id == policy.decide("a").decision_id != other.decision_id


def test_what_is_explained_is_what_is_decided(policy: Policy) -> None:
    slo = Slo(accuracy_value_usd=0.01, exploration_rate=0.5)
    for asked in ASKED[:10]:
        decision, explanation = policy.explain(asked.text, slo=slo, query_id=asked.query_id)
        assert same(decision, policy.decide(asked.text, slo=slo, query_id=asked.query_id))
        assert explanation.arms[0].arm == decision.arm.key
        assert ("at random" in explanation.note) is decision.choice.explored


def test_an_arm_is_held_against_the_one_that_is_asked_for(policy: Policy) -> None:
    decision, explanation = policy.explain("What?", arm=policy.arms[3].key)
    assert [each.arm for each in explanation.arms] == [decision.arm.key, policy.arms[3].key]
