"""Query lines in, decision and replay lines out, in the formats that the design fixes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import orjson

from router.errors import Infeasible, InvalidInput
from router.offline import Asked, Replayed
from router.types import Arm, Decision

T = TypeVar("T")


def asked(lines: Iterable[bytes]) -> Iterator[Asked]:
    """Reads `{"query_id", "query"}` lines; raises InvalidInput that names the bad line."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _asked(line, number)


def _asked(line: bytes, number: int) -> Asked:
    try:
        value = orjson.loads(line)
        query_id, text = value["query_id"], value["query"]
    except ValueError:
        raise _bad(number, "is not JSON in UTF-8") from None
    except (KeyError, TypeError):
        raise _bad(number, "is not an object with query_id and query") from None
    if not isinstance(query_id, str) or not query_id:
        raise _bad(number, "has a query_id that is not a text")
    if not isinstance(text, str) or not text.strip():
        raise _bad(number, "has a query that is not a text, or is empty")
    return Asked(query_id=query_id, text=text)


def _bad(number: int, why: str) -> InvalidInput:
    return InvalidInput(f'line {number} {why}; each is {{"query_id": "...", "query": "..."}}')


def parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter."""
    flow = iter(items)
    while part := list(islice(flow, size)):
        yield part


def decision_line(asked: Asked, decided: Decision | Infeasible, place: int | None) -> bytes:
    """The output line of `decide`; `place` is the slo's, where there are several."""
    head: dict[str, Any] = {"query_id": asked.query_id}
    if place is not None:
        head["slo_index"] = place
    if isinstance(decided, Infeasible):
        return orjson.dumps(head | _undecided(decided)) + b"\n"
    return orjson.dumps(head | _decided(decided)) + b"\n"


def _decided(decision: Decision) -> dict[str, Any]:
    index, predictions = decision.choice.index, decision.predictions
    expected = {
        name: number(getattr(predictions, name)[index])
        for name in ("accuracy", "cost_usd", "latency_p50_s", "latency_p95_s")
    }
    return {
        "arm": plain_arm(decision.arm),
        "expected": expected,
        "difficulty": decision.difficulty,
        "continuation": decision.should_continue,
        "slo_status": decision.choice.slo_status,
        "reason": decision.choice.reason,
    }


def _undecided(error: Infeasible) -> dict[str, Any]:
    return {
        "arm": None,
        "expected": None,
        "difficulty": None,
        "continuation": False,
        "slo_status": "infeasible",
        "reason": error.message,
    }


def replay_line(replayed: Replayed, place: int | None) -> bytes:
    """The output line of `replay`; sums are null where an attempt's figure is not known."""
    attempts = [
        {
            "arm": plain_arm(arm),
            "cost_usd": number(evidence.cost_usd),
            "latency_s": number(evidence.latency_s),
        }
        for arm, evidence in replayed.attempts
    ]
    shown = [evidence for _, evidence in replayed.attempts]
    line: dict[str, Any] = {"query_id": replayed.query_id}
    if place is not None:
        line["slo_index"] = place
    line["attempts"] = attempts
    line["final"] = None if replayed.final is None else plain_arm(replayed.final)
    line["cost_usd"] = _sum([number(each.cost_usd) for each in shown])
    line["latency_s"] = _sum([number(each.latency_s) for each in shown])
    if replayed.reason:
        line["reason"] = replayed.reason
    return orjson.dumps(line) + b"\n"


def plain_arm(arm: Arm) -> dict[str, Any]:
    """The arm as the design writes it."""
    return {"model": arm.model, "strategy": arm.strategy, "params": dict(arm.params)}


def number(value: float | None) -> float | None:
    """The figure as JSON can carry it: NaN and infinity are null."""
    return float(value) if value is not None and math.isfinite(value) else None


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if len(known) == len(values) else None
