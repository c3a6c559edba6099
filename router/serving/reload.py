"""Follows the configuration: policies, catalog, slos and keys, without stalling a request."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from router.errors import BundleRefused, LeadlineError, Unavailable
from router.policy.policy import Learned, Policy, static_policy
from router.serving.state import Current, State
from router.serving.telemetry import Logger, Metrics
from router.serving.tenants import TenantDirectory
from router.store.seams import CatalogStore, Changes, Registry, Topic
from router.types import Catalog, PolicyRecord

if TYPE_CHECKING:
    from router.policy.embedding import Embedder

POLL_S = 1.0
KEPT_BUNDLES = 4
MOST_HANGS = 3

_FOLLOWED = (Topic.POLICIES, Topic.CATALOG)


class Bundles:
    """Verified bundles; the last few stay in memory, so that a rollback is immediate."""

    def __init__(
        self, registry: Registry, trusted: Callable[[], Mapping[str, bytes]], embedder: Embedder
    ) -> None:
        self._registry, self._trusted, self._embedder = registry, trusted, embedder
        self._kept: OrderedDict[str, Learned] = OrderedDict()
        self._hangs: Counter[str] = Counter()
        self._lock = threading.Lock()

    def learned(self, record: PolicyRecord) -> Learned:
        """What a registered policy teaches, verified and tried in a child process; blocks.

        Raises BundleRefused with the reason, and Unavailable when trying again may help: a
        bundle that has hung three times is refused.
        """
        with self._lock:
            digest = record.bundle_sha256
            if digest not in self._kept:
                self._kept[digest] = self._load(record)
                while len(self._kept) > KEPT_BUNDLES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(digest)
            return self._kept[digest]

    def knows(self, record: PolicyRecord) -> bool:
        """Whether `learned` has it at once."""
        return record.bundle_sha256 in self._kept

    def _load(self, record: PolicyRecord) -> Learned:
        from router.bundle.trial import Hangs  # noqa: PLC0415 (no policy, no need of it)
        from router.loading import registered  # noqa: PLC0415

        digest = record.bundle_sha256
        if self._hangs[digest] >= MOST_HANGS:
            raise BundleRefused(f"the booster has hung {MOST_HANGS} times; train the policy anew")
        archive = self._registry.bundle(record.version)
        try:
            return registered(archive, digest, self._trusted(), self._embedder)
        except Hangs:
            self._hangs[digest] += 1
            raise


class Reloader:
    """Loads the state, and swaps it whole whenever the configuration changes.

    A refused bundle changes nothing: the policy in service goes on, or the static one
    when there is none. One that could not be tried is tried again every second meanwhile.
    No policy waits for a canary's bundle, and a refused one leaves the active policy alone.
    """

    def __init__(
        self,
        *,
        catalog: CatalogStore,
        registry: Registry,
        bundles: Bundles,
        changes: Changes,
        tenants: TenantDirectory,
        metrics: Metrics,
        log: Logger,
    ) -> None:
        self._catalog, self._registry, self._bundles = catalog, registry, bundles
        self._changes, self._tenants, self._metrics, self._log = changes, tenants, metrics, log
        self._seen = dict(changes.revisions())
        self._serving: tuple[int, Learned] | None = None
        self._waiting = False
        self.current = Current(self._load())
        self._waiting |= self._tried() is not None
        tenants.load_known()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="reload", daemon=True)

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def close(self) -> None:
        """Stops following."""
        self._stopping.set()
        self._changes.close()
        self._thread.join(timeout=2.0)

    def _follow(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            pause_s = 0.0 if self._turn(0.0 if pause_s else POLL_S) else POLL_S

    def _turn(self, timeout_s: float) -> bool:
        """Waits for a change and catches up; whether that worked."""
        try:
            self._changes.wait(timeout_s)
            if not self._stopping.is_set():
                self._catch_up(self._changes.revisions())
        except LeadlineError as error:
            self._metrics.reloaded("failed")
            self._log.debug("reload waits", reason=error.reason)
            return False
        except Exception as error:  # noqa: BLE001 (the thread must live)
            self._metrics.reloaded("failed")
            self._log.error("reload failed", kind=type(error).__name__, exc_info=True)
            return False
        return True

    def _catch_up(self, revisions: Mapping[Topic, int]) -> None:
        """Reads anew what changed; a topic counts as seen only once that has worked."""
        changed = {
            topic for topic, revision in revisions.items() if self._seen.get(topic) != revision
        }
        for topics, refresh in (
            ({Topic.TENANTS}, self._tenants.refresh_tenants),
            ({Topic.SLOS, Topic.PROMISES}, self._tenants.refresh_slos),
        ):
            if topics & changed:
                refresh()
                self._seen |= {topic: revisions[topic] for topic in topics & changed}
        if self._waiting or changed.intersection(_FOLLOWED):
            self._swap()
            self._seen |= {topic: revisions[topic] for topic in _FOLLOWED if topic in revisions}

    def _swap(self) -> None:
        state, record = self._load(), self._tried()
        if record is not None and not self._bundles.knows(record):
            self.current.state = state
        self.current.state = self._with_canary(state, record)

    def _tried(self) -> PolicyRecord | None:
        """The canary that decides; one in the shadow does not."""
        record = self._registry.on_trial()
        return record if record is not None and record.share else None

    def _with_canary(self, state: State, record: PolicyRecord | None) -> State:
        """The state with the canary beside, if there is one that can be served."""
        canary = None
        if record is not None and state.catalog.arms:
            canary = self._canary(record, state.catalog)
        share = record.share or 0.0 if record is not None and canary is not None else 0.0
        self._metrics.canary_version.set(canary.version if canary else 0)
        self._metrics.canary_share.set(share)
        if canary is not None:
            self._log.info("canary serves", policy=canary.version, share=share)
        return state.beside(canary, share)

    def _canary(self, record: PolicyRecord, catalog: Catalog) -> Policy | None:
        from router.loading import bind  # noqa: PLC0415

        try:
            return bind(self._bundles.learned(record), catalog, record.version)
        except BundleRefused as error:
            self._metrics.refused_bundles.inc()
            self._log.error("canary refused", policy=record.version, why=error.message)
        except Unavailable as error:
            self._waiting = True
            self._log.warning("canary waits", policy=record.version, why=error.message)
        return None

    def _load(self) -> State:
        catalog = self._catalog.read()
        policy = self._policy(catalog)
        self._metrics.policy_version.set(policy.version)
        if not self._waiting:
            self._metrics.reloaded("done")
            self._log.info(
                "policy serves", policy=policy.version, source=policy.source, arms=len(catalog.arms)
            )
        return State.of(policy, catalog)

    def _policy(self, catalog: Catalog) -> Policy:
        record = self._registry.active()
        self._waiting = False
        if record is None or not catalog.arms:
            self._serving = None
            return static_policy(catalog)
        for version, learn in self._offers(record):
            try:
                return self._bound(version, learn(), catalog)
            except BundleRefused as error:
                self._metrics.refused_bundles.inc()
                self._metrics.reloaded("refused")
                self._log.error("policy refused", policy=version, why=error.message)
            except Unavailable as error:
                self._waiting = True
                self._metrics.reloaded("failed")
                self._log.warning("policy waits", policy=version, why=error.message)
        self._log.error("the static policy serves: no learned one can")
        return static_policy(catalog)

    def _offers(self, record: PolicyRecord) -> list[tuple[int, Callable[[], Learned]]]:
        """The active policy, then the one in service: what is tried, in this order."""
        offers: list[tuple[int, Callable[[], Learned]]] = []
        if self._serving is None or self._serving[0] != record.version:
            offers.append((record.version, lambda: self._bundles.learned(record)))
        if self._serving is not None:
            version, kept = self._serving
            offers.append((version, lambda: kept))
        return offers

    def _bound(self, version: int, what: Learned, catalog: Catalog) -> Policy:
        from router.loading import bind  # noqa: PLC0415

        policy = bind(what, catalog, version)
        self._serving = (version, what)
        return policy
