"""Days of decisions, outcomes and nights of learning, while the world moves.

Everything but the models is real: Route's decisions, the outbox, Postgres, the watcher with
its certificates, monitors and canary verdicts, the nightly job and its gate. The models are
simulated, so that each day's best constant arm and its oracle are known exactly.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np

from router.simulation.workload import Question, questions
from router.slo import Slo
from router.types import Arm, Catalog
from tests.kit.days import Day
from tests.kit.living import Living, living
from tests.kit.market import NEW, Market, Truth
from training.canary.bets import Margins
from training.canary.judge import Plan, steps_of

DAYS, A_DAY, PARTS, ASKED_AFTER = 14, 900, 3, 2 / 3
"""A day's outcomes arrive in so many parts; after this share of them drift is asked for."""

NEW_MODEL, PRICE_CHANGE, SILENT_DROP = 5, 8, 10
DEARER, LESS_ABLE = 2.5, 1.5

START = datetime(2026, 3, 1, tzinfo=UTC)
STEPS, MARGIN = "50%:300:3h", 0.05
PLAN = Plan(steps=steps_of(STEPS), margins=Margins(accuracy=MARGIN, latency=MARGIN))
"""For little traffic: the steps that ship are for ten times as much."""

EVENTS = {
    NEW_MODEL: "a new model",
    PRICE_CHANGE: f"a price x {DEARER:g}",
    SILENT_DROP: "a silent drop of quality",
}
_TOGETHER = 20
_AWAKE = 0.9
_OF_A_SEED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the tenant asks: at first, and from the first learnt policy's first day on."""

    beginning: Slo
    settled: Slo

    def best(self, truth: Truth) -> tuple[tuple[Arm, float, float], tuple[float, float]]:
        """The best constant arm and the oracle, with means of accuracy and cost.

        They are worth most at the slo's value, or meet its floor for the least.
        """
        floor, value_usd = self.beginning.min_accuracy, self.beginning.accuracy_value_usd or 0.0
        if floor is not None:
            return truth.cheapest(floor), truth.cheapest_choice(floor)
        return truth.constant(value_usd), truth.oracle(value_usd)


@dataclass(slots=True, kw_only=True)
class World:
    """The market of now, what is to happen to it, and what has happened on the day."""

    market: Market
    asked: Asked
    parts: int = PARTS
    leant_on: str = ""
    told: list[str] = field(default_factory=list)

    def dawn(self, day: int, service: Living) -> None:
        """What happens before a day begins; of the drop nobody is told."""
        self.told = []
        settled = self.asked.settled
        explores = service.slo.exploration_rate > settled.exploration_rate
        if explores and service.admin.registry.active() is not None:
            service.put(settled)
            self.told.append("the slo explores less")
        if day == NEW_MODEL:
            self.market = self.market.joined()
            self.told.append(f"{NEW} is offered")
        if day == PRICE_CHANGE:
            self.market = self.market.priced(self.leant_on, DEARER)
            self.told.append(f"{self.leant_on} costs {DEARER:g} x as much")
        if day in {NEW_MODEL, PRICE_CHANGE}:
            service.offer(self.market.catalog, self.market.arms)
        if day == SILENT_DROP:
            self.market = self.market.worse(self.leant_on, LESS_ABLE)
            self.told.append(f"{self.leant_on} answers worse, and nobody says so")


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What a day's decisions brought."""

    scores: list[float] = field(default_factory=list)
    costs_usd: list[float] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    arms: Counter[str] = field(default_factory=Counter)
    policies: Counter[int] = field(default_factory=Counter)


def live(
    dsn: str,
    state: Path,
    slos: Asked,
    *,
    days: int = DAYS,
    a_day: int = A_DAY,
    seed: int = 0,
    parts: int = PARTS,
    say: Callable[[Day], None] = lambda _: None,
) -> list[Day]:
    """Lives through the days from an empty log; questions are of this seed and those after it."""
    asked, made = _questions(days * a_day, seed), list[Day]()
    world = World(market=Market.opened(), asked=slos, parts=parts)
    catalog = Catalog(models=world.market.catalog, arms=world.market.arms)
    with living(dsn, state, slos.beginning, catalog, clock=START, plan=PLAN) as service:
        for number in range(1, days + 1):
            world.dawn(number, service)
            part = asked[(number - 1) * a_day : number * a_day]
            made.append(_day(number, part, service, world))
            world.leant_on = made[-1].models[0]
            say(made[-1])
    return made


