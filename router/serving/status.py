"""The one place where an error becomes a gRPC status with a google.rpc.ErrorInfo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc_status import rpc_status

from router.errors import InvalidInput, LeadlineError

if TYPE_CHECKING:
    import grpc

DOMAIN = "leadline"
LONGEST_MESSAGE = 1_000

CODES: Mapping[str, StatusCode] = {
    "INVALID_FIELD": StatusCode.INVALID_ARGUMENT,
    "QUERY_EMPTY": StatusCode.INVALID_ARGUMENT,
    "QUERY_TOO_LARGE": StatusCode.INVALID_ARGUMENT,
    "MALFORMED": StatusCode.INVALID_ARGUMENT,
    "BAD_ROWS": StatusCode.INVALID_ARGUMENT,
    "SLO_NOT_FOUND": StatusCode.NOT_FOUND,
    "ARM_NOT_FOUND": StatusCode.NOT_FOUND,
    "MODEL_NOT_FOUND": StatusCode.NOT_FOUND,
    "DECISION_NOT_FOUND": StatusCode.NOT_FOUND,
    "POLICY_NOT_FOUND": StatusCode.NOT_FOUND,
    "CERTIFICATE_NOT_FOUND": StatusCode.NOT_FOUND,
    "NOT_FOUND": StatusCode.NOT_FOUND,
    "REQUEST_ID_REUSED": StatusCode.ALREADY_EXISTS,
    "CONFLICT": StatusCode.ABORTED,
    "SLO_INFEASIBLE": StatusCode.FAILED_PRECONDITION,
    "NO_ARMS": StatusCode.FAILED_PRECONDITION,
    "BUNDLE_REFUSED": StatusCode.FAILED_PRECONDITION,
    "MIGRATION_NEEDED": StatusCode.FAILED_PRECONDITION,
    "CONFIGURATION": StatusCode.FAILED_PRECONDITION,
    "BUDGET_EXHAUSTED": StatusCode.RESOURCE_EXHAUSTED,
    "OUTBOX_FULL": StatusCode.RESOURCE_EXHAUSTED,
    "OVERLOADED": StatusCode.RESOURCE_EXHAUSTED,
    "UNAUTHENTICATED": StatusCode.UNAUTHENTICATED,
    "ROLE_MISSING": StatusCode.PERMISSION_DENIED,
    "ALLOWANCE_SPENT": StatusCode.RESOURCE_EXHAUSTED,
    "BACKEND_FAILED": StatusCode.UNAVAILABLE,
    "UNAVAILABLE": StatusCode.UNAVAILABLE,
    "DEADLINE": StatusCode.DEADLINE_EXCEEDED,
    "INTERNAL": StatusCode.INTERNAL,
}
"""The code of every reason of the closed set in protos/router/v1/errors.proto."""


class Unexpected(LeadlineError):
    """A fault of Leadline, under the id by which the log has its details."""

    def __init__(self) -> None:
        self.fault_id = uuid4().hex
        super().__init__(f"a fault of Leadline; its log has the details under {self.fault_id}")


def code_of(error: LeadlineError) -> StatusCode:
    """The gRPC code of the error's reason."""
    return CODES.get(error.reason, StatusCode.INTERNAL)


def status_of(error: LeadlineError) -> grpc.Status:
    """The status with its ErrorInfo: reason, domain, and the field where one is wrong."""
    message = error.message[:LONGEST_MESSAGE]
    field = error.field if isinstance(error, InvalidInput) else ""
    info = ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata={"field": field} if field else None
    )
    detail = AnyMessage()
    detail.Pack(info)
    code: Any = code_of(error).value
    status: grpc.Status = rpc_status.to_status(
        Status(code=code[0], message=message, details=[detail])
    )
    return status
