"""What a training run works with: the database, its place in the book, and where results lie."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from router.bundle.signing import SigningKey
from router.errors import BundleRefused, Conflict
from router.policy.embedding import Embedder
from router.store.catalog import PostgresCatalog
from router.store.keys import SigningKeys
from router.store.places import OneTrainer
from router.store.registry import PostgresRegistry
from router.store.slos import PostgresSlos
from router.store.tenants import PostgresTenants
from router.store.training_runs import TrainingRun, TrainingRuns
from router.types import Mask, Model, PolicyRecord
from training.canary.judge import DEFAULT
from training.canary.succession import make_way
from training.drift.search import in_short
from training.drift.since import Active, since_trained
from training.gate.gating import Case, Incumbent, verdict
from training.learning.learner import Progress
from training.learning.policy import Learning, Part
from training.learning.targets import Trained
from training.log.dataset import Dataset
from training.log.samples import Samples
from training.log.sides import Recent, Sides, sides
from training.log.sources import Log
from training.log.thinning import MOST, some_held, thinned
from training.report.looked import LOOKED
from training.run.agreement import agreement
from training.run.stage_results import Interactions, Taught
from training.run.stages import Make, Workshop
from training.scaling.logged import laws_of
from training.scores.interactions import Settled, settle

_NO_TIME = datetime(1971, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a training run is told; what passes the gate is tried on `first_share` of traffic."""

    seed: int
    share: float
    key: SigningKey
    actor: str
    progress: Progress
    canary: bool = True
    first_share: float = DEFAULT.steps[0].share


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A policy that stands in the registry as a candidate, with the log that taught it.

    `looked` is what the gate and the other stages looked at, for the report, `stages_s` how
    long each stage took.
    """

    record: PolicyRecord
    summary: Mapping[str, Any]
    log: Log
    looked: Mapping[str, Any]
    stages_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class School:
    """The log of a run, and what every policy that is learnt from it shares."""

    learning: Learning
    log: Log
    key: SigningKey
    otherwise: datetime

    def judged(self, split: Sides) -> tuple[Trained, SigningKey, datetime]:
        """The policy that has seen no held-out row, and what its bundle is written with."""
        table = thinned(self.log.table, split.kept, self.learning.seed)
        stays = np.asarray(table["kept"])
        part = Part.of(table, replace(split, kept=split.kept & stays))
        return self._written(self.learning.judged(part), part.dataset, stays)

    def policy(self, judged: Taught) -> tuple[Trained, SigningKey, datetime]:
        """The policy that has seen all, and what its bundle is written with."""
        every = np.ones(len(self.log.table), bool)
        table = thinned(self.log.table, every, self.learning.seed)
        stays = np.asarray(table["kept"])
        dataset = Dataset.from_table(table.filter(pa.array(stays)))
        policy = self.learning.final(dataset, judged.summary["held_out"])
        return self._written(policy, dataset, stays)

    def _written(
        self, policy: Trained, dataset: Dataset, stays: Mask
    ) -> tuple[Trained, SigningKey, datetime]:
        found = {"rows": len(stays), "left_out": int((~stays).sum())}
        told = replace(policy, summary={**policy.summary, "thinned": found})
        return told, self.key, made_at(dataset, self.otherwise)


@dataclass(frozen=True, kw_only=True)
class Stores:
    """What a run asks of the database; `attempts` before a place in the order of arrival."""

    runs: TrainingRuns
    attempts: Callable[[int | None], Iterable[pa.RecordBatch]]
    catalog: PostgresCatalog
    keys: SigningKeys
    registry: PostgresRegistry
    tenants: PostgresTenants
    slos: PostgresSlos


@dataclass(frozen=True, kw_only=True)
class Room:
    """Where a run's stages take place."""

    stores: Stores
    place: OneTrainer
    run: TrainingRun
    shop: Workshop
    embedder: Embedder
    options: Options
    clock: Callable[[], float] = time.monotonic
    began_s: dict[str, float] = field(default_factory=dict)

    def stage(self, name: str, make: Make, *inputs: int | str) -> Path:
        """The result of a stage, made unless it is there."""
        self.reach(name)
        return self.shop.result(name, make, *inputs)

    @property
    def stages_s(self) -> dict[str, float]:
        """How long each stage took that this process came to, the one of now until now."""
        ends = [*list(self.began_s.values())[1:], self.clock()]
        return {
            name: end - began for (name, began), end in zip(self.began_s.items(), ends, strict=True)
        }

    def reach(self, name: str) -> None:
        """Notes the stage in the book. Raises Unavailable, and Conflict when the place is lost."""
        self.stores.runs.reach(self.run.run_id, name, now=datetime.now(UTC))
        if not self.place.holds() and not self.place.holds():
            raise Conflict("another run has taken this one's place; it goes on with its results")
        self.began_s[name] = self.clock()
        self.options.progress(name)

    def interactions(self) -> tuple[Iterable[pa.RecordBatch], tuple[Model, ...]]:
        """The attempts before the watermark, and the catalog's models."""
        return self.stores.attempts(self.run.watermark), self.stores.catalog.read().models

    def settled(self, found: Interactions) -> Settled:
        """The log with its targets, as things stood when the run began."""
        return settle(
            found.attempts.to_batches(),
            now=self.run.started_at,
            embedder=self.embedder,
            seed=self.options.seed,
        )

    def sides(self, settled: Settled) -> Sides:
        """What is held out, and what is learnt from to be judged by it."""
        table, seed = settled.log.table, self.options.seed
        split = sides(table, self.options.share, seed, Recent(scored=MOST.held_scored))
        return replace(split, held=some_held(table, split.held, seed))

    def school(self, found: Interactions, settled: Settled) -> School:
        """Where both policies are learnt."""
        learning = Learning(
            embedder=self.embedder,
            catalog_models=found.models,
            seed=self.options.seed,
            samples=Samples.from_table(settled.log.table),
            progress=self.options.progress,
        )
        return School(
            learning=learning,
            log=settled.log,
            key=self.options.key,
            otherwise=self.run.started_at,
        )

    def serving(self) -> int:
        """The version of the policy that serves; 0 is the static one."""
        active = self.stores.registry.active()
        return active.version if active else 0

    def drift(self, settled: Settled) -> dict[str, Any] | None:
        """What moved since the policy that serves was trained; None where it can't be told."""
        active = self.stores.registry.active()
        if active is None:
            return None
        archive, trusted = self.stores.registry.bundle(active.version), self.stores.keys.trusted()
        try:
            known = Active.of(active, archive, trusted, self.embedder)
        except BundleRefused as error:
            self.options.progress(f"no drift: {error.message}")
            return None
        now, seed = self.run.started_at, self.options.seed
        found = since_trained(settled.log.table, known, now=now, seed=seed) if known else None
        return None if found is None else found.to_mapping()

    def laws(self, settled: Settled) -> dict[str, Any] | None:
        """What more compute buys; None where no score tells."""
        found = laws_of(settled.log.table, seed=self.options.seed)
        return None if found is None else found.to_mapping()

    def verdict(
        self, found: Interactions, settled: Settled, split: Sides, judged: Taught, policy: Taught
    ) -> dict[str, Any]:
        """What the gate says of the policy, against the one that serves now."""
        stores, key = self.stores, self.options.key
        active = stores.registry.active()
        archive = stores.registry.bundle(active.version) if active else b""
        case = Case(
            found=found,
            settled=settled,
            sides=split,
            judged=judged,
            policy=policy,
            incumbent=Incumbent(record=active, archive=archive) if active else None,
            catalog=stores.catalog.read(),
            slos={
                (tenant.name, slo.name): slo
                for tenant in stores.tenants.tenants()
                for slo in stores.slos.current(tenant.tenant_id)
            },
            key=key,
            trusted={**stores.keys.trusted(), key.key_id: key.public_key},
            embedder=self.embedder,
            seed=self.options.seed,
        )
        return verdict(case)

    def registered(
        self,
        settled: Settled,
        split: Sides,
        taught: tuple[Taught, Taught],
        gate: Mapping[str, Any],
        looked: Mapping[str, Any],
    ) -> Registered:
        """Registers the policy as a candidate, of the judged one and it; twice gives the same."""
        judged, policy = taught
        key, actor = self.options.key, self.options.actor
        texts = settled.log.table["query"].filter(pa.array(split.held)).unique().to_pylist()
        summary = {
            **policy.summary,
            "outcomes": settled.summary,
            "agreement": agreement(judged, policy, texts, self.embedder, key),
            "drift": in_short(looked.get("drift")),
            "gate": {name: value for name, value in gate.items() if name != LOOKED},
        }
        self.stores.keys.trust(key.key_id, key.public_key, actor=actor)
        record = self.stores.registry.register(policy.archive(), summary, actor=actor)
        looked = {**gate.get(LOOKED, {}), **looked}
        return Registered(record=record, summary=summary, log=settled.log, looked=looked)

    def tried(self, done: Registered) -> Registered:
        """Begins to try what passed the gate on traffic, unless another keeps its place."""
        if not (self.options.canary and done.summary["gate"]["promote"]):
            return replace(done, stages_s=self.stages_s)
        try:
            make_way(
                self.stores.registry,
                done.record.version,
                now=self.run.started_at,
                actor=self.options.actor,
            )
            record = self.stores.registry.canary(
                done.record.version,
                share=self.options.first_share,
                actor=self.options.actor,
                comment="it passed the gate",
                request_id=self.run.run_id,
            )
        except Conflict as error:
            self.options.progress(f"no canary: {error.message}")
            return replace(done, stages_s=self.stages_s)
        return replace(done, record=record, stages_s=self.stages_s)


def made_at(dataset: Dataset, otherwise: datetime) -> datetime:
    """The newest time in the log, so that the same log gives the same bundle."""
    found = dataset.watermark
    return found if found is not None and found > _NO_TIME else otherwise
