"""A trained policy with no server and no database: it decides, and it replays logs.

The catalog is the bundle's own. The same arguments give the same decisions: a decision's
id, from which exploration draws, is a hash of the query's id and the slo's place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, Self

from router import pipeline
from router.bundle import loader
from router.bundle.embedder import load_embedder
from router.bundle.manifest import Manifest
from router.bundle.signing import SigningKey, trusted_keys
from router.errors import BundleRefused, Infeasible
from router.ids import derived_uuid7
from router.loading import bind, learned
from router.policy import policy as policies
from router.policy.continuation import Tried
from router.policy.features import Context
from router.policy.policy import Reader
from router.settings import Settings
from router.types import Arm, Bounds, Catalog, Decision, Evidence, Predictions, Query, Slo

SIGNING_KEY = Path("keys/signing.key")

_SLO, _BOUNDS = Slo(), Bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A query with its caller's id."""

    query_id: str
    text: str


class Recorded(Protocol):
    """A query of an outcome log: which arms have a row, and what a row shows once attempted."""

    @property
    def asked(self) -> Asked:
        """The query."""

    @property
    def arms(self) -> Collection[str]:
        """Keys of the arms that have a row."""

    def attempt(self, arm: str) -> Evidence:
        """What the row of the arm shows: confidence, cost and latency, never its score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a policy did with a recorded query: its attempts and whose answer it kept.

    Without attempts there is the reason why no arm could be run.
    """

    query_id: str
    attempts: tuple[tuple[Arm, Evidence], ...] = ()
    final: Arm | None = None
    reason: str = ""


