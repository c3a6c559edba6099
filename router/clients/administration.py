"""The calls on what stands behind decisions: slos, the catalog, policies."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from router.clients import replies
from router.clients.calls import Call, identify
from router.clients.messages import arm_message, model_message, slo_message
from router.clients.values import DryRun, FloorCertificate
from router.slo import Slo
from router.types import Arm, Model, PolicyRecord, check_arm
from router.v1 import catalog_pb2, policies_pb2, slos_pb2


def list_slos() -> Call[tuple[Slo, ...]]:
    """The newest version of every slo of the tenant, by name."""
    return Call(
        service="Slos",
        method="ListSlos",
        request=slos_pb2.ListSlosRequest(),
        response=slos_pb2.ListSlosResponse,
        read=replies.slos,
    )


def get_slo(name: str = "default", *, version: int = 0) -> Call[Slo]:
    """One slo; version 0 is the newest."""
    return Call(
        service="Slos",
        method="GetSlo",
        request=slos_pb2.GetSloRequest(name=name, version=version),
        response=slos_pb2.GetSloResponse,
        read=replies.slo,
    )


def put_slo(
    slo: Slo, *, base_version: int | None = None, request_id: UUID | None = None
) -> Call[Slo]:
    """Writes the slo's next version; Conflict when `base_version` is given and not the newest.

    Warns with SloWarning of names in it that the catalog does not have.
    """
    return Call(
        service="Slos",
        method="PutSlo",
        request=slos_pb2.PutSloRequest(
            request_id=identify(request_id), slo=slo_message(slo), base_version=base_version
        ),
        response=slos_pb2.PutSloResponse,
        read=replies.written_slo,
    )


def dry_run_slo(slo: Slo, *, window: timedelta = timedelta(days=7)) -> Call[DryRun]:
    """Says what the slo would have done on the window's decisions; writes nothing.

    Takes some seconds: give the client a `timeout_s` of a minute.
    """
    request = slos_pb2.DryRunSloRequest(slo=slo_message(slo))
    request.window.FromTimedelta(window)
    return Call(
        service="Slos",
        method="DryRunSlo",
        request=request,
        response=slos_pb2.DryRunSloResponse,
        read=replies.dry_run,
    )


def list_certificates(slo: str = "", *, limit: int = 50) -> Call[tuple[FloorCertificate, ...]]:
    """The certificates of an slo's floor, or of all, newest first."""
    return Call(
        service="Slos",
        method="ListCertificates",
        request=slos_pb2.ListCertificatesRequest(slo=slo, limit=limit),
        response=slos_pb2.ListCertificatesResponse,
        read=replies.certificates,
    )


def get_certificate(certificate_id: UUID | str) -> Call[FloorCertificate]:
    """One certificate, as a decision names it."""
    return Call(
        service="Slos",
        method="GetCertificate",
        request=slos_pb2.GetCertificateRequest(certificate_id=str(certificate_id)),
        response=slos_pb2.GetCertificateResponse,
        read=lambda reply: replies.certificate(reply.certificate),
    )


def list_models() -> Call[tuple[Model, ...]]:
    """All models, weakest tier first."""
    return Call(
        service="Catalog",
        method="ListModels",
        request=catalog_pb2.ListModelsRequest(),
        response=catalog_pb2.ListModelsResponse,
        read=replies.models,
    )


def put_model(model: Model, *, request_id: UUID | None = None) -> Call[int]:
    """Adds or replaces a model; returns the catalog's revision."""
    return Call(
        service="Catalog",
        method="PutModel",
        request=catalog_pb2.PutModelRequest(
            request_id=identify(request_id), model=model_message(model)
        ),
        response=catalog_pb2.PutModelResponse,
        read=replies.revision,
    )


def list_arms() -> Call[tuple[Arm, ...]]:
    """The enabled arms, in the order of every decision's predictions."""
    return Call(
        service="Catalog",
        method="ListArms",
        request=catalog_pb2.ListArmsRequest(),
        response=catalog_pb2.ListArmsResponse,
        read=replies.arms,
    )


def put_arm(arm: Arm, *, enabled: bool = True, request_id: UUID | None = None) -> Call[int]:
    """Adds or switches an arm; returns the catalog's revision. Raises as `check_arm`."""
    check_arm(arm)
    return Call(
        service="Catalog",
        method="PutArm",
        request=catalog_pb2.PutArmRequest(
            request_id=identify(request_id), arm=arm_message(arm), enabled=enabled
        ),
        response=catalog_pb2.PutArmResponse,
        read=replies.revision,
    )


def list_policies(*, limit: int = 50) -> Call[tuple[PolicyRecord, ...]]:
    """The registered policies, newest first."""
    return Call(
        service="Policies",
        method="ListPolicies",
        request=policies_pb2.ListPoliciesRequest(page_size=limit),
        response=policies_pb2.ListPoliciesResponse,
        read=replies.policies,
    )


def get_policy(version: int) -> Call[PolicyRecord]:
    """One registered policy."""
    return Call(
        service="Policies",
        method="GetPolicy",
        request=policies_pb2.GetPolicyRequest(version=version),
        response=policies_pb2.GetPolicyResponse,
        read=replies.policy,
    )


def start_canary(
    version: int, *, share: float, comment: str = "", request_id: UUID | None = None
) -> Call[PolicyRecord]:
    """Tries a policy on a share of the traffic, or changes the canary's share.

    At 0 it decides beside the active one, unserved. Conflict while another is the canary.
    """
    return Call(
        service="Policies",
        method="StartCanary",
        request=policies_pb2.StartCanaryRequest(
            request_id=identify(request_id), version=version, share=share, comment=comment
        ),
        response=policies_pb2.StartCanaryResponse,
        read=replies.policy,
    )


def reject_policy(
    version: int, *, comment: str = "", request_id: UUID | None = None
) -> Call[PolicyRecord]:
    """Ends a canary, or drops a candidate; Conflict for one that is active or previous."""
    return Call(
        service="Policies",
        method="RejectPolicy",
        request=policies_pb2.RejectPolicyRequest(
            request_id=identify(request_id), version=version, comment=comment
        ),
        response=policies_pb2.RejectPolicyResponse,
        read=replies.policy,
    )


def promote_policy(
    version: int, *, comment: str = "", request_id: UUID | None = None
) -> Call[PolicyRecord]:
    """Makes a policy the active one."""
    return Call(
        service="Policies",
        method="PromotePolicy",
        request=policies_pb2.PromotePolicyRequest(
            request_id=identify(request_id), version=version, comment=comment
        ),
        response=policies_pb2.PromotePolicyResponse,
        read=replies.policy,
    )


def rollback_policy(
    *, version: int = 0, comment: str = "", request_id: UUID | None = None
) -> Call[PolicyRecord | None]:
    """Returns to the previous policy; None when the static fallback serves now.

    `version` is the one to leave: Conflict when it is not the active one; 0 is whichever.
    """
    return Call(
        service="Policies",
        method="RollbackPolicy",
        request=policies_pb2.RollbackPolicyRequest(
            request_id=identify(request_id), version=version, comment=comment
        ),
        response=policies_pb2.RollbackPolicyResponse,
        read=replies.policy_or_none,
    )
