"""From a gRPC status back to the error that the server raised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from router.errors import (
    BundleRefused,
    ConfigurationError,
    Conflict,
    Infeasible,
    InvalidInput,
    LeadlineError,
    MigrationNeeded,
    NotFound,
    OutboxFull,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)

DETAILS = "grpc-status-details-bin"
DOMAIN = "leadline"

BY_REASON: Mapping[str, type[LeadlineError]] = {
    "INVALID_FIELD": InvalidInput,
    "QUERY_EMPTY": InvalidInput,
    "QUERY_TOO_LARGE": InvalidInput,
    "MALFORMED": InvalidInput,
    "BAD_ROWS": InvalidInput,
    "SLO_NOT_FOUND": NotFound,
    "ARM_NOT_FOUND": NotFound,
    "MODEL_NOT_FOUND": NotFound,
    "DECISION_NOT_FOUND": NotFound,
    "POLICY_NOT_FOUND": NotFound,
    "CERTIFICATE_NOT_FOUND": NotFound,
    "NOT_FOUND": NotFound,
    "REQUEST_ID_REUSED": Conflict,
    "CONFLICT": Conflict,
    "SLO_INFEASIBLE": Infeasible,
    "NO_ARMS": Infeasible,
    "BUDGET_EXHAUSTED": Infeasible,
    "BUNDLE_REFUSED": BundleRefused,
    "OUTBOX_FULL": OutboxFull,
    "OVERLOADED": Unavailable,
    "UNAUTHENTICATED": Unauthenticated,
    "ROLE_MISSING": PermissionDenied,
    "UNAVAILABLE": Unavailable,
    "MIGRATION_NEEDED": MigrationNeeded,
    "CONFIGURATION": ConfigurationError,
    "INTERNAL": LeadlineError,
    "DEADLINE": Unavailable,
    "BACKEND_FAILED": Unavailable,
    "ALLOWANCE_SPENT": Infeasible,
}
"""The class of every reason of the closed set in `protos/router/v1/errors.proto`."""

_BY_CODE: Mapping[grpc.StatusCode, tuple[type[LeadlineError], str]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidInput, "MALFORMED"),
    grpc.StatusCode.NOT_FOUND: (NotFound, "NOT_FOUND"),
    grpc.StatusCode.ALREADY_EXISTS: (Conflict, "REQUEST_ID_REUSED"),
    grpc.StatusCode.ABORTED: (Conflict, "CONFLICT"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (Unavailable, "OVERLOADED"),
    grpc.StatusCode.UNAUTHENTICATED: (Unauthenticated, "UNAUTHENTICATED"),
    grpc.StatusCode.PERMISSION_DENIED: (PermissionDenied, "ROLE_MISSING"),
    grpc.StatusCode.UNAVAILABLE: (Unavailable, "UNAVAILABLE"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (Unavailable, "DEADLINE"),
}


def error_of(error: grpc.RpcError, address: str) -> LeadlineError:
    """The error that the server raised, or what the connection's own failure amounts to."""
    status: Any = error
    info = _info(status.trailing_metadata() or ())
    text = status.details() or ""
    if info is not None and info.reason in BY_REASON:
        return named(info.reason, text, field=info.metadata.get("field", ""))
    code = status.code()
    kind, reason = _BY_CODE.get(code, (LeadlineError, "INTERNAL"))
    return kind(f"{address}: {_plain(code, text)}", reason=reason)


def named(reason: str, message: str, *, field: str = "") -> LeadlineError:
    """The error of a reason of the closed set; one of a newer server is a LeadlineError."""
    error = BY_REASON.get(reason, LeadlineError)(message or None, reason=reason)
    if isinstance(error, InvalidInput):
        error.field = field
    return error


def _info(metadata: Iterable[tuple[str, str | bytes]]) -> ErrorInfo | None:
    details = [value for key, value in metadata if key == DETAILS and isinstance(value, bytes)]
    if not details:
        return None
    try:
        status = Status.FromString(details[0])
    except DecodeError:
        return None
    info = ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            return info
    return None


def _plain(code: grpc.StatusCode, text: str) -> str:
    if code is grpc.StatusCode.UNAVAILABLE:
        return "no server answers there; start one with 'leadline serve' or set LEADLINE_ADDRESS"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no reply in time; try again, or give the client a longer timeout_s"
    return f"{code.name} {text}".strip()
