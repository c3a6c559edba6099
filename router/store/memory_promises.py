"""In-memory twins of certificates, monitors, arrivals and budgets."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from statistics import fmean
from typing import Any
from uuid import UUID

from router.policy.novelty import is_novel
from router.store.arrivals import CONTINUED_WITHIN
from router.store.budgets import check_ask, check_spent
from router.store.memory_changes import MemoryChanges
from router.store.memory_outbox import MemoryOutbox, row_of
from router.store.promise_seams import (
    BudgetRecord,
    CertificateRecord,
    DecisionKind,
    Fresh,
    FreshOutcome,
    InForce,
    MonitorRecord,
)
from router.store.promises import (
    certificate_not_found,
    changes_state,
    in_force,
    monitor_moved,
)
from router.store.seams import Kind, Topic


class MemoryPromises:
    """The Promises seam."""

    def __init__(self, changes: MemoryChanges | None = None) -> None:
        self._changes = changes or MemoryChanges()
        self._lock = threading.Lock()
        self._certificates: dict[tuple[UUID, UUID], CertificateRecord] = {}
        self._monitors: dict[tuple[UUID, str], MonitorRecord] = {}

    def current(self, tenant_id: UUID) -> Mapping[str, InForce]:
        """As the seam says."""
        with self._lock:
            watched = [item for item in self._monitors.values() if item.tenant_id == tenant_id]
            return in_force(reversed(self._newest_first(tenant_id)), watched)

    def certificates(
        self, tenant_id: UUID, slo_name: str = "", limit: int = 50
    ) -> Sequence[CertificateRecord]:
        """As the seam says."""
        with self._lock:
            ours = self._newest_first(tenant_id)
        return [item for item in ours if slo_name in {"", item.slo_name}][:limit]

    def certificate(self, tenant_id: UUID, certificate_id: UUID) -> CertificateRecord:
        """As the seam says."""
        found = self._certificates.get((tenant_id, certificate_id))
        if found is None:
            raise certificate_not_found(certificate_id)
        return found

    def write_certificate(self, record: CertificateRecord, *, actor: str) -> None:  # noqa: ARG002
        """As the seam says; there is no audit log."""
        with self._lock:
            self._certificates.setdefault((record.tenant_id, record.certificate_id), record)
        self._changes.announce(Topic.PROMISES)

    def write_monitor(
        self,
        record: MonitorRecord,
        *,
        before: MonitorRecord | None,
        actor: str,  # noqa: ARG002
    ) -> None:
        """As the seam says; there is no audit log."""
        key = (record.tenant_id, record.slo_name)
        with self._lock:
            if _place(self._monitors.get(key)) != _place(before):
                raise monitor_moved(record.slo_name)
            self._monitors[key] = record
        if changes_state(record, before):
            self._changes.announce(Topic.PROMISES)

    def _newest_first(self, tenant_id: UUID) -> list[CertificateRecord]:
        ours = [item for item in self._certificates.values() if item.tenant_id == tenant_id]
        return sorted(ours, key=lambda item: (item.created_at, item.certificate_id), reverse=True)


def _place(monitor: MonitorRecord | None) -> tuple[int, datetime] | None:
    return None if monitor is None else (monitor.seen_until, monitor.updated_at)


class MemoryArrivals:
    """The Arrivals seam over an outbox whose records arrive at once, one by one."""

    def __init__(self, outbox: MemoryOutbox) -> None:
        self._outbox = outbox

    def horizon(self) -> int:
        """As the seam says."""
        return len(self._outbox.arrived()) + 1

    def fresh_outcomes(
        self, tenant_id: UUID, slo_name: str, since: int, until: int, limit: int = 10_000
    ) -> Fresh:
        """As the seam says."""
        ends, scored = min(until, self.horizon()), []
        if since >= ends:
            return Fresh(outcomes=(), decisions={}, until=min(since, self.horizon()))
        log = _Rows(self._outbox, tenant_id)
        ours = [row for row in log.decisions.values() if row["slo_name"] == slo_name]
        for row in ours:
            counted, fresh = log.counted(row)
            if fresh is not None and since <= counted < ends:
                scored.append((counted, fresh))
        scored.sort(key=lambda found: found[0])
        if len(scored) >= limit:
            scored = scored[:limit]
            ends = scored[-1][0] + 1
        decided = Counter(_kind(row) for row in ours if since <= row["arrival"] < ends)
        return Fresh(outcomes=[fresh for _, fresh in scored], decisions=decided, until=ends)


def _kind(row: Mapping[str, Any]) -> DecisionKind:
    return row["slo_version"] or 0, row["policy_version"], is_novel(row["novelty"])


class _Rows:
    """One tenant's rows, each with its place in the order of arrival."""

    def __init__(self, outbox: MemoryOutbox, tenant_id: UUID) -> None:
        self.decisions: dict[UUID, dict[str, Any]] = {}
        self._attempts: list[dict[str, Any]] = []
        self._outcomes: list[dict[str, Any]] = []
        for place, record in enumerate(outbox.arrived(), start=1):
            row = {**row_of(record), "arrival": place}
            if record.tenant_id != tenant_id:
                continue
            if record.kind is Kind.DECISION:
                self.decisions[row["decision_id"]] = row
            else:
                kept = self._attempts if record.kind is Kind.ATTEMPT else self._outcomes
                kept.append(row)

    def counted(self, decision: Mapping[str, Any]) -> tuple[int, FreshOutcome | None]:
        """Where the decision counts as scored, and as what; None while it is not."""
        known = [row for row in self._outcomes if self._is_score(row, decision["decision_id"])]
        if not known:
            return 0, None
        counted = max(decision["arrival"], min(row["arrival"] for row in known))
        there = [row for row in known if row["arrival"] <= counted]
        attempt = max(row["attempt"] for row in there)
        return counted, FreshOutcome(
            **{name: decision[name] for name in ("decision_id", "policy_version", "propensity")},
            decided_at=decision["occurred_at"],
            slo_version=decision["slo_version"] or 0,
            attempt=attempt,
            score=fmean(row["score"] for row in there if row["attempt"] == attempt),
            explored=bool(decision["explored"]),
            novelty=decision["novelty"],
            model=decision["model"],
            expected=_expected(decision),
        )

    def _is_score(self, row: Mapping[str, Any], decision_id: UUID) -> bool:
        """Whether it is a score of the answer that the decision's caller kept."""
        if row["decision_id"] != decision_id or row["score"] is None or row["error"]:
            return False
        known_by = row["occurred_at"] + CONTINUED_WITHIN
        ended = [
            attempt
            for attempt in self._attempts
            if attempt["decision_id"] == decision_id and attempt["occurred_at"] <= known_by
        ]
        if not ended:
            return True
        last = max(ended, key=lambda attempt: int(attempt["attempt"]))
        best = (last["evidence"] or {}).get("best")
        kept = last["attempt"] if best is None else best
        return bool(row["attempt"] == (kept if last["keep"] else last["attempt"] + 1))


