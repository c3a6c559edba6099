"""From the server's replies to values."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from google.protobuf.json_format import MessageToDict

from router.clients.errors import named
from router.clients.mapping import plain, time_of
from router.clients.messages import arm_of, model_of, policy_record_of, slo_of
from router.clients.values import (
    DecisionRecord,
    DryRun,
    FloorCertificate,
    NextStep,
    OutcomeRecord,
    OutcomesSummary,
    Prediction,
    RefusedOutcome,
    RoutedDecision,
    SloWarning,
)
from router.conditions import Limit, MonitorState, Reason
from router.errors import LeadlineError
from router.explanation import (
    AccuracyTerms,
    Contribution,
    ExplainedArm,
    Explanation,
    LeftOut,
    Neighbour,
)
from router.policy.rehearsal import Estimate, Figures, Rehearsal
from router.slo import Slo
from router.types import Arm, Model, PolicyRecord, PolicySource, SloStatus
from router.v1 import catalog_pb2, policies_pb2, router_pb2, slos_pb2

_SLO_STATUS = {
    router_pb2.SLO_STATUS_MET: SloStatus.MET,
    router_pb2.SLO_STATUS_BEST_EFFORT: SloStatus.BEST_EFFORT,
    router_pb2.SLO_STATUS_NO_SLO: SloStatus.NO_SLO,
}
_POLICY_SOURCE = {
    router_pb2.POLICY_SOURCE_LEARNED: PolicySource.LEARNED,
    router_pb2.POLICY_SOURCE_STATIC: PolicySource.STATIC,
    router_pb2.POLICY_SOURCE_IMPORT: PolicySource.IMPORT,
}


def decision(message: router_pb2.RouteResponse) -> RoutedDecision:
    """Reads a decision."""
    return RoutedDecision(
        decision_id=UUID(message.decision_id),
        chosen=prediction(message.chosen),
        difficulty=message.difficulty,
        propensity=message.propensity,
        alternatives=tuple(map(prediction, message.alternatives)),
        slo_status=_SLO_STATUS[message.slo_status],
        slo_version=message.slo_version,
        reason=message.reason,
        policy_version=message.policy_version,
        policy_source=_POLICY_SOURCE[message.policy_source],
        should_continue=message.should_continue,
        input_tokens=message.input_tokens,
        explanation=explanation(message.explanation) if message.HasField("explanation") else None,
        reasons=tuple(map(_reason, message.reasons)),
        certificate_id=message.certificate_id,
        monitor=MonitorState(message.monitor) if message.monitor else None,
        novelty=message.novelty if message.HasField("novelty") else None,
        gco2e=message.gco2e,
    )


def certificates(message: slos_pb2.ListCertificatesResponse) -> tuple[FloorCertificate, ...]:
    """Reads certificates."""
    return tuple(map(certificate, message.certificates))


def certificate(message: slos_pb2.Certificate) -> FloorCertificate:
    """Reads one certificate."""
    return FloorCertificate(
        certificate_id=UUID(message.certificate_id),
        slo=message.slo,
        slo_version=message.slo_version,
        policy_version=message.policy_version,
        created_at=time_of(message.created_at),
        statement=MessageToDict(message.statement),
    )


def _reason(message: router_pb2.Reason) -> Reason:
    return Reason(
        limit=Limit(message.limit),
        left_out=message.left_out,
        bound=message.bound if message.HasField("bound") else None,
        binding=message.binding,
        note=message.note,
    )


def explanation(message: router_pb2.Explanation) -> Explanation:
    """Reads what moved a choice."""
    return Explanation(
        note=message.note,
        value_usd=message.value_usd if message.HasField("value_usd") else None,
        planned=message.planned,
        arms=tuple(map(_explained, message.arms)),
        left_out=tuple(
            LeftOut(limit=each.limit, arms=tuple(each.arms)) for each in message.left_out
        ),
    )


def _explained(message: router_pb2.ExplainedArm) -> ExplainedArm:
    return ExplainedArm(
        arm=message.arm,
        feasible=message.feasible,
        accuracy=message.accuracy,
        cost_usd=message.cost_usd,
        utility_usd=message.utility_usd if message.HasField("utility_usd") else None,
        terms=_terms(message.terms) if message.HasField("terms") else None,
    )


def _terms(message: router_pb2.AccuracyTerms) -> AccuracyTerms:
    return AccuracyTerms(
        mean=message.mean,
        signals=tuple(map(_contribution, message.signals)),
        trees_expected=message.trees_expected,
        trees=tuple(map(_contribution, message.trees)),
        trees_other=message.trees_other,
        log_odds=message.log_odds,
        slope=message.slope,
        offset=message.offset,
        probability=message.probability,
        neighbours=tuple(map(_neighbour, message.neighbours)),
    )


def _contribution(message: router_pb2.Contribution) -> Contribution:
    return Contribution(
        name=message.name,
        value=message.value if message.HasField("value") else None,
        log_odds=message.log_odds,
    )


def _neighbour(message: router_pb2.Neighbour) -> Neighbour:
    return Neighbour(**{name: getattr(message, name) for name in Neighbour.__slots__})


def prediction(message: router_pb2.Prediction) -> Prediction:
    """Reads what an arm is expected to bring."""
    return Prediction(
        arm=arm_of(message.arm),
        accuracy=message.accuracy,
        accuracy_low=message.accuracy_low,
        accuracy_high=message.accuracy_high,
        cost_usd=message.cost_usd,
        latency_p50_s=message.latency_p50_s if message.HasField("latency_p50_s") else None,
        latency_p95_s=message.latency_p95_s if message.HasField("latency_p95_s") else None,
        latency_p99_s=message.latency_p99_s if message.HasField("latency_p99_s") else None,
        energy_wh=message.energy_wh,
    )


def batch(message: router_pb2.RouteBatchResponse) -> tuple[RoutedDecision | LeadlineError, ...]:
    """Reads many decisions, each a decision or the error in its place."""
    return tuple(
        decision(result.response)
        if result.HasField("response")
        else named(result.error.reason, result.error.message)
        for result in message.results
    )


def next_step(message: router_pb2.ContinueResponse) -> NextStep:
    """Reads what to do after an attempt."""
    return NextStep(
        keep=message.keep,
        chosen=prediction(message.next) if message.HasField("next") else None,
        attempt=message.attempt,
        accuracy=message.accuracy,
        reason=message.reason,
    )


def outcome_id(message: router_pb2.ReportOutcomeResponse) -> UUID:
    """Reads the id of a reported outcome."""
    return UUID(message.outcome_id)


def unread(message: router_pb2.ReportOutcomesResponse) -> router_pb2.ReportOutcomesResponse:
    """Leaves the reply to one stream of a long report for `summary`."""
    return message


def summary(
    replies: Iterable[tuple[int, router_pb2.ReportOutcomesResponse]],
) -> OutcomesSummary:
    """Adds up the replies to the parts of a long report; each comes with its first index."""
    accepted, refused_count = 0, 0
    refused: list[RefusedOutcome] = []
    for start, reply in replies:
        accepted += reply.accepted
        refused_count += reply.refused_count
        refused += [
            RefusedOutcome(index=start + each.index, reason=each.reason, message=each.message)
            for each in reply.refused
        ]
    return OutcomesSummary(accepted=accepted, refused=tuple(refused), refused_count=refused_count)


def decision_record(message: router_pb2.GetDecisionResponse) -> DecisionRecord:
    """Reads a decision as it was logged."""
    return DecisionRecord(
        decision=decision(message.decision),
        occurred_at=time_of(message.occurred_at),
        slo=message.slo,
        labels=dict(message.labels),
        predictions=tuple(map(prediction, message.predictions)),
        outcomes=tuple(map(_outcome, message.outcomes)),
    )


def _outcome(message: router_pb2.OutcomeRecord) -> OutcomeRecord:
    return OutcomeRecord(
        outcome_id=UUID(message.outcome_id),
        attempt=message.attempt,
        score=message.score if message.HasField("score") else None,
        source=message.source,
        cost_usd=message.cost_usd if message.HasField("cost_usd") else None,
        latency_s=message.latency_s if message.HasField("latency_s") else None,
        error=message.error,
        occurred_at=time_of(message.occurred_at),
    )


def slos(message: slos_pb2.ListSlosResponse) -> tuple[Slo, ...]:
    """Reads slos."""
    return tuple(map(slo_of, message.slos))


def slo(message: slos_pb2.GetSloResponse) -> Slo:
    """Reads one slo."""
    return slo_of(message.slo)


def written_slo(message: slos_pb2.PutSloResponse) -> Slo:
    """Reads an slo that was written, and warns of what the server warns of."""
    for text in message.warnings:
        warnings.warn(f"slo {message.slo.name}: {text}", SloWarning, stacklevel=4)
    return slo_of(message.slo)


def dry_run(message: slos_pb2.DryRunSloResponse) -> DryRun:
    """Reads what an slo would have done."""
    return DryRun(**plain(message) | {"rehearsal": _rehearsal(message.rehearsal)})


def _rehearsal(message: slos_pb2.Rehearsal) -> Rehearsal:
    said = plain(message)
    for kind, names in _PARTS_OF_REHEARSAL.items():
        said |= {name: kind(**said[name]) for name in names if said[name] is not None}
    return Rehearsal(**said)


_PARTS_OF_REHEARSAL: Mapping[type, Sequence[str]] = {
    Figures: ("predicted", "decided"),
    Estimate: ("accuracy", "cost_usd", "latency_s"),
}


def models(message: catalog_pb2.ListModelsResponse) -> tuple[Model, ...]:
    """Reads models."""
    return tuple(map(model_of, message.models))


def arms(message: catalog_pb2.ListArmsResponse) -> tuple[Arm, ...]:
    """Reads arms."""
    return tuple(map(arm_of, message.arms))


def revision(message: catalog_pb2.PutModelResponse | catalog_pb2.PutArmResponse) -> int:
    """Reads the catalog's revision."""
    return message.revision


def policies(message: policies_pb2.ListPoliciesResponse) -> tuple[PolicyRecord, ...]:
    """Reads registered policies."""
    return tuple(map(policy_record_of, message.policies))


class _OfPolicy(Protocol):
    @property
    def policy(self) -> policies_pb2.Policy: ...


def policy(message: _OfPolicy) -> PolicyRecord:
    """Reads one registered policy."""
    return policy_record_of(message.policy)


def policy_or_none(message: policies_pb2.RollbackPolicyResponse) -> PolicyRecord | None:
    """Reads the policy that serves after a rollback; None is the static fallback."""
    return policy_record_of(message.policy) if message.HasField("policy") else None
