from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router.simulation.demo_figures import Answered, Constants, Plan, Result
from router.simulation.demo_place import Place
from router.simulation.demo_summary import Summary
from router.simulation.fleet import catalog
from router.simulation.report import render

ARMS = catalog().arms
REFERRING = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


def answered(question: int, arm: int, rng: np.random.Generator) -> Answered:
    return Answered(
        question=question,
        arms=(ARMS[arm],),
        score=float(rng.random() < 0.7),
        cost_usd=0.001 * (1 + arm),
        latency_s=float(rng.random()),
    )


def made(*, largest: int = 23, auc: float | None = 0.8) -> Result:
    rng = np.random.default_rng(0)
    unseen = range(240, 280)
    return Result(
        plan=Plan(explore=240, then=40),
        arms=ARMS,
        explored=[answered(i, i % 24, rng) for i in range(240)],
        policy={
            "version": 3,
            "scored_rows": 239,
            "held_out": {
                "queries": 48,
                "prediction": {"rows": 48, "ece": 0.05, "brier": 0.2, "auc": auc},
            },
        },
        followed_s=0.2,
        constants=Constants(
            best_arm=ARMS[20],
            best=[answered(i, 20, rng) for i in unseen],
            largest_arm=ARMS[largest],
            largest=[answered(i, largest, rng) for i in unseen],
            mixed_arms=(ARMS[2], ARMS[3]),
            mixed=[answered(i, 2, rng) for i in unseen],
        ),
        routed=[answered(i, i % 3, rng) for i in unseen],
        took_s=90.0,
    )


def html(result: Result, directory: Path = Path("demo")) -> str:
    place = Place(directory=directory)
    return render(result, Summary.of(result), place)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_report_refers_to_nothing_outside_itself() -> None:
    text = html(made())
    tags = Tags()
    tags.feed(text)
    assert not {tag for tag, _ in tags.found} & {"script", "link", "img", "iframe", "object"}
    assert not [attrs for _, attrs in tags.found if REFERRING & attrs.keys()]
    assert not re.search(r"https?:|//\w|url\(|@import", text)


def test_the_report_shows_every_arm_and_the_three_ways_as_points() -> None:
    text = html(made())
    assert text.count("<circle") == 24 + 5
    assert text.count("<polygon") == 2 * 3
    for name in ("best constant arm", "always-largest", "Leadline"):
        assert f"<td>{name}<small>" in text


def test_the_report_says_what_is_simulated_and_how_much_training_saw() -> None:
    text = html(made())
    assert "What is simulated" in text
    assert "Training saw 239 of 240 outcomes." in text


def test_a_largest_arm_that_is_the_best_constant_is_named_as_such() -> None:
    assert "Always-largest is that same arm here" in html(made(largest=20))


def test_a_path_cannot_write_html(tmp_path: Path) -> None:
    assert "<script>" not in html(made(), tmp_path / "<script>")


@pytest.mark.parametrize("auc", [None, 0.8])
def test_a_policy_whose_auc_is_unknown_has_a_report_too(auc: float | None) -> None:
    assert ("AUC" in html(made(auc=auc))) == (auc is not None)
