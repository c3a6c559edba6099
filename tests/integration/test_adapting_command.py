"""leadline train --adapt: new arms come into a bundle from an outcome log."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.errors import BundleRefused, InvalidInput
from router.offline import Policy
from tests.kit import logs
from tests.kit.commands import answer, run

NEW = "large:self_consistency?samples=3"


@pytest.fixture(autouse=True)
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that knows two of the three arms, in a state directory of the test's own."""
    monkeypatch.setenv("LEADLINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    rows = [each for each in logs.simulated(120).rows if each["strategy"] == "single"]
    answer("train", "--log", logs.write(tmp_path / "known.parquet", rows))
    return tmp_path / "policy"


def new_log(directory: Path, queries: int = 60) -> Path:
    rows = logs.simulated(queries, seed=9).rows
    return logs.write(directory / "new.jsonl", rows)


def test_a_bundle_takes_in_an_arm_and_decides_with_it(tmp_path: Path, policy: Path) -> None:
    found = answer("train", "--log", new_log(tmp_path), "--adapt", policy, "--out", "adapted")
    (told,) = found["adapted"]
    assert (told["arm"], told["scored_rows"], found["arms"]) == (NEW, 60, 3)
    adapted = Policy.load(tmp_path / "adapted")
    assert [arm.key for arm in adapted.arms] == [*(a.key for a in Policy.load(policy).arms), NEW]
    assert 0 < adapted.decide("What is 3 times 3?").predictions.accuracy[2] < 1


def test_adapting_twice_gives_the_same_bytes(tmp_path: Path, policy: Path) -> None:
    log = new_log(tmp_path)
    for out in ("one", "two"):
        answer("train", "--log", log, "--adapt", policy, "--out", out)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_people_are_told_what_each_arm_was_learnt_from(tmp_path: Path, policy: Path) -> None:
    result = run("train", "--log", new_log(tmp_path), "--adapt", policy)
    assert result.exit_code == 0, result.output
    assert "policy: adapted, 1 new of 3 arms" in result.output
    assert f"{NEW}: 60 scored rows" in result.output
    few = run("train", "--log", new_log(tmp_path, 3), "--adapt", policy, "--out", "few")
    assert "3 scored rows are fewer than 5, so its prior stands in" in few.output


def test_what_cannot_be_adapted_is_refused_with_the_reason(tmp_path: Path, policy: Path) -> None:
    log = new_log(tmp_path)
    with pytest.raises(InvalidInput, match="has all 2 arms"):
        answer("train", "--log", tmp_path / "known.parquet", "--adapt", policy)
    with pytest.raises(InvalidInput, match="name another directory"):
        answer("train", "--log", log, "--adapt", policy, "--out", "policy")
    with pytest.raises(InvalidInput, match="no directory"):
        answer("train", "--log", log, "--adapt", "nowhere")
    assert run("train", "--adapt", policy).exit_code == 2
    arrays = policy / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleRefused, match="not the file that was signed"):
        answer("train", "--log", log, "--adapt", policy)
    assert not (tmp_path / "adapted").exists()
