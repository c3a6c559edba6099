"""Databases that have grown: many decisions with their outcomes, by COPY into the real tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import psycopg

from router.ids import derived_uuid7
from router.policy.arms import compute
from router.serving.rows import query_id
from router.simulation.fleet import FLEET, catalog
from router.slo import Slo
from router.types import Floats, Mask
from tests.kit.bundles import KEY
from tests.kit.server import Admin
from training.log.dataset import Indices

TENANTS = ("acme", "globex", "initech")
EXPLORATION_RATE, VALUE_USD = 0.15, 2e-2
REPEATED, COMMON_TEXTS = 0.3, 500
SCORED, FED_BACK = 0.5, 0.05
_CHUNK = 20_000

_TOPICS = (
    "sum product fraction number equation digits decimal remainder prime angle area ratio",
    "python function loop compile variable array thread database query index cache schema",
    "contract clause court liability statute appeal tenant licence patent evidence verdict claim",
    "fever dose tablet symptom infection blood patient nurse vaccine allergy pulse surgery",
    "invoice refund order delivery parcel warranty account password subscription receipt address",
    "river mountain empire treaty king battle century harbour island trade revolution map",
    "poem rhyme story chapter hero metaphor letter speech headline tone paragraph verse",
    "atom energy gravity enzyme cell orbit magnet current reaction molecule pressure wave",
)
_PLAIN = (
    "please tell me what how why the a of and with for about from this that my our is are can "
    "should explain compare write list find give show between before after under many few some"
)
_HARD = "prove derive optimise reconcile generalise refute diagnose synthesise"
CATALOG = catalog()
_ARMS = CATALOG.arms

_DECISIONS = (
    "tenant_id, occurred_at, decision_id, query_id, query, subject, labels, slo_name, slo_version, "
    "policy_version, policy_source, arm, model, strategy, params, input_tokens, propensity, "
    "explored, difficulty, slo_status, should_continue, feasible, predictions, explanation, "
    "novelty, arrival"
)
_OUTCOMES = (
    "tenant_id, decided_at, outcome_id, decision_id, occurred_at, attempt, score, source, "
    "cost_usd, input_tokens, output_tokens, latency_s, confidence, arrival"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How much there is: decisions spread evenly over the days before `until`.

    Three in ten have one of the common texts, half have an exact score and a twentieth
    feedback; all have what they cost and took. Each of the `copies`, which Postgres makes,
    is of the days before, with texts and people of its own.
    """

    decisions: int
    until: datetime
    days: float = 60.0
    seed: int = 0
    copies: int = 1
    explained: bool = True


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def grow(dsn: str, growth: Growth) -> None:
    """Fills a migrated database; the same growth gives the same rows."""
    with Admin(dsn) as admin:
        admin.seed(CATALOG, *TENANTS, signer=KEY)
        named = {each.name: each.tenant_id for each in admin.tenants.tenants()}
        slo = Slo.from_mapping({"name": "chat", "accuracy_value_usd": VALUE_USD})
        for name in TENANTS:
            admin.slos.put(named[name], slo, base_version=None, actor="test")
    world = _World(growth.seed)
    with psycopg.connect(dsn, options="-c synchronous_commit=off") as connection:
        for start in range(0, growth.decisions, _CHUNK):
            places = np.arange(start, min(start + _CHUNK, growth.decisions))
            made = world.chunk(places, growth, [named[name] for name in TENANTS])
            with connection.transaction():
                _copy(connection, made)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for copy in range(1, growth.copies):
            for statement in _COPIES:
                past = timedelta(days=growth.days) * copy
                told = {"copy": str(copy), "past": past, "first": timedelta(days=growth.days)}
                connection.execute(statement.encode(), told)
        connection.execute("analyze decisions, outcomes")


def _copy(connection: psycopg.Connection[Any], made: Iterator[tuple[Any, Any]]) -> None:
    found = connection.execute("select pg_current_xact_id()::text::bigint").fetchone()
    assert found is not None
    decisions, outcomes = zip(*made, strict=True)
    for name, columns, rows in (
        ("decisions", _DECISIONS, decisions),
        ("outcomes", _OUTCOMES, [row for each in outcomes for row in each]),
    ):
        with (
            connection.cursor() as cursor,
            cursor.copy(f"copy {name} ({columns}) from stdin".encode()) as copy,
        ):
            for row in rows:
                copy.write_row((*row, found[0]))


