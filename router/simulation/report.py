"""The demo's report: one HTML file that refers to nothing outside itself."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template

from router.simulation.demo_figures import Result, Way, by_arm
from router.simulation.demo_place import Place
from router.simulation.demo_plot import plot
from router.simulation.demo_summary import LEADLINE, NEXT, SIMULATED, Summary

TEMPLATE = Path(__file__).with_name("report.html")


def write(result: Result, summary: Summary, place: Place) -> None:
    """Writes the report to its place."""
    place.report.write_text(render(result, summary, place), encoding="utf-8")


def render(result: Result, summary: Summary, place: Place) -> str:
    """The report as HTML."""
    plan, tried = result.plan, by_arm(result.explored, result.arms)
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        subtitle=f"{plan.explore:,} questions explored, then {plan.then:,} unseen ones; "
        f"seed {plan.seed}; {result.took_s:.0f} s in all",
        verdict=_prose(summary.verdict),
        notes="\n".join(f"<p>{_prose(note)}</p>" for note in summary.notes),
        simulated=escape(SIMULATED),
        then=f"{plan.then:,}",
        explore=f"{plan.explore:,}",
        arms=len(tried),
        trials=f"{plan.explore / len(tried):.0f}",
        ways="\n".join(_ways(summary)),
        plot=plot(tried, summary.ways),
        learnt=escape(_learnt(result)),
        picked="\n".join(_picked(summary)),
        table="\n".join(map(_arm, tried.values())),
        next=escape(NEXT),
        logs=escape(str(place.logs)),
    )


def _ways(summary: Summary) -> Iterable[str]:
    for way, share in zip(summary.ways, summary.cost_shares, strict=True):
        name = f"{escape(way.name)}<small>{escape(way.detail)}</small>"
        yield _row(
            (name, *_accuracy(way), f"{way.usd_per_1000:.2f}", f"{share:.2f}", _latency(way)),
            "leadline" if way.name == LEADLINE else "",
        )


def _arm(way: Way) -> str:
    cost = f"{way.usd_per_1000:.2f}"
    return _row((_code(way.name), f"{way.questions:,}", *_accuracy(way), cost, _latency(way)))


def _picked(summary: Summary) -> Iterable[str]:
    total = sum(count for _, count in summary.picked)
    for key, count in summary.picked:
        yield _row((_code(key), f"{count:,}", f"{100 * count / total:.1f}&nbsp;%"))


def _learnt(result: Result) -> str:
    policy = result.policy
    judged = policy["held_out"]["prediction"]
    text = f"Policy {policy['version']} learnt from {policy['scored_rows']:,} outcomes"
    if judged["rows"]:
        text += (
            f". On {policy['held_out']['queries']:,} queries that were held back, its predicted "
            f"accuracy was off by {judged['ece']:.3f} on average (calibration error) and had a "
            f"Brier score of {judged['brier']:.3f}"
        )
        text += "" if judged["auc"] is None else f" and an AUC of {judged['auc']:.3f}"
    return f"{text}. Route answered with it {result.followed_s:.2f} s after its promotion."


def _accuracy(way: Way) -> tuple[str, str]:
    low, high = way.interval.low, way.interval.high
    return f"{way.accuracy:.3f}", f"{low:.3f} \u2013 {high:.3f}"


def _latency(way: Way) -> str:
    return f"{way.p95_latency_s:.1f} s"


def _prose(text: str) -> str:
    return escape(text).replace(" %", "&nbsp;%")


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _row(cells: Iterable[str], kind: str = "") -> str:
    start = f'<tr class="{kind}">' if kind else "<tr>"
    return start + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