class Policy:
    """A policy out of a bundle, bound to the bundle's own models and arms; thread-safe."""

    def __init__(self, bound: policies.Policy, manifest: Manifest) -> None:
        self._policy = bound
        self.manifest = manifest

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        trusted_keys: Iterable[str] = (),
        settings: Settings | None = None,
    ) -> Self:
        """Verifies a bundle, a directory or an archive, before it trusts it.

        Trusted are this installation's own signing key, LEADLINE_TRUSTED_KEYS, and the
        hex public keys given. Raises BundleRefused.
        """
        trusted = _trusted(settings or Settings.model_validate({}), trusted_keys)
        place = Path(path)
        if not place.exists():
            raise BundleRefused(f"{place} does not exist; name the bundle that train wrote")
        bundle = (
            loader.load(place, trusted=trusted)
            if place.is_dir()
            else loader.load_archive(place.read_bytes(), trusted=trusted)
        )
        manifest = bundle.manifest
        catalog = Catalog(models=manifest.models, arms=manifest.arms)
        what = learned(bundle, load_embedder(manifest.embedder.name))
        return cls(bind(what, catalog, 0), manifest)

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms, in the order of every prediction."""
        return self._policy.arms

    def decide(
        self,
        text: str,
        *,
        slo: Slo = _SLO,
        bounds: Bounds = _BOUNDS,
        query_id: str | None = None,
        now: datetime | None = None,
    ) -> Decision:
        """Decides for one query. Raises Infeasible when no arm may be run."""
        asked = Asked(query_id=text if query_id is None else query_id, text=text)
        at = now or datetime.now(UTC)
        return self._decide(self._policy, asked, slo=slo, place=0, bounds=bounds, now=at)

    def decide_many(
        self,
        asked: Sequence[Asked],
        slos: Sequence[Slo] = (_SLO,),
        *,
        bounds: Bounds = _BOUNDS,
        now: datetime | None = None,
    ) -> Iterator[tuple[int, Asked, Decision | Infeasible]]:
        """Decides for each slo in turn and each query; yields the slo's place and the query too.

        Every query is embedded and predicted once. Where no arm may be run, the error
        stands in the decision's place.
        """
        at = now or datetime.now(UTC)
        known = self.known([each.text for each in asked])
        for place, slo in enumerate(slos):
            for each in asked:
                try:
                    yield (
                        place,
                        each,
                        self._decide(known, each, slo=slo, place=place, bounds=bounds, now=at),
                    )
                except Infeasible as error:
                    yield place, each, error

    def replay(
        self, log: Sequence[Recorded], slos: Sequence[Slo] = (_SLO,)
    ) -> Iterator[tuple[int, Replayed]]:
        """Walks a full-information log with continuation on, for each slo in turn.

        An arm that has no row for a query is not available for it. A row is looked at
        only when the policy attempts its arm.
        """
        known = self.known([each.asked.text for each in log])
        for place, slo in enumerate(slos):
            for recorded in log:
                yield place, self._replay(known, recorded, slo=slo, place=place)

    def known(self, texts: Sequence[str]) -> policies.Policy:
        """The policy with all that it says of these texts alone worked out beforehand."""
        reader = self._policy.reader
        if reader is None:
            return self._policy
        values, tokens = reader.features.contexts(texts, reader.embedder)
        contexts: dict[str, Context] = {}
        for text, row, count in zip(texts, values, tokens, strict=True):
            context = Context(values=row, input_tokens=int(count))
            contexts[text] = _KnownContext(
                values=row,
                input_tokens=context.input_tokens,
                predictions=self._policy.predictor.predict(context),
            )
        return replace(
            self._policy,
            reader=_KnownReader(
                features=reader.features, embedder=reader.embedder, contexts=contexts
            ),
            predictor=_KnownPredictor(self.arms),
        )

    def _decide(
        self,
        known: policies.Policy,
        asked: Asked,
        *,
        slo: Slo,
        place: int,
        bounds: Bounds,
        now: datetime,
    ) -> Decision:
        return pipeline.decide(
            known,
            Query(text=asked.text),
            slo,
            bounds,
            decision_id=derived_uuid7(self.manifest.created_at, asked.query_id, str(place)),
            now=now,
        )

    def _replay(self, known: policies.Policy, recorded: Recorded, slo: Slo, place: int) -> Replayed:
        asked, bounds = recorded.asked, Bounds(allowed_arms=frozenset(recorded.arms))
        try:
            now = self.manifest.created_at
            decision = self._decide(known, asked, slo=slo, place=place, bounds=bounds, now=now)
        except Infeasible as error:
            return Replayed(query_id=asked.query_id, reason=error.message)
        tried, kept = _walk(known, recorded, decision, bounds)
        arms = [self.arms[each.index] for each in tried]
        return Replayed(
            query_id=asked.query_id,
            attempts=tuple(zip(arms, (each.evidence for each in tried), strict=True)),
            final=arms[kept],
        )


def _walk(
    known: policies.Policy, recorded: Recorded, decision: Decision, bounds: Bounds
) -> tuple[list[Tried], int]:
    """The attempts, and the place of the one whose answer is kept."""
    query = Query(text=recorded.asked.text, input_tokens=decision.input_tokens)
    tried: list[Tried] = []
    index: int | None = decision.choice.index
    kept = 0
    while index is not None:
        evidence = recorded.attempt(decision.arms[index].key)
        tried.append(Tried(index=index, evidence=evidence))
        index = None
        if decision.should_continue:
            step = pipeline.go_on(known, query, decision.slo, bounds, tried)
            kept, index = (step.best, step.next_index) if step else (0, None)
    return tried, kept


def _trusted(settings: Settings, given: Iterable[str]) -> Mapping[str, bytes]:
    own = settings.state_dir / SIGNING_KEY
    keys = [SigningKey.load_or_create(own)] if own.exists() else []
    return trusted_keys((*settings.trusted_keys, *given), *keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class _KnownContext(Context):
    """A context that carries its predictions."""

    predictions: Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class _KnownReader(Reader):
    """Reads only the texts that it knows."""

    contexts: Mapping[str, Context]

    def read(self, text: str) -> Context:
        return self.contexts[text]


class _KnownPredictor:
    """Predicts what a known context carries."""

    def __init__(self, arms: tuple[Arm, ...]) -> None:
        self.arms = arms

    def predict(self, context: Context) -> Predictions:
        if not isinstance(context, _KnownContext):
            raise TypeError("the context was not worked out beforehand")
        return context.predictions
