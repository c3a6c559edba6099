"""What the training commands say: of a log's rows and of a policy's held-out figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from router.commands.output import say

if TYPE_CHECKING:
    from training.log.sources import Log

_RATES = ("sensitivity", "specificity")
ENERGY = (("energy_wh", "Wh"), ("gco2e", "gCO2e"))


def left_out(log: Log) -> dict[str, Any]:
    """How many rows a log had, and which were left out and why."""
    return {
        "total_rows": log.total,
        "refused_rows": len(log.refused),
        "refused": [{"row": number, "why": why} for number, why in log.refused[:20]],
        "duplicate_rows": log.duplicates,
    }


def tell(found: dict[str, Any]) -> None:
    """Prints a training run's result for people."""
    where = f"candidate {found['version']}" if "version" in found else found["out"]
    learnt = f"{found['scored_rows']:,} scored rows, {found['queries']:,} queries"
    say(f"policy: {where}, learnt from {learnt}, {found['arms']} arms")
    for name, label in (("refused_rows", "bad rows"), ("duplicate_rows", "repeated rows")):
        if found[name]:
            say(f"left out: {found[name]:,} {label}")
    if found["refused"]:
        say("  " + "; ".join(f"row {each['row']}: {each['why']}" for each in found["refused"][:5]))
    if found["arms_with_prior_cost"]:
        arms = ", ".join(found["arms_with_prior_cost"])
        say(f"no cost in the log, so its published prior stands in: {arms}")
    for line in (*outcomes(found.get("outcomes")), *_held_out(found["held_out"])):
        say(line)
    if found.get("report"):
        say(f"report: {found['report']}")
    say(f"next: {found['next']}")


def outcomes(found: dict[str, Any] | None) -> Iterator[str]:
    """What was made of the reports in the database (`scores.interactions`); nothing of a file."""
    if found is None:
        return
    counted = (("scored", "scored"), ("too_young", "too young"), ("failed", "failed"))
    told = ", ".join(f"{found[name]:,} {label}" for name, label in counted)
    yield f"{found['attempts']:,} attempts: {told}"
    for each in found["sources"]:
        if each["learnt"] and not each["exact"]:
            rates = ", ".join(f"{name} {_rate(each[name])}" for name in _RATES)
            yield f"{each['source']}: {rates}, from {each['shared']:,} answers that others scored"
    if found["response_auc"] is not None:
        yield (
            f"{found['scored_share']:.1%} of answers were scored; by what they stand for they "
            f"are worth {found['effective_scored']:,.0f} scored at random"
        )
    yield from (f"caution: {caution}" for caution in found["cautions"])


def _rate(rate: dict[str, float]) -> str:
    return f"{rate['estimate']:.2f} ({rate['low']:.2f} to {rate['high']:.2f})"


def tell_adapted(found: dict[str, Any]) -> None:
    """Prints what was taken into a policy, for people."""
    new = found["adapted"]
    say(f"policy: {found['out']}, {len(new)} new of {found['arms']} arms")
    for name, label in (("refused_rows", "bad rows"), ("duplicate_rows", "repeated rows")):
        if found[name]:
            say(f"left out: {found[name]:,} {label}")
    for each in new:
        say(f"{each['arm']}: {_adapted(each)}")
    say(f"next: {found['next']}")


def _adapted(told: dict[str, Any]) -> str:
    rows = f"{told['scored_rows']:,} scored rows"
    if told["from"] == "prior":
        return f"{rows} are fewer than {told['least_scored_rows']}, so its prior stands in"
    before, after = told["before"], told["after"]
    return (
        f"{rows}, mean score {told['mean_score']:.3f}; out of fold, predicted accuracy "
        f"{after['accuracy']:.3f} ({before['accuracy']:.3f} before any outcome), Brier "
        f"{after['brier']:.3f} ({before['brier']:.3f}), AUC {_or_dash(after['auc'])}"
    )


def _held_out(figures: dict[str, Any]) -> Iterator[str]:
    prediction, routing = figures["prediction"], figures["routing"]
    if not prediction["rows"]:
        yield "no query could be held out, so nothing is known of how well it does"
        return
    yield (
        f"on {figures['queries']:,} held-out queries: calibration error {prediction['ece']:.3f} "
        f"({prediction['ece_uncalibrated']:.3f} before), Brier {prediction['brier']:.3f}, "
        f"AUC {_or_dash(prediction['auc'])}"
    )
    yield f"routing figures from: {routing['how']}"
    if "accuracy" in routing:
        yield f"Leadline: accuracy {_reached(routing)}"
    if "best_constant" in routing:
        best = _reached(routing, "best_constant_")
        yield f"best constant arm: accuracy {best} ({routing['best_constant']})"
        yield f"gap to the oracle closed: {_or_dash(routing['gap_closed'])}"


def _reached(routing: dict[str, Any], of: str = "") -> str:
    cost_usd = routing[f"{of}cost_usd"]
    cost = "unknown cost" if cost_usd is None else f"${1_000 * cost_usd:.4g} per 1,000 queries"
    return f"{routing[f'{of}accuracy']:.3f} at {cost}{_used(routing, of)}"


def _used(routing: dict[str, Any], of: str) -> str:
    """Energy and emissions of a decision, where they are known."""
    figures = ((routing.get(f"{of}{name}"), unit) for name, unit in ENERGY)
    said = [f"{value:.3g} {unit}" for value, unit in figures if value is not None]
    return f", {' and '.join(said)} per decision" if said else ""


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
