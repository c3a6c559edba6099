"""The report of a training run: it tells the verdict, needs nothing else and leaks no markup."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.types import Arm, PolicyState
from tests.kit.pages import Page
from tests.kit.reports import ARMS, contest, run, side
from training.evaluation.slices import facet
from training.fairness.audit import audit
from training.fairness.figures import Judged
from training.gate.verdict import Condition, Verdict
from training.report.measured import Kind, Point, Told, measured, reliability
from training.report.page import Cell, Figure, Section, Table, html
from training.report.page import Page as Whole
from training.report.whole import Run, keep, report

MOST_BYTES = 2_000_000
HOSTILE = "<script>alert(1)</script>\"'&amp;\u202e$\\frac{1}{0}$\x1b]8;;"


@cache
def text_of(ahead: float) -> str:
    return report(run(ahead=ahead))


def read(found: Run) -> Page:
    return Page(report(found))


@pytest.mark.parametrize("ahead", [0.0, 1.0])
def test_a_report_is_well_formed_and_needs_nothing_else(ahead: float) -> None:
    text = text_of(ahead)
    page = Page(text)
    assert page.fetched == []
    assert page.handlers == []
    assert not page.tags & {"script", "link", "iframe", "object", "img"}
    assert not any(each in text for each in ("http:", "https:", "@import", "//www"))
    assert {each[:5] for each in text.split("url(")[1:]} <= {f"#{each}"[:5] for each in _ids(text)}
    assert len(text.encode()) < MOST_BYTES


def _ids(text: str) -> list[str]:
    return [each.partition('"')[0] for each in text.split(' id="')[1:]]


def test_the_first_line_is_the_verdict_and_why() -> None:
    measured = {"difference_points": 2.14, "low_points": 1.06}
    ahead = Condition(name="utility above the incumbent's", held=True, measured=measured, must="m")
    off = Condition(name="calibration", held=False, measured={}, must="m", why="they are off")
    bare = replace(run(ahead=1.0), measured=None, scaling=None, audit=None)
    promoted = replace(bare, state=PolicyState.CANARY, verdict=Verdict(conditions=(ahead,)))
    assert (
        "Promoted: policy 13 is a canary on 1% of the traffic because all 1 conditions hold; its "
        "utility is 2.1 points above the incumbent's (at least 1.1)"
    ) in "".join(read(promoted).texts)
    kept = replace(bare, state=PolicyState.REJECTED, verdict=Verdict(conditions=(ahead, off)))
    told = read(kept).texts
    assert "Kept policy 12 because policy 13 failed 1 of 2 conditions: calibration" in told
    assert "calibration: they are off." in told
    unjudged = replace(bare, verdict=None, unjudged="there is nothing to judge by")
    assert (
        "Kept policy 12 because policy 13 could not be judged: there is nothing to judge by"
    ) in read(unjudged).texts


def test_a_report_tells_every_part_that_was_looked_at() -> None:
    assert Page(text_of(1.0)).headings == [
        "The gate's verdict",
        "What changed",
        "Drift",
        "Frontier, costs and latency",
        "Costs and energy in training",
        "Calibration",
        "Slices",
        "What compute buys",
        "Outcomes: who scores, and how many",
        "Provenance",
    ]


def test_parts_that_nobody_looked_at_are_left_out() -> None:
    full = run(ahead=1.0)
    bare = Run(
        run_id=full.run_id,
        started_at=full.started_at,
        finished_at=full.finished_at,
        candidate=side(1, summary={"rows": 3}),
        state=PolicyState.CANDIDATE,
    )
    page = read(bare)
    assert page.headings == ["What changed", "Provenance"]
    assert "policy 1 waits as a candidate; no gate judged it" in page.texts


def test_what_changed_names_arms_prices_and_rows() -> None:
    told = " ".join(Page(text_of(1.0)).texts)
    for each in (
        "new arms: large:self_consistency?samples=3",
        "2 in, 8 out",
        "1.5 in, 6 out",
        "12,000",
        "13,000",
        "topic 3: invoice, payment: its share of queries rose from 5.0 to 14.0 %",
        "caution: few answers are scored",
        "0.900 [0.850, 0.940]",
    ):
        assert each in told


def test_names_are_text_whatever_is_in_them() -> None:
    full, rng, n = run(ahead=1.0), np.random.default_rng(0), 400
    judged = Judged(accuracy=rng.random(n), spend_usd=rng.random(n), thinking=rng.random(n))
    facets = [facet(f"label {HOSTILE}", [HOSTILE if each % 2 else "b" for each in range(n)])]
    condition = Condition(
        name=HOSTILE, held=False, measured={HOSTILE: HOSTILE}, must="", why=HOSTILE
    )
    found = replace(
        full,
        candidate=replace(full.candidate, arms=(Arm(model=HOSTILE, strategy="single"),)),
        audit=audit(judged, facets, incumbent=judged),
        measured=measured(contest(500), [replace(ARMS[0], model=HOSTILE), *ARMS[1:]]),
        verdict=Verdict(conditions=(condition,)),
        versions={HOSTILE: HOSTILE},
        scaling=None,
    )
    text = report(found)
    page = Page(text)
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in "".join(page.texts)
    assert not any(control in text for control in ("\u202e", "\x1b"))


@settings(max_examples=30)
@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_becomes_markup(name: str, value: str) -> None:
    table = Table(columns=(name,), rows=[[Cell(text=value)]])
    figure = Figure(note=name, svg="<svg></svg>")
    section = Section(title=name, note=value, lines=(value,), tables=(table,), figures=(figure,))
    plain = Whole(title="", headline=Cell(text=""), sections=(Section(title=""),))
    found = Page(html(Whole(title=name, headline=Cell(text=value), sections=(section,))))
    assert found.tags - {"table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "svg",
                         "div"} <= Page(html(plain)).tags  # fmt: skip


def test_a_report_stays_small_however_much_there_is_to_tell() -> None:
    rng, n = np.random.default_rng(0), 6_000
    judged = Judged(accuracy=rng.random(n), spend_usd=rng.random(n), thinking=rng.random(n))
    names = [
        [f"{'long ' * 100}{place % 19}" for place in rng.integers(0, 19, n)] for _ in range(12)
    ]
    facets = [facet(f"label {place}", each) for place, each in enumerate(names)]
    sure = Told(estimate=0.5, low=0.4, high=0.6)
    points = [
        Point(name="m" * 100 + str(place), kind=Kind.CONSTANT, accuracy=sure, cost_usd=sure)
        for place in range(2_000)
    ]
    full = run(ahead=1.0)
    assert full.measured is not None
    many = replace(full.measured, points=(*full.measured.points, *points))
    found = replace(
        full, audit=audit(judged, facets, incumbent=judged), measured=many, scaling=None
    )
    assert len(report(found).encode()) < MOST_BYTES


def test_without_an_incumbent_slices_gain_against_the_best_constant() -> None:
    first = replace(run(ahead=1.0), incumbent=None, scaling=None, measured=None)
    assert "gains are against the best constant" in " ".join(read(first).texts)
    assert "gains are against the incumbent" in " ".join(Page(text_of(1.0)).texts)


def test_the_same_run_gives_the_same_bytes_in_its_place(tmp_path: Path) -> None:
    found = replace(run(ahead=1.0), scaling=None, measured=None)
    path = keep(found, tmp_path)
    assert path == tmp_path / "reports" / f"run-{found.run_id}.html"
    assert path.read_text() == report(found)
    assert keep(found, tmp_path).read_text() == report(found)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_points_hold_what_the_arms_truly_bring() -> None:
    found = measured(contest(4_000), ARMS)
    costs = {each.name: each.cost_usd for each in found.points}
    for name, cost in (("small:single", 1e-5), ("large:single", 2e-4)):
        true = cost * float(np.exp(0.02))
        assert costs[name].low <= true <= costs[name].high
    assert [each.kind for each in found.points[:2]] == [Kind.CANDIDATE, Kind.INCUMBENT]
    own, before = found.reliability
    assert own.ece < before.ece


def test_right_predictions_lie_within_the_intervals_of_their_bins() -> None:
    rng = np.random.default_rng(0)
    inside, bins = 0, 0
    for _ in range(20):
        predicted = rng.random(1_000)
        score = (rng.random(1_000) < predicted).astype(float)
        score[:50] = np.nan
        found = reliability("own", predicted, score)
        assert found is not None
        assert (found.n, len(found.bins)) == (950, 10)
        inside += sum(each.low <= each.predicted <= each.high for each in found.bins)
        bins += len(found.bins)
    assert 0.9 <= inside / bins <= 0.99


def test_too_few_scores_tell_nothing_of_calibration() -> None:
    assert reliability("own", np.full(19, 0.5), np.ones(19)) is None
    assert reliability("own", np.full(40, 0.5), np.full(40, np.nan)) is None
