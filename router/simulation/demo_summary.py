"""What may be said of a demo's result: the three ways side by side, won or lost, and the notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from router.simulation.demo_figures import (
    Answered,
    Comparison,
    Interval,
    Result,
    Way,
    compare,
    measure,
)
from router.simulation.demo_place import Place

LEADLINE = "Leadline"
BEST_CONSTANT = "best constant arm"
ALWAYS_LARGEST = "always-largest"
SIMULATED = (
    "the provider: its five models, their answers, prices, latencies and confidence (after "
    "published figures). Questions, scoring, server, Postgres, training and reload are real."
)
NEXT = "'First real use' in README.md: your own models, queries and outcomes instead of these."


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The three ways, Leadline last, and what they say.

    `cost_shares` are of the best constant arm's cost; `at_equal_cost` compares Leadline with
    constant arms mixed so that they cost what it did. `picked` holds the arms that
    Leadline tried first, with how often, the most frequent first.
    """

    ways: tuple[Way, ...]
    cost_shares: tuple[float, ...]
    comparison: Comparison
    at_equal_cost: Comparison
    picked: tuple[tuple[str, int], ...]
    verdict: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, result: Result) -> Summary:
        """Reads a result."""
        ways = (
            measure(BEST_CONSTANT, result.constants.best_arm.key, result.constants.best),
            measure(ALWAYS_LARGEST, _largest_detail(result), result.constants.largest),
            measure(LEADLINE, _leadline_detail(result.routed), result.routed),
        )
        comparison = compare(result.routed, result.constants.best)
        at_equal_cost = compare(result.routed, result.constants.mixed)
        picked = Counter(each.arms[0].key for each in result.routed)
        return cls(
            ways=ways,
            cost_shares=tuple(way.usd_per_1000 / ways[0].usd_per_1000 for way in ways),
            comparison=comparison,
            at_equal_cost=at_equal_cost,
            picked=tuple(picked.most_common()),
            verdict=verdict(comparison),
            notes=_notes(result, comparison, at_equal_cost),
        )

    def pointers(self, place: Place) -> tuple[tuple[str, str], ...]:
        """What is simulated, where the files are, and what to do next."""
        return (
            ("simulated", SIMULATED),
            ("report", str(place.report)),
            ("logs", str(place.logs)),
            ("next", NEXT),
        )

    def to_mapping(self, result: Result, place: Place) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "ways": [_plain(way, share) for way, share in self._shared()],
            **_gain("accuracy_gain", self.comparison),
            **_gain("accuracy_gain_at_equal_cost", self.at_equal_cost),
            "cost_share": self.comparison.cost_share,
            "latency_share": self.comparison.latency_share,
            "verdict": self.verdict,
            "continued": continued(result.routed),
            "picked": dict(self.picked),
            "policy_version": result.policy["version"],
            "held_out": result.policy["held_out"],
            "promoted_after_s": result.followed_s,
            "questions": result.plan.explore,
            "then": result.plan.then,
            "seed": result.plan.seed,
            "took_s": result.took_s,
            "simulated": SIMULATED,
            "report": str(place.report),
            "logs": str(place.logs),
        }

    def _shared(self) -> Sequence[tuple[Way, float]]:
        return tuple(zip(self.ways, self.cost_shares, strict=True))


def verdict(comparison: Comparison) -> str:
    """One sentence that reads Leadline against the best constant arm, won or lost."""
    how = _how(comparison.interval)
    points, cost = _points(comparison), _cost(comparison.cost_share)
    return f"Leadline was {how} the best constant arm ({points}), {cost}."


def _how(interval: Interval) -> str:
    if interval.low > 0:
        return "more accurate than"
    if interval.high < 0:
        return "less accurate than"
    return "within the noise as accurate as"


def _points(comparison: Comparison) -> str:
    low, high = 100 * comparison.interval.low, 100 * comparison.interval.high
    return f"{100 * comparison.accuracy_gain:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"


def continued(answered: Sequence[Answered]) -> int:
    """How many questions were tried with more than one arm."""
    return sum(len(each.arms) > 1 for each in answered)


def _cost(share: float) -> str:
    if share < 0.995:
        return f"at {100 * share:.0f} % of its cost"
    if share <= 1.005:
        return "at the same cost, so that it saved nothing"
    return f"at {share:.2f} times its cost, so that on cost it lost"


def _notes(result: Result, comparison: Comparison, at_equal_cost: Comparison) -> tuple[str, ...]:
    share = comparison.latency_share
    than = "below" if share < 1 else "above"
    away = f"{abs(100 * (1 - share)):.0f} % {than}"
    notes = [
        _mixture(result, at_equal_cost),
        f"Leadline's p95 latency was {away} the best constant arm's.",
    ]
    if result.constants.largest_arm == result.constants.best_arm:
        notes.append("Always-largest is that same arm here.")
    scored = result.policy["scored_rows"]
    if scored != len(result.explored):
        notes.append(f"Training saw {scored:,} of {len(result.explored):,} outcomes.")
    return tuple(notes)


def _mixture(result: Result, at_equal_cost: Comparison) -> str:
    names = " and ".join(dict.fromkeys(arm.key for arm in result.constants.mixed_arms))
    what = measure("", "", result.constants.mixed)
    return (
        f"Constant arms mixed to cost ${what.usd_per_1000:.2f} ({names}) reached "
        f"{what.accuracy:.3f}; Leadline was {_how(at_equal_cost.interval)} they "
        f"({_points(at_equal_cost)})."
    )


def _largest_detail(result: Result) -> str:
    same = result.constants.largest_arm == result.constants.best_arm
    return "the same arm" if same else result.constants.largest_arm.key


def _leadline_detail(routed: Sequence[Answered]) -> str:
    firsts = len({each.arms[0].key for each in routed})
    return f"{firsts} arms; a second try on {continued(routed):,} questions"


def _gain(name: str, comparison: Comparison) -> Mapping[str, float]:
    interval = comparison.interval
    return {
        name: comparison.accuracy_gain,
        f"{name}_low": interval.low,
        f"{name}_high": interval.high,
    }


def _plain(way: Way, cost_share: float) -> Mapping[str, Any]:
    return {
        "name": way.name,
        "detail": way.detail,
        "questions": way.questions,
        "accuracy": way.accuracy,
        "accuracy_low": way.interval.low,
        "accuracy_high": way.interval.high,
        "usd_per_1000": way.usd_per_1000,
        "cost_share": cost_share,
        "p95_latency_s": way.p95_latency_s,
    }