def _questions(count: int, first: int) -> list[Question]:
    """Different questions, of as many seeds as it takes: one seed runs out of easy ones."""
    found: dict[str, Question] = {}
    for seed in range(first, first + count):
        if len(found) >= count:
            break
        found |= {each.text: each for each in questions(min(count, _OF_A_SEED), seed)}
    return list(found.values())[:count]


def _day(number: int, asked: Sequence[Question], service: Living, world: World) -> Day:
    truth, seen = world.market.truth(asked), _Seen()
    for place, part in enumerate(np.array_split(np.arange(len(asked)), world.parts), start=1):
        for start in range(0, len(part), _TOGETHER):
            some = part[start : start + _TOGETHER].tolist()
            _ask(some, asked, truth, service=service, world=world, seen=seen)
            service.clock.passes(_AWAKE * timedelta(days=1) * (len(some) / len(asked)))
        service.ship()
        _watch(service, world)
        if place == round(ASKED_AFTER * world.parts):
            _early(service, world)
    world.told.append(_night(service))
    _watch(service, world)
    service.clock.now = START + timedelta(days=number)
    (arm, accuracy, cost_usd), best = world.asked.best(truth)
    certified, monitor = service.floor if service.slo.has_floor else (False, "")
    return Day(
        day=number,
        decisions=len(asked),
        accuracy=float(np.mean(seen.scores)),
        expected=float(np.mean(seen.expected)),
        cost_usd=float(np.mean(seen.costs_usd)),
        constant=arm.key,
        constant_accuracy=accuracy,
        constant_cost_usd=cost_usd,
        oracle_accuracy=best[0],
        oracle_cost_usd=best[1],
        policies=dict(seen.policies),
        arms=dict(seen.arms.most_common()),
        told=list(world.told),
        certified=certified,
        monitor=monitor,
    )


def _ask(
    some: Sequence[int],
    asked: Sequence[Question],
    truth: Truth,
    *,
    service: Living,
    world: World,
    seen: _Seen,
) -> None:
    """Decides for some questions, has them answered, and reports what came of it."""
    ids = [_id(asked[place].text) for place in some]
    replies = service.ask([asked[place].text for place in some], ids)
    for place, reply, each in zip(some, replies, ids, strict=True):
        key = reply.chosen.arm.key
        column = truth.place(key)
        right = float(truth.accuracy[place, column])
        rng = np.random.default_rng([each.int >> 64, column])
        answered = world.market.answered(asked[place], truth.arms[column], right, rng)
        service.report(reply, answered)
        seen.scores.append(answered.score)
        seen.costs_usd.append(answered.cost_usd)
        seen.expected.append(right)
        seen.arms[key] += 1
        seen.policies[reply.policy_version] += 1


def _id(text: str) -> UUID:
    return UUID(bytes=hashlib.blake2b(text.encode(), digest_size=16).digest(), version=4)


def _watch(service: Living, world: World) -> None:
    """The watcher's turns; notes what changed of policies and of the floor."""
    before = _standing(service)
    service.watch()
    after = _standing(service)
    if before != after:
        world.told.append(f"{service.clock.now:%H:%M} {before} -> {after}")


def _standing(service: Living) -> str:
    registry = service.admin.registry
    active, tried = registry.active(), registry.on_trial()
    version = active.version if active else 0
    canary = f" and {tried.version} on {tried.share:.0%}" if tried else ""
    certified, monitor = service.floor
    floor = f", floor {'' if certified else 'not '}certified, {monitor}"
    return f"policy {version}{canary}{floor if service.slo.has_floor else ''}"


def _early(service: Living, world: World) -> None:
    """What `leadline schedule` asks every hour, here once a day."""
    found = service.drift()
    if found is not None and found.retrain:
        told = "; ".join(found.reasons[:2])
        world.told.append(f"{service.clock.now:%H:%M} drift calls for learning: {told}")
        world.told.append(_night(service))


def _night(service: Living) -> str:
    started = time.monotonic()
    done = service.train()
    gate, drift = done.summary["gate"], done.summary["drift"] or {}
    failed = [f"{each['name']}: {each['why']}" for each in gate["conditions"] if not each["held"]]
    why = gate.get("why") or "; ".join(failed)
    what = "passed the gate" if gate["promote"] else f"kept back ({why})"
    moved = "; ".join(drift.get("reasons", [])[:2])
    return (
        f"{service.clock.now:%H:%M} learnt policy {done.record.version} in "
        f"{time.monotonic() - started:.0f} s: {what}; drift: {moved or 'none'}"
    )
