"""Which webhook is told of which tenant's events, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from router.store.webhooks import PostgresWebhooks, TenantWebhook
from training.watch.monitoring import Event
from training.watch.webhook import Warn, Webhook

AT_ONCE = 16
ACTOR = "watcher"

Untold = Sequence[tuple[UUID, Event]]
"""Events with the tenants whose they are, in the order in which to tell them."""


@dataclass(slots=True, kw_only=True)
class _Round:
    """What one webhook is told in a turn."""

    webhook: Webhook
    owner: UUID | None
    events: list[Event] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    failure: str | None = None

    def run(self, now: datetime) -> None:
        """Posts the events in order, until one is not taken."""
        for event in self.events:
            told = self.webhook.tell(event, now)
            if not told.taken:
                self.failure = told.failure
                return
            self.taken.append(str(event["id"]))


class Teller:
    """Tells each tenant's own webhook, or else the installation's. Not thread-safe.

    Webhooks are told side by side, so that a slow one keeps the others waiting no longer
    than its own time limit, and pauses after a failure by itself.
    """

    def __init__(self, installation: Webhook | None, *, private: bool = False) -> None:
        self._installation, self._private = installation, private
        self._own: dict[UUID, tuple[TenantWebhook, Webhook]] = {}

    def follow(self, known: Mapping[UUID, TenantWebhook]) -> None:
        """Takes over what was set; a webhook that is the same keeps its pause."""
        before = self._own
        self._own = {
            tenant_id: before[tenant_id]
            if tenant_id in before and before[tenant_id][0] == record
            else (record, Webhook(record.url, record.secret, public=not self._private))
            for tenant_id, record in known.items()
        }

    def tells(self, tenant_id: UUID) -> bool:
        """Whether anybody is told of the tenant's events."""
        return tenant_id in self._own or self._installation is not None

    def tell(
        self, untold: Untold, now: datetime, counted: PostgresWebhooks, warn: Warn
    ) -> set[str]:
        """The ids of the events that need no more telling: those that arrived."""
        rounds = list(self._rounds(untold))
        if rounds:
            with ThreadPoolExecutor(min(AT_ONCE, len(rounds))) as pool:
                list(pool.map(lambda each: each.run(now), rounds))
        for each in rounds:
            _count(each, counted, warn)
        nobody = {str(event["id"]) for tenant_id, event in untold if not self.tells(tenant_id)}
        return nobody.union(*(each.taken for each in rounds))

    def tell_installation(self, events: Sequence[Event], now: datetime, warn: Warn) -> set[str]:
        """The ids of the events, which are of no tenant, that need no more telling."""
        if self._installation is None:
            return {str(event["id"]) for event in events}
        told = _Round(webhook=self._installation, owner=None, events=list(events))
        told.run(now)
        if told.failure is not None:
            warn("webhook failed", event_id=events[len(told.taken)]["id"], why=told.failure)
        return set(told.taken)

    def _rounds(self, untold: Untold) -> Iterator[_Round]:
        made: dict[UUID | None, _Round] = {}
        for tenant_id, event in untold:
            owner = tenant_id if tenant_id in self._own else None
            webhook = self._own[tenant_id][1] if owner else self._installation
            if webhook is not None:
                made.setdefault(owner, _Round(webhook=webhook, owner=owner)).events.append(event)
        return iter(made.values())


def _count(told: _Round, counted: PostgresWebhooks, warn: Warn) -> None:
    if told.owner is not None and told.taken:
        counted.delivered(told.owner, len(told.taken))
    if told.failure is None:
        return
    event = told.events[len(told.taken)]
    pause_s = told.webhook.pause_s
    warn("webhook failed", event_id=event["id"], why=told.failure, again_in_s=pause_s)
    if told.owner is not None:
        counted.failed(told.owner, told.failure, actor=ACTOR)
