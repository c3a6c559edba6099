"""The one place where an error becomes a status and a body in OpenAI's error format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from router.errors import InvalidInput, LeadlineError
from router.execution.backend import BackendFailed
from router.execution.calls import Failure

LONGEST_MESSAGE = 1_000
RETRY_AFTER_S = 1.0
LONGEST_RETRY_AFTER_S = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A status, OpenAI's `type`, and its `code` where that is not our reason in small letters.

    `again` tells OpenAI's clients, by `x-should-retry`, whether to send the same once more;
    None leaves it to the status.
    """

    status: int
    type: str = "invalid_request_error"
    code: str = ""
    again: bool | None = None


_SERVER, _LIMIT = "server_error", "rate_limit_error"
_AWAY = Kind(status=503, type=_SERVER)
_NOT_SET_UP = Kind(status=503, type=_SERVER, again=False)

KINDS: Mapping[str, Kind] = {
    "INVALID_FIELD": Kind(status=400),
    "QUERY_EMPTY": Kind(status=400),
    "QUERY_TOO_LARGE": Kind(status=413),
    "MALFORMED": Kind(status=400),
    "UNAUTHENTICATED": Kind(status=401, code="invalid_api_key"),
    "ROLE_MISSING": Kind(status=403, type="permission_error"),
    "NOT_FOUND": Kind(status=404),
    "SLO_NOT_FOUND": Kind(status=404),
    "ARM_NOT_FOUND": Kind(status=404),
    "MODEL_NOT_FOUND": Kind(status=404),
    "DECISION_NOT_FOUND": Kind(status=404),
    "METHOD_NOT_ALLOWED": Kind(status=405),
    "BODY_LATE": Kind(status=408),
    "REQUEST_ID_REUSED": Kind(status=409, again=False),
    "CONFLICT": Kind(status=409),
    "BODY_TOO_LARGE": Kind(status=413),
    "NOT_JSON": Kind(status=415),
    "SLO_INFEASIBLE": Kind(status=422),
    "ALLOWANCE_SPENT": Kind(status=422),
    "BUDGET_EXHAUSTED": Kind(
        status=429, type="insufficient_quota", code="insufficient_quota", again=False
    ),
    "OVERLOADED": Kind(status=429, type=_LIMIT),
    "OUTBOX_FULL": _AWAY,
    "UNAVAILABLE": _AWAY,
    "NO_ARMS": _NOT_SET_UP,
    "CONFIGURATION": _NOT_SET_UP,
    "DEADLINE": Kind(status=504, type=_SERVER),
    "ANSWER_BROKEN_OFF": Kind(status=502, type=_SERVER),
}
"""By the reason of an error; any other is a fault of Leadline, 500."""

FAILURES: Mapping[Failure, Kind] = {
    Failure.RATE_LIMITED: Kind(status=429, type=_LIMIT),
    Failure.BUSY: Kind(status=429, type=_LIMIT),
    Failure.REFUSED: Kind(status=400),
    Failure.NOT_SET_UP: _NOT_SET_UP,
    Failure.OPEN_CIRCUIT: Kind(status=503, type=_SERVER),
    Failure.TIMEOUT: Kind(status=504, type=_SERVER),
}
"""By how the backend failed, 502 for the rest; the code is `backend_` + that."""

_BAD_GATEWAY = Kind(status=502, type=_SERVER)
_FAULT = Kind(status=500, type=_SERVER, code="internal_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a client gets in place of an answer."""

    status: int
    error: Mapping[str, str | None]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The error as JSON."""
        return orjson.dumps({"error": self.error})


def refusal(error: LeadlineError) -> Refusal:
    """The error for whoever asked."""
    kind = _kind(error)
    message = error.message[:LONGEST_MESSAGE]
    param = error.field if isinstance(error, InvalidInput) else ""
    told = {"message": message, "type": kind.type, "param": param or None, "code": _code(error)}
    return Refusal(status=kind.status, error=told, headers=_headers(error, kind))


def _kind(error: LeadlineError) -> Kind:
    if isinstance(error, BackendFailed):
        return FAILURES.get(error.failure, _BAD_GATEWAY)
    return KINDS.get(error.reason, _FAULT)


def _code(error: LeadlineError) -> str:
    if isinstance(error, BackendFailed):
        return f"backend_{error.failure}"
    return _kind(error).code or error.reason.lower()


def _headers(error: LeadlineError, kind: Kind) -> dict[str, str]:
    headers = {}
    if kind.again is not None:
        headers["x-should-retry"] = "true" if kind.again else "false"
    if kind.status in (429, 503) and kind.again is not False:
        told = error.retry_after_s if isinstance(error, BackendFailed) else None
        wait_s = RETRY_AFTER_S if told is None else min(max(told, 0.0), LONGEST_RETRY_AFTER_S)
        headers["retry-after"] = f"{wait_s:.0f}"
        headers["retry-after-ms"] = f"{1000 * wait_s:.0f}"
    return headers
