"""The seams of slos as promises: certificates and monitors, what has arrived, and budgets.

They keep the laws of `seams.py`. Each tenant's rows are seen under its own row-level security.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from router.conditions import MonitorState


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRecord:
    """A certificate as it is kept: it never changes. `body` is the statement, as JSON values."""

    tenant_id: UUID
    certificate_id: UUID
    slo_name: str
    slo_version: int
    policy_version: int
    created_at: datetime
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorRecord:
    """How far an slo's monitor has come. `body` is what it has counted, as JSON values.

    `seen_until` is a place in the order of arrival: what arrived before it is counted.
    """

    tenant_id: UUID
    slo_name: str
    state: MonitorState
    seen_until: int
    updated_at: datetime
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What is in force of one slo's name: the newest certificate, and its monitor.

    `by_policy` has the newest certificate under each of the three policies that were certified
    last, so that a canary has its own, and a policy that is promoted or returned to still has.
    """

    certificate: CertificateRecord | None = None
    monitor: MonitorRecord | None = None
    by_policy: Mapping[int, CertificateRecord] = field(default_factory=dict)

    def under(self, policy_version: int) -> CertificateRecord | None:
        """The newest certificate under that policy, else the newest of all."""
        return self.by_policy.get(policy_version, self.certificate)


class Promises(Protocol):
    """Certificates and monitors, by tenant and slo name.

    Reading takes the router's role; writing, which is audited, the trainer's or the admin's.
    A certificate, and a monitor that is new or changes its state, announce Topic.PROMISES.
    """

    def current(self, tenant_id: UUID) -> Mapping[str, InForce]:
        """What is in force, by slo name."""

    def certificates(
        self, tenant_id: UUID, slo_name: str = "", limit: int = 50
    ) -> Sequence[CertificateRecord]:
        """The tenant's certificates, of one slo's name or of all, newest first."""

    def certificate(self, tenant_id: UUID, certificate_id: UUID) -> CertificateRecord:
        """Raises NotFound (CERTIFICATE_NOT_FOUND): unknown and another tenant's look the same."""

    def write_certificate(self, record: CertificateRecord, *, actor: str) -> None:
        """Stores a certificate. The same id again: no change."""

    def write_monitor(
        self, record: MonitorRecord, *, before: MonitorRecord | None, actor: str
    ) -> None:
        """Replaces the monitor that was read as `before`, None where there was none.

        Raises Conflict when another has written since (by `seen_until` and `updated_at`), so
        that of two watchers one counts; the other reads again.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshOutcome:
    """A decision whose answer's score has become known.

    `score` is the mean over the scores of `attempt`, the one whose answer was kept;
    `propensity` is that of the decision's first arm, `model` its model and `expected` the
    accuracy that was predicted of it.
    """

    decision_id: UUID
    decided_at: datetime
    slo_version: int
    policy_version: int
    attempt: int
    score: float
    propensity: float | None
    explored: bool
    novelty: float | None
    model: str = ""
    expected: float | None = None


DecisionKind = tuple[int, int, bool]
"""The versions of a decision's slo and policy, and whether its query is novel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """What arrived between two places: scored decisions in that order, and all decisions.

    `decisions` counts them by kind, for the coverage of labels. The next turn begins at
    `until`, which is earlier than what was asked for where the limit cut it short.
    """

    outcomes: Sequence[FreshOutcome]
    decisions: Mapping[DecisionKind, int]
    until: int


class Arrivals(Protocol):
    """The order in which decisions and outcomes become visible, whatever their times say.

    Law: turns that each begin where the one before ended (`since` = the last `until`) count
    every decision once and every scored decision once, in the turn in which both the decision
    and a score of its kept answer are there; later scores of it change nothing. Which answer
    was kept is told by the Continue calls up to 30 s after the outcome, so for decisions with
    several attempts pass as `until` a `horizon` that is a minute old.
    """

    def horizon(self) -> int:
        """The place before which nothing will arrive any more; it never moves back.

        A transaction that writes, anywhere in the cluster, holds it up while it is open.
        """

    def fresh_outcomes(
        self, tenant_id: UUID, slo_name: str, since: int, until: int, limit: int = 10_000
    ) -> Fresh:
        """What arrived from `since` until before `until`, or before the horizon if that is earlier.

        About `limit` scored decisions at most: those that arrived together stay together, and
        a long backlog takes several turns. A
        `since` beyond the horizon tells of a database that was restored from a dump; then
        nothing is counted, and the next turn begins at the horizon.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRecord:
    """One period of a budget. Leased is what workers took, net of what they gave back."""

    slo_name: str
    period: str
    starts_at: datetime
    leased_micro_usd: int
    spent_micro_usd: int


class Budgets(Protocol):
    """Budgets shared by all workers and replicas, in whole millionths of a dollar.

    Law: what is leased of one (slo name, period, start) is never more than the cap of the
    last lease, so workers that spend what they leased never spend more. A worker that dies
    takes its lease with it. Neither `lease` nor `settle` may be repeated after Unavailable:
    count that lease as lost.
    """

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
        """Takes what is asked for, or what the cap leaves, 0 at the end; returns it.

        The cap may differ from call to call: under one below what is leased nothing is left.
        """

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
        """Adds what was spent of leases and frees what is given back.

        A negative give-back says how much more than the lease was spent; it counts as leased,
        beyond the cap if need be.
        """

    def spent(self, tenant_id: UUID, since: datetime) -> Sequence[BudgetRecord]:
        """The tenant's periods that began at `since` or later, newest first."""
