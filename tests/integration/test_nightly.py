"""Learning every night: kills cost nothing, one run at a time, a clear end without Postgres."""

from __future__ import annotations

import json
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from router.errors import Conflict, InvalidInput, Unavailable
from router.store.places import OneTrainer
from router.store.training_runs import RunState
from router.types import PolicyState
from tests.kit import logs
from tests.kit.commands import answer, run
from tests.kit.nights import START, Book, Nights, decided, history
from tests.kit.postgres import PostgresServer
from tests.kit.server import Admin
from training.job import STAGES
from training.run.early import drifted


@pytest.fixture
def nights(dsn: str, tmp_path: Path) -> Nights:
    history(dsn)
    return Nights(dsn=dsn, state=tmp_path / "state")


def left_on_disk(nights: Nights) -> list[str]:
    return sorted(each.name for each in (nights.state / "training").glob("*/*"))


KILLED_AT = ("judged", "canary")
"""Some of the stages; `make promises` kills at each."""


@pytest.mark.timeout(300)
def test_kill_9_between_stages_gives_the_policy_of_a_run_that_nobody_disturbed(
    cluster: PostgresServer, nights: Nights
) -> None:
    with cluster.database() as other:
        history(other)
        Nights(dsn=other, state=nights.state).here()
        undisturbed = Book.of(other).policies
    for stage in KILLED_AT:
        nights.killed_at(stage)
        book = Book.of(nights.dsn)
        assert [(state, at) for _, state, at in book.runs] == [(RunState.RUNNING, stage)]
        assert book.policies == ([] if stage != "canary" else undisturbed)
        if stage == "judged":  # what follows happens on another machine, which has the key alone
            shutil.rmtree(nights.state / "training")
    nights.here()
    book = Book.of(nights.dsn)
    assert [state for _, state, _ in book.runs] == [RunState.DONE]
    assert book.policies == undisturbed
    assert left_on_disk(nights) == []


def test_a_run_goes_on_where_it_was_with_what_it_had(nights: Nights) -> None:
    nights.broken_off_at("judged")
    before = {
        each: each.stat().st_mtime_ns for each in (nights.state / "training").glob("*/[a-z]*")
    }
    assert sorted(each.name.partition("-")[0] for each in before) == ["dataset", "sides", "targets"]
    steps: list[str] = []

    def seen(step: str) -> None:
        steps.append(step)
        if step == "register":
            assert all(each.stat().st_mtime_ns == at for each, at in before.items())

    nights.here(seen)
    assert [step for step in steps if step in STAGES] == list(STAGES)
    assert [state for _, state, _ in Book.of(nights.dsn).runs] == [RunState.DONE]


def test_what_arrives_after_a_run_began_waits_for_the_next_one(nights: Nights) -> None:
    nights.broken_off_at("dataset")
    more = logs.write(nights.state / "more.jsonl", logs.simulated(30, seed=9).rows)
    assert answer("logs", "import", more, "--tenant", "acme", "--dsn", nights.dsn)["new_rows"] == 90
    assert nights.here().summary["rows"] == 360
    assert nights.here().summary["rows"] == 450


def test_a_second_run_leaves_or_waits_until_the_first_is_done(nights: Nights) -> None:
    first = OneTrainer(nights.dsn)
    assert first.holds()
    with pytest.raises(Conflict, match="another run"):
        nights.here()
    done: list[int] = []
    second = threading.Thread(target=lambda: done.append(nights.here(wait=True).record.version))
    second.start()
    second.join(1.0)
    assert not done
    assert Book.of(nights.dsn).runs == []
    first.close()
    second.join(120)
    assert done == [1]


def test_a_run_that_was_broken_off_too_long_ago_has_failed_and_a_new_one_begins(
    nights: Nights,
) -> None:
    nights.broken_off_at("sides")
    (old, _, _) = Book.of(nights.dsn).runs[0]
    nights.here(now=datetime.now(UTC) + timedelta(hours=13))
    (failed, done) = Book.of(nights.dsn).runs
    assert failed == (old, RunState.FAILED, "sides")
    assert done[1] == RunState.DONE