class _World:
    """Texts whose topic and hardness show, and how right, dear and slow each arm is on them."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        models = [each.model.name for each in FLEET]
        of = np.array([models.index(arm.model) for arm in _ARMS])
        spent = np.log2([compute(arm) for arm in _ARMS])
        ability = np.array([each.ability for each in FLEET])
        price = np.array([each.model.output_usd_per_mtok for each in FLEET])
        self._words = [each.split() for each in _TOPICS]
        self._likes = rng.normal(0.0, 0.7, (len(_TOPICS), len(FLEET)))[:, of]
        self._strength = 1.2 * ability[of] + 0.15 * spent
        self._cost_usd = price[of] / 1e6 * 40.0 * (1.0 + spent)
        self._latency_s = np.array([each.speed for each in FLEET])[of] * (0.3 + 0.2 * spent)

    def chunk(self, places: Indices, growth: Growth, tenants: list[UUID]) -> Iterator[Any]:
        """Rows of decisions, each with those of its outcomes."""
        rng = np.random.default_rng([growth.seed, 2, int(places[0])])
        repeated = rng.random(len(places)) < REPEATED
        common = (COMMON_TEXTS * rng.random(len(places)) ** 3).astype(np.intp)
        number = np.where(repeated, common, COMMON_TEXTS + places)
        asked = [self.text(growth.seed, int(each)) for each in number]
        topic, hard = np.array([each[1:] for each in asked]).T
        drawn = self._drawn(rng, topic.astype(np.intp), hard)
        step = timedelta(days=growth.days) / growth.decisions
        for row, place in enumerate(places.tolist()):
            at = growth.until - step * (growth.decisions - place)
            tenant = tenants[int(place * 7 % 10) // 4]
            yield drawn.rows(row, tenant, at, asked[row][0], place, explained=growth.explained)

    def text(self, seed: int, number: int) -> tuple[str, int, float]:
        """A query, its topic and its hardness from 0 to 1."""
        rng = np.random.default_rng([seed, 3, number])
        topic, hard = int(rng.integers(len(_TOPICS))), float(rng.random())
        length = int(6 + 30 * rng.random() ** 2)
        said = [
            words[int(len(words) * where)]
            for words, where in zip(
                (
                    self._words[topic]
                    if own < 0.4
                    else _HARD_WORDS
                    if own < 0.4 + 0.3 * hard
                    else _PLAIN_WORDS
                    for own in rng.random(length)
                ),
                rng.random(length),
                strict=True,
            )
        ]
        return f"{' '.join(said)} {number}?", topic, hard

    def _drawn(self, rng: np.random.Generator, topic: Indices, hard: Floats) -> _Drawn:
        odds = self._strength + self._likes[topic] - 5.0 * (hard[:, None] - 0.45)
        shape, rows = odds.shape, np.arange(len(odds))
        guess = 1.0 / (1.0 + np.exp(-odds + rng.normal(0.0, 0.5, shape)))
        cost_usd = self._cost_usd * (0.5 + hard[:, None])
        best = (VALUE_USD * guess - cost_usd).argmax(axis=1)
        explored = rng.random(len(rows)) < EXPLORATION_RATE
        arm = np.where(explored, rng.integers(shape[1], size=len(rows)), best)
        chance = (1.0 - EXPLORATION_RATE) * (arm == best) + EXPLORATION_RATE / shape[1]
        right = rng.random(len(rows)) < 1.0 / (1.0 + np.exp(-odds[rows, arm]))
        noise = np.exp(rng.normal(0.0, 0.3, (2, len(rows))))
        return _Drawn(
            arm=arm,
            propensity=chance,
            explored=explored,
            guess=guess.round(4),
            hard=hard,
            foretold_usd=cost_usd.round(8),
            foretold_s=np.broadcast_to(self._latency_s, shape).round(3),
            score=right.astype(np.float64),
            confidence=np.clip(0.5 + 0.2 * (2 * right - 1) + 0.2 * noise[0] - 0.2, 0.0, 1.0),
            cost_usd=cost_usd[rows, arm] * noise[0],
            latency_s=self._latency_s[arm] * noise[1],
            heard=rng.random((2, len(rows))) < np.array([[SCORED], [FED_BACK]]),
        )


_PLAIN_WORDS, _HARD_WORDS = _PLAIN.split(), _HARD.split()


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """What was decided for n queries and what came of it; tables are (n, a), `heard` (2, n)."""

    arm: Indices
    propensity: Floats
    explored: Mask
    guess: Floats
    hard: Floats
    foretold_usd: Floats
    foretold_s: Floats
    score: Floats
    confidence: Floats
    cost_usd: Floats
    latency_s: Floats
    heard: Mask

    def rows(
        self, row: int, tenant: UUID, at: datetime, text: str, place: int, *, explained: bool
    ) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
        """One decision's columns, and those of its outcomes."""
        arm, decision_id = _ARMS[self.arm[row]], derived_uuid7(at, "growth", str(place))
        tokens = 2 + 2 * len(text.split())
        decision = (
            *(
                tenant,
                at,
                decision_id,
                query_id(text),
                text,
                f"user {place // 400}.{place * 7 % 20}",
            ),
            *(_LABELS[place % 2], "chat", 1, 1, "bundle", arm.key, arm.model, arm.strategy),
            *(_json(dict(arm.params)), tokens, float(self.propensity[row])),
            *(bool(self.explored[row]), float(self.hard[row]), "met", False, _FEASIBLE),
            *(self._predictions(row), _EXPLANATION if explained else None, 0.1),
        )
        told = [self._outcome(row, tenant, at, decision_id, tokens)]
        if self.heard[1, row]:
            later, source = at + timedelta(minutes=30), float(self.score[row])
            kept = (tenant, at, derived_uuid7(later, "fed", str(decision_id)), decision_id, later)
            told.append((*kept, 0, source, "feedback", None, None, None, None, None))
        return decision, told

    def _outcome(
        self, row: int, tenant: UUID, at: datetime, decision_id: UUID, tokens: int
    ) -> tuple[Any, ...]:
        scored = bool(self.heard[0, row])
        later = at + timedelta(seconds=float(self.latency_s[row]))
        return (
            *(tenant, at, derived_uuid7(later, "told", str(decision_id)), decision_id, later, 0),
            *(float(self.score[row]) if scored else None, "exact" if scored else None),
            *(float(self.cost_usd[row]), tokens, 40 + int(400 * self.hard[row])),
            *(float(self.latency_s[row]), float(self.confidence[row])),
        )

    def _predictions(self, row: int) -> str:
        guess, foretold = self.guess[row], self.foretold_usd[row]
        return _json(
            {
                "arms": _KEYS,
                "alternatives": [0, 1, 2],
                "accuracy": guess.tolist(),
                "accuracy_low": (0.9 * guess).round(4).tolist(),
                "accuracy_high": (0.9 * guess + 0.1).round(4).tolist(),
                "cost_usd": foretold.tolist(),
                "latency_p50_s": self.foretold_s[row].tolist(),
                "latency_p95_s": (2.0 * self.foretold_s[row]).round(3).tolist(),
                "energy_wh": (1e3 * foretold).round(6).tolist(),
                "gco2e": 0.01,
            }
        )


