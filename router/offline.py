"""A trained policy with no server and no database: it decides, and it replays logs.

The catalog is the bundle's own. The same arguments give the same decisions: a decision's
id, from which exploration draws, is a hash of the query's id and the slo's place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Self
from uuid import UUID

from router import pipeline
from router.bundle import loader
from router.bundle.embedder import load_embedder
from router.bundle.loader import LoadedBundle
from router.bundle.manifest import Manifest
from router.errors import BundleRefused, Infeasible
from router.explanation import Explanation
from router.ids import derived_uuid7
from router.loading import bind, learned
from router.pipeline import Case
from router.policy import policy as policies
from router.policy.explain import explain
from router.policy.policy import Predicted
from router.replaying import Asked, Part, Recorded, Replayed
from router.settings import Settings
from router.slo import Slo
from router.trust import trusted_here
from router.types import Arm, Bounds, Catalog, Decision, Query

__all__ = ["Asked", "Policy", "Recorded", "Replayed"]

_BATCH_TEXTS = 256
_MOST_KEPT_PAIRS = 5_000_000

_SLO, _BOUNDS = Slo(), Bounds()


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
        trusted = trusted_here(settings or Settings.model_validate({}), trusted_keys)
        place = Path(path)
        if not place.exists():
            raise BundleRefused(f"{place} does not exist; name the bundle that train wrote")
        if place.is_dir():
            return cls._of(loader.load(place, trusted=trusted))
        return cls._of(loader.load_archive(place.read_bytes(), trusted=trusted))

    @classmethod
    def registered(
        cls,
        archive: bytes,
        *,
        version: int,
        catalog: Catalog,
        trusted: Mapping[str, bytes],
        settings: Settings | None = None,
    ) -> Self:
        """A policy as a server has it: out of the registry, bound to the database's catalog.

        `trusted` holds raw public keys by key id, besides those that `load` trusts. Raises
        BundleRefused.
        """
        keys = {**trusted, **trusted_here(settings or Settings.model_validate({}))}
        return cls._of(loader.load_archive(archive, trusted=keys), catalog, version)

    @classmethod
    def _of(cls, bundle: LoadedBundle, catalog: Catalog | None = None, version: int = 0) -> Self:
        manifest = bundle.manifest
        own = Catalog(models=manifest.models, arms=manifest.arms)
        what = learned(bundle, load_embedder(manifest.embedder.name))
        return cls(bind(what, catalog or own, version), manifest)

    @property
    def bound(self) -> policies.Policy:
        """The policy as the pipeline takes it."""
        return self._policy

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
        return self._decide(asked, None, slo=slo, place=0, bounds=bounds, now=at)

    def explain(
        self,
        text: str,
        *,
        slo: Slo = _SLO,
        bounds: Bounds = _BOUNDS,
        query_id: str | None = None,
        arm: str | None = None,
        now: datetime | None = None,
    ) -> tuple[Decision, Explanation]:
        """Decides as `decide` does, and says what moved the choice.

        The arm is held against the next best one, or against the one whose key is `arm`.
        Raises Infeasible as `decide` does, and NotFound when there is no such arm.
        """
        asked = Asked(query_id=text if query_id is None else query_id, text=text)
        [known] = self._policy.predict([text])
        at = now or datetime.now(UTC)
        decision = self._decide(asked, known, slo=slo, place=0, bounds=bounds, now=at)
        query = Query(text=text)
        return decision, explain(self._policy, known, decision, query, bounds, beside=arm)

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
        known = self._predicted([each.text for each in asked])
        for place, slo in enumerate(slos):
            for start in range(0, len(asked), _BATCH_TEXTS):
                part = asked[start : start + _BATCH_TEXTS]
                cases = [self._case(each, known[each.text], place, at) for each in part]
                decided = pipeline.decide_many(self._policy, cases, slo, bounds)
                yield from zip(repeat(place), part, decided, strict=False)

    def replay(
        self, log: Sequence[Recorded], slos: Sequence[Slo] = (_SLO,)
    ) -> Iterator[tuple[int, Replayed]]:
        """Walks a full-information log with continuation on, for each slo in turn.

        An arm that has no row for a query is not available for it. A row is looked at
        only when the policy attempts its arm.
        """
        known = self._predicted([each.asked.text for each in log])
        keep = len(log) * len(self.arms) ** 2 <= _MOST_KEPT_PAIRS
        parts = [
            Part(self._policy, log[start : start + _BATCH_TEXTS], known, keep=keep)
            for start in range(0, len(log), _BATCH_TEXTS)
        ]
        for place, slo in enumerate(slos):
            for part in parts:
                for replayed in part.replay(slo, partial(self._identify, place)):
                    yield place, replayed

    def _predicted(self, texts: Sequence[str]) -> Mapping[str, Predicted]:
        """What the policy makes of each text, worked out once for all slos."""
        different = list(dict.fromkeys(texts))
        known: dict[str, Predicted] = {}
        for start in range(0, len(different), _BATCH_TEXTS):
            part = different[start : start + _BATCH_TEXTS]
            known |= zip(part, self._policy.predict(part), strict=True)
        return known

    def _decide(
        self,
        asked: Asked,
        predicted: Predicted | None,
        *,
        slo: Slo,
        place: int,
        bounds: Bounds,
        now: datetime,
    ) -> Decision:
        return pipeline.decide(
            self._policy,
            Query(text=asked.text),
            slo,
            bounds,
            decision_id=self._identify(place, asked.query_id),
            now=now,
            predicted=predicted,
        )

    def _case(self, asked: Asked, known: Predicted, place: int, now: datetime) -> Case:
        return Case(
            decision_id=self._identify(place, asked.query_id),
            now=now,
            query=Query(text=asked.text),
            predicted=known,
        )

    def _identify(self, place: int, query_id: str) -> UUID:
        return derived_uuid7(self.manifest.created_at, query_id, str(place))