@pytest.mark.parametrize("stage", ["dataset", "policy"])
def test_without_postgres_a_run_ends_clearly_and_the_next_one_works(
    mortal: PostgresServer, tmp_path: Path, stage: str
) -> None:
    with mortal.database() as dsn:
        history(dsn)
        nights = Nights(dsn=dsn, state=tmp_path / "state")
        with pytest.raises(Unavailable, match="Postgres at"):
            nights.here(lambda step: mortal.kill() if step == stage else None)
        mortal.start()
        (run_id, state, at) = Book.of(dsn).runs[0]
        assert (state, at) == (RunState.RUNNING, stage)
        assert Book.of(dsn).policies == []
        nights.here()
        assert [each[:2] for each in Book.of(dsn).runs] == [(run_id, RunState.DONE)]


def test_a_run_that_cannot_learn_has_failed_and_is_not_taken_up(dsn: str, tmp_path: Path) -> None:
    nights = Nights(dsn=dsn, state=tmp_path / "state")
    for runs in (1, 2):
        with pytest.raises(InvalidInput, match="no rows"):
            nights.here()
        assert [state for _, state, _ in Book.of(dsn).runs] == [RunState.FAILED] * runs


def test_the_gate_judges_our_own_decisions_alone_and_says_so(nights: Nights) -> None:
    verdict = nights.here().summary["gate"]
    assert not verdict["promote"]
    assert "decision of Leadline's own" in verdict["why"]


@pytest.mark.timeout(300)
def test_what_passes_the_gate_is_tried_and_the_next_one_is_held_against_it(
    dsn: str, tmp_path: Path
) -> None:
    decided(dsn, 2_000)
    nights = Nights(dsn=dsn, state=tmp_path / "state")
    first = nights.here()
    assert first.summary["drift"] is None  # nothing that was learnt serves yet
    gate = first.summary["gate"]
    assert (gate["incumbent"], gate["interactions"]) == (0, 400)
    passed = all(each["held"] for each in gate["conditions"])
    assert gate["promote"] == passed
    expected = (PolicyState.CANARY, 0.01) if passed else (PolicyState.CANDIDATE, None)
    assert (first.record.state, first.record.share) == expected

    with Admin(dsn) as admin:
        admin.registry.promote(first.record.version, actor="test")
    decided(dsn, 200, since=START + timedelta(minutes=2_000), seed=7)
    second = nights.here(canary=False)
    gate = second.summary["gate"]
    assert gate["incumbent"] == first.record.version
    assert 0 < gate["interactions"] <= 200
    assert second.summary["drift"]["look"] == 1
    assert set(second.looked) >= {"measured", "drift", "scaling"}
    assert list(second.stages_s) == list(STAGES)
    assert (second.record.state, second.record.share) == (PolicyState.CANDIDATE, None)


def test_the_runs_are_told_with_stage_duration_and_policy(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADLINE_STATE_DIR", str(nights.state))
    found = answer("train", "--dsn", nights.dsn)
    assert found["held_out"]["split"]["by"] == "time"
    assert found["agreement"]["agrees"]
    (told,) = json.loads(run("training-runs", "--dsn", nights.dsn, "--json").stdout)
    assert (told["state"], told["stage"], told["policy"]) == ("done", "canary", 1)
    assert (told["rows"], told["error"]) == (360, None)
    assert told["duration_s"] > 0
    assert set(told["stages_s"]) == set(STAGES)
    assert "canary" in run("training-runs", "--dsn", nights.dsn).stdout


def test_drift_calls_for_learning_early_and_only_drift_does(dsn: str, tmp_path: Path) -> None:
    decided(dsn, 600)
    nights = Nights(dsn=dsn, state=tmp_path / "state")
    assert drifted(dsn, now=datetime.now(UTC)) is None  # nothing that was learnt serves
    first = nights.here(canary=False)
    with Admin(dsn) as admin:
        admin.registry.promote(first.record.version, actor="test")
    later = datetime.now(UTC) + timedelta(hours=7)
    decided(dsn, 300, since=START + timedelta(minutes=600))
    steady = drifted(dsn, now=later)
    assert steady is not None
    assert not steady.retrain
    assert drifted(dsn, now=datetime.now(UTC)) is None  # a run has just begun
    assert not answer("train", "--if-drifted", "--dsn", dsn)["drift"]
    decided(dsn, 600, since=START + timedelta(minutes=900), dearer=2.0)
    moved = drifted(dsn, now=later)
    assert moved is not None
    assert moved.retrain
    assert any("cost rose" in each for each in moved.reasons)