_KEYS = [arm.key for arm in _ARMS]
_FEASIBLE = _json(list(range(len(_ARMS))))
_LABELS = (_json({"language": "en"}), _json({"language": "en", "app": "chat"}))
_EXPLANATION = _json({"reasons": [{"name": f"feature {n}", "by": 0.1} for n in range(12)]})


def _copied(table: str, columns: str, **changed: str) -> str:
    """The SQL that copies what is there of a table's first rows, some columns changed."""
    named = [name.strip() for name in columns.split(",")]
    values = ", ".join(changed.get(name, name) for name in named)
    return (
        f"insert into {table} ({columns}) select {values} from {table} where {named[1]} > {_FIRST}"
    )


_FIRST = "(select max(occurred_at) - %(first)s from decisions)"
_COPIES = (
    _copied(
        "decisions",
        _DECISIONS,
        occurred_at="occurred_at - %(past)s",
        decision_id="md5(decision_id::text || %(copy)s)::uuid",
        query_id="md5(query_id || %(copy)s)",
        query="query || ' ' || %(copy)s",
        subject="subject || ' ' || %(copy)s",
    ),
    _copied(
        "outcomes",
        _OUTCOMES,
        decided_at="decided_at - %(past)s",
        occurred_at="occurred_at - %(past)s",
        outcome_id="md5(outcome_id::text || %(copy)s)::uuid",
        decision_id="md5(decision_id::text || %(copy)s)::uuid",
    ),
)


def ended(when: datetime | None = None) -> datetime:
    """A time from which rows are old enough that their scores are due."""
    return (when or datetime.now(UTC)) - timedelta(days=2)
