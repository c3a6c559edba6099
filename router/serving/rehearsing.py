"""Rehearses an slo: decides the tenant's logged decisions again, as if it had been in force."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import nan
from typing import Any
from uuid import UUID

import numpy as np

from router.clients.values import DryRun
from router.errors import Infeasible, InvalidInput
from router.pipeline import chances, decide
from router.policy.features import Context
from router.policy.novelty import is_novel
from router.policy.policy import Policy, Predicted
from router.policy.rehearsal import (
    FIGURES,
    Rehearsed,
    expected,
    summarise,
)
from router.policy.table import ArmTable
from router.policy.unknown import unknown_names
from router.requested import again
from router.serving.foretelling import Certify
from router.serving.rows import FIGURES as COLUMNS
from router.serving.state import Current
from router.serving.threads import Threads
from router.slo import Slo
from router.store.rehearsing import MOST_DECISIONS, PostgresPast
from router.types import (
    Bounds,
    Catalog,
    Choice,
    Decision,
    Floats,
    Predictions,
    Query,
    SloStatus,
    Strategy,
)

WINDOW = timedelta(days=7)
LONGEST_WINDOW = timedelta(days=366)
MOST_IN_A_WORKER, PAUSE_S = 5_000, 5e-4
"""How many decisions a worker looks at, and how long it lets requests go first after each."""


@dataclass(slots=True)
class _Looked:
    """What was looked at: all that is kept of it."""

    rehearsed: list[Rehearsed] = field(default_factory=list)
    times: list[datetime] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)


class Rehearsing:
    """Says what an slo would have done; blocks for some seconds.

    Figures are those of a decision's first arm. Budgets and the health of backends are as
    if nothing were out of the ordinary, and no certificate moves the trade-off. At most
    `most` decisions are looked at, with a pause of `pause_s` after each.
    """

    def __init__(
        self,
        past: PostgresPast,
        certify: Certify,
        *,
        most: int = MOST_DECISIONS,
        pause_s: float = 0.0,
    ) -> None:
        self._past, self._most, self._pause_s = past, most, pause_s
        self._certify = certify

    def dry_run(
        self,
        tenant_id: UUID,
        slo: Slo,
        *,
        policy: Policy,
        catalog: Catalog,
        until: datetime,
        window: timedelta = WINDOW,
    ) -> DryRun:
        """What the slo would have done in the window before `until` under the policy.

        Raises InvalidInput for a window that is none, and Unavailable.
        """
        if not timedelta(0) < window <= LONGEST_WINDOW:
            raise InvalidInput(f"{window} is not between 0 and 366 days", field="window")
        sample = self._past.sample(tenant_id, slo.name, until - window, until, self._most)
        looked = self._look(self._past.read(sample), Again(policy, catalog, slo))
        certifiable, note = self._certify(tenant_id, slo) or (None, "")
        return DryRun(
            rehearsal=summarise(looked.rehearsed),
            warnings=unknown_names(slo, catalog),
            decisions_of=sample.slo_name,
            decisions_found=sample.found,
            oldest=min(looked.times, default=None),
            newest=max(looked.times, default=None),
            policy_version=policy.version,
            of_other_policies=sum(version != policy.version for version in looked.versions),
            certifiable=certifiable,
            certificate_note=note,
        )

    def _look(self, rows: Iterable[Mapping[str, Any]], again_by: Again) -> _Looked:
        looked = _Looked()
        for row in rows:
            if (found := again_by.rehearse(row)) is not None:
                looked.rehearsed.append(found)
                looked.times.append(row["occurred_at"])
                looked.versions.append(row["policy_version"])
            if self._pause_s:
                time.sleep(self._pause_s)
        return looked


class Rehearsals:
    """Rehearses under the worker's policy, off the event loop, one at a time."""

    def __init__(
        self,
        rehearsing: Rehearsing,
        current: Current,
        threads: Threads,
        clock: Callable[[], datetime],
    ) -> None:
        self._rehearsing, self._current = rehearsing, current
        self._threads, self._clock = threads, clock

    async def run(self, tenant_id: UUID, slo: Slo, window: timedelta) -> DryRun:
        """As `Rehearsing.dry_run`, until now."""
        state = self._current.state
        return await self._threads.run(
            self._rehearsing.dry_run,
            tenant_id,
            slo,
            policy=state.policy,
            catalog=state.catalog,
            until=self._clock(),
            window=window,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arms:
    """A policy over arms of a log whose keys those were; `places` says where they stand in it."""

    policy: Policy
    keys: tuple[str, ...]
    places: list[int]


class Again:
    """Decides logged decisions again under one slo, from their logged predictions.

    The arms to choose from are those of the log that the catalog still has.
    """

    def __init__(self, policy: Policy, catalog: Catalog, slo: Slo) -> None:
        self._policy, self._catalog, self._slo = policy, catalog, slo
        self._greedy = replace(slo, exploration_rate=0.0)
        self._bound: dict[tuple[str, ...], _Arms] = {}

    def rehearse(self, row: Mapping[str, Any]) -> Rehearsed | None:
        """What would have been decided for a row; None where all of its arms have left."""
        keys = tuple(row["predictions"]["arms"])
        arms = self._bound.get(keys) or self._bind(keys)
        if not arms.places:
            return None
        logged = _predictions(row["predictions"], len(keys))
        query, bounds = again({**row, "query": ""})
        decision = self._decide(row, arms, logged, query, bounds)
        return self._compare(row, arms, logged, decision, bounds)

    def _decide(
        self, row: Mapping[str, Any], arms: _Arms, logged: Predictions, query: Query, bounds: Bounds
    ) -> Decision | None:
        """The greedy decision; None where it would be refused."""
        context = Context(
            values=np.empty(0), words=np.empty(0, np.intp), input_tokens=query.input_tokens
        )
        left = Predictions(**{name: getattr(logged, name)[arms.places] for name in COLUMNS})
        predicted = Predicted(context=context, predictions=left, novelty=row["novelty"])
        try:
            return decide(
                arms.policy,
                query,
                self._greedy,
                bounds,
                decision_id=row["decision_id"],
                now=row["occurred_at"],
                predicted=predicted,
            )
        except Infeasible:
            return None

    def _compare(
        self,
        row: Mapping[str, Any],
        arms: _Arms,
        logged: Predictions,
        decision: Decision | None,
        bounds: Bounds,
    ) -> Rehearsed:
        place = arms.keys.index(row["arm"])
        taken, greedy, choice = np.zeros(len(arms.keys)), -1, None
        if decision is not None:
            choice = decision.choice
            taken[arms.places] = chances(arms.policy, decision, self._slo, bounds)
            greedy = arms.places[choice.index]
        propensity = row["propensity"]
        return Rehearsed(
            expected=None if choice is None else expected(logged, taken),
            decided=_column(logged, place),
            feasible=choice is not None and _meets(choice, row["novelty"]),
            changed=None if row["explored"] else greedy != place,
            continuing=bool((row["request"] or {}).get("may_continue")),
            weight=float(taken[place] / propensity) if propensity else nan,
            score=_number(row["score"]),
            cost_usd=_number(row["cost_usd"]),
            latency_s=_number(row["latency_s"]),
        )

    def _bind(self, keys: tuple[str, ...]) -> _Arms:
        """The policy over those arms of a log that there still are."""
        if keys == self._policy.table.keys:
            policy, places = self._policy, list(range(len(keys)))
        else:
            arms = tuple(arm for arm in self._catalog.arms if arm.key in keys)
            policy = _over(self._policy, replace(self._catalog, arms=arms))
            places = [keys.index(arm.key) for arm in arms]
        self._bound[keys] = _Arms(policy=policy, keys=keys, places=places)
        return self._bound[keys]


def _meets(choice: Choice, novelty: float | None) -> bool:
    """Whether some arm meets the slo; of a novel query, which takes the safe arm, the bounds."""
    met = choice.slo_status is not SloStatus.BEST_EFFORT or is_novel(novelty)
    return met and bool(choice.feasible.any())


def _over(policy: Policy, catalog: Catalog) -> Policy:
    """The policy for other arms, whose predictions are known already; it plans nothing ahead."""
    single = (i for i, arm in enumerate(catalog.arms) if arm.strategy == Strategy.SINGLE)
    table = ArmTable(catalog)
    return replace(policy, table=table, single_pass=tuple(single), continuation=None)


def _predictions(logged: Mapping[str, Any], arms: int) -> Predictions:
    """The logged predictions; a figure that an older log does not have is NaN."""
    unknown = [None] * arms
    table = np.array([logged.get(name, unknown) for name in COLUMNS], np.float64)
    return Predictions(**dict(zip(COLUMNS, table, strict=True)))


def _column(predictions: Predictions, place: int) -> Floats:
    return np.array([getattr(predictions, name)[place] for name in FIGURES])


def _number(value: float | None) -> float:
    return nan if value is None else value
