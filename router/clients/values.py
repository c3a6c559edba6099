"""What a client hands back, and the outcome that it sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from router.conditions import MonitorState, Reason
from router.explanation import Explanation
from router.policy.rehearsal import Rehearsal
from router.types import Arm, PolicySource, SloStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What one arm is expected to bring; a latency is None where it was never measured.

    `accuracy_low` and `accuracy_high` bound the central 90 % interval.
    """

    arm: Arm
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    cost_usd: float
    latency_p50_s: float | None
    latency_p95_s: float | None
    latency_p99_s: float | None
    energy_wh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorCertificate:
    """A certificate of an slo's accuracy floor under one policy, with what it says."""

    certificate_id: UUID
    slo: str
    slo_version: int
    policy_version: int
    created_at: datetime
    statement: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedDecision:
    """A decision as the server answers it: the chosen arm's prediction, and why.

    `explanation` is there when it was asked for; `certificate_id` names the certificate of
    the slo's floor that set the trade-off, and `monitor` is what outcomes say of the floor.
    `gco2e` are the grams that the arm is expected to emit.
    """

    decision_id: UUID
    chosen: Prediction
    difficulty: float
    propensity: float
    alternatives: tuple[Prediction, ...]
    slo_status: SloStatus
    slo_version: int
    reason: str
    policy_version: int
    policy_source: PolicySource
    should_continue: bool
    input_tokens: int
    explanation: Explanation | None = None
    reasons: tuple[Reason, ...] = ()
    certificate_id: str = ""
    monitor: MonitorState | None = None
    novelty: float | None = None
    gco2e: float = 0.0

    @property
    def arm(self) -> Arm:
        """The arm to run."""
        return self.chosen.arm

    @property
    def accuracy(self) -> float:
        """The predicted probability that its answer is correct."""
        return self.chosen.accuracy

    @property
    def cost_usd(self) -> float:
        """Its expected cost."""
        return self.chosen.cost_usd

    @property
    def latency_p95_s(self) -> float | None:
        """The 0.95 quantile of its latency; None where it was never measured."""
        return self.chosen.latency_p95_s


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """What to do after an attempt: keep the answer of `attempt`, or run `chosen` as `attempt`.

    `accuracy` is the probability that the answer in hand is correct.
    """

    keep: bool
    chosen: Prediction | None
    attempt: int
    accuracy: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeReport:
    """What became of an attempt, as the caller knows it.

    `score` is in [0, 1]; `error` says what failed, and then there is no score. Without a
    `request_id` the same report twice counts once. `time_to_first_token_s` is that of the
    attempt's first call.
    """

    decision_id: UUID | str
    attempt: int = 0
    score: float | None = None
    source: str = ""
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    confidence: float | None = None
    error: str = ""
    occurred_at: datetime | None = None
    request_id: UUID | None = None
    time_to_first_token_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedOutcome:
    """An outcome that was refused, by its place among those reported, from 0."""

    index: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomesSummary:
    """What became of many outcomes; `refused` holds the first 100 of each 500."""

    accepted: int
    refused: tuple[RefusedOutcome, ...]
    refused_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRecord:
    """An outcome as it was logged."""

    outcome_id: UUID
    attempt: int
    score: float | None
    source: str
    cost_usd: float | None
    latency_s: float | None
    error: str
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision as it was logged, with every arm's prediction and the outcomes so far."""

    decision: RoutedDecision
    occurred_at: datetime
    slo: str
    labels: Mapping[str, str]
    predictions: tuple[Prediction, ...]
    outcomes: tuple[OutcomeRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What an slo would have done on decisions that were made before it.

    They are those of the slo `decisions_of`, or of all the tenant's where that is empty;
    `decisions_found` counts the newest 200,000 at most, of which a random share was looked
    at. The policy of `policy_version` (0: the static fallback) chose; `of_other_policies`
    of the decisions were predicted by another one. `certifiable` is None where nobody has
    looked whether the floor could be certified.
    """

    rehearsal: Rehearsal
    warnings: tuple[str, ...]
    decisions_of: str
    decisions_found: int
    oldest: datetime | None
    newest: datetime | None
    policy_version: int
    of_other_policies: int
    certifiable: bool | None = None
    certificate_note: str = ""


class SloWarning(UserWarning):
    """An slo names what the catalog does not have, or not yet."""
