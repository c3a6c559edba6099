"""Results of stages: whole or not there, taken for their own inputs alone, and removed at once."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from training.run.stages import KEPT_RUNS, Make, Workshop

RUN = UUID(int=1)


def noting(text: str) -> Make:
    def make(out: Path) -> None:
        (out / "note").write_text(text)

    return make


def failing(out: Path) -> None:
    (out / "note").write_text("half")
    raise RuntimeError("in the middle")


def test_a_result_is_made_once_for_the_same_inputs(tmp_path: Path) -> None:
    for text in ("first", "second"):
        shop = Workshop(tmp_path, RUN, [7])
        assert (shop.result("dataset", noting(text)) / "note").read_text() == "first"
        assert shop.reused == ([] if text == "first" else ["dataset"])


def test_other_inputs_or_stages_before_it_give_another_result(tmp_path: Path) -> None:
    def named(inputs: list[int], before: str, *own: int) -> str:
        shop = Workshop(tmp_path, RUN, inputs)
        shop.result(before, noting("x"))
        return shop.result("policy", noting("x"), *own).name

    names = [
        named([7], "sides"),
        named([8], "sides"),
        named([7], "targets"),
        named([7], "sides", 3),
    ]
    assert len(set(names)) == 4
    assert named([7], "sides") == names[0]


def test_what_breaks_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, RUN, [])
    with pytest.raises(RuntimeError, match="in the middle"):
        shop.result("dataset", failing)
    assert list(shop.directory.iterdir()) == []
    again = Workshop(tmp_path, RUN, []).result("dataset", noting("whole"))
    assert (again / "note").read_text() == "whole"


def test_only_the_owner_may_read_what_holds_queries(tmp_path: Path) -> None:
    found = Workshop(tmp_path / "training", RUN, []).result("dataset", noting("text"))
    assert found.stat().st_mode & 0o077 == 0


def test_results_are_removed_all_at_once_and_those_of_old_runs_but_a_few(tmp_path: Path) -> None:
    for age in range(KEPT_RUNS + 3):
        shop = Workshop(tmp_path, uuid4(), [])
        shop.result("dataset", noting("text"))
        os.utime(shop.directory, (1_000 - age, 1_000 - age))
    (tmp_path / ".removed-in-part").mkdir()
    shop = Workshop(tmp_path, RUN, [])
    shop.result("dataset", noting("text"))
    shop.prune()
    assert len(list(tmp_path.iterdir())) == KEPT_RUNS + 1
    shop.remove()
    shop.remove()
    assert not shop.directory.exists()