def _expected(decision: Mapping[str, Any]) -> float | None:
    """What was predicted of the arm that was picked; None where nothing was."""
    known = decision["predictions"] or {"arms": []}
    if decision["arm"] not in known["arms"]:
        return None
    return float(known["accuracy"][known["arms"].index(decision["arm"])])


class MemoryBudgets:
    """The Budgets seam inside one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[tuple[UUID, str, str, datetime], BudgetRecord] = {}

    def lease(
        self,
        tenant_id: UUID,
        slo_name: str,
        period: str,
        starts_at: datetime,
        *,
        cap_micro_usd: int,
        ask_micro_usd: int,
    ) -> int:
        """As the seam says."""
        check_ask(ask_micro_usd)
        key = (tenant_id, slo_name, period, starts_at)
        with self._lock:
            record = self._record(key)
            granted = max(0, min(ask_micro_usd, cap_micro_usd - record.leased_micro_usd))
            leased = record.leased_micro_usd + granted
            self._records[key] = replace(record, leased_micro_usd=leased)
        return granted

    def settle(
        self,
        tenant_id: UUID,
        slo_name: str,
        period: str,
        starts_at: datetime,
        *,
        spent_micro_usd: int,
        give_back_micro_usd: int,
    ) -> None:
        """As the seam says."""
        check_spent(spent_micro_usd)
        key = (tenant_id, slo_name, period, starts_at)
        with self._lock:
            record = self._record(key)
            spent = record.spent_micro_usd + spent_micro_usd
            leased = max(record.leased_micro_usd - give_back_micro_usd, spent)
            self._records[key] = replace(record, leased_micro_usd=leased, spent_micro_usd=spent)

    def spent(self, tenant_id: UUID, since: datetime) -> Sequence[BudgetRecord]:
        """As the seam says."""
        with self._lock:
            ours = [record for key, record in self._records.items() if key[0] == tenant_id]
        ours.sort(key=lambda record: (record.slo_name, record.period))
        ours.sort(key=lambda record: record.starts_at, reverse=True)
        return [record for record in ours if record.starts_at >= since]

    def _record(self, key: tuple[UUID, str, str, datetime]) -> BudgetRecord:
        _, slo_name, period, starts_at = key
        unused = BudgetRecord(
            slo_name=slo_name,
            period=period,
            starts_at=starts_at,
            leased_micro_usd=0,
            spent_micro_usd=0,
        )
        return self._records.get(key, unused)
