"""What the openai library raises, as failures; litellm raises its subclasses."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import openai

from router.execution.backend import BackendFailed, backend_failed
from router.execution.calls import Call, Failure, Usage

_NEVER_CONNECTED = ("ConnectError", "ConnectTimeout", "UnsupportedProtocol", "PoolTimeout")
_OUT_OF_CREDIT = "insufficient_quota"
LONGEST_WAIT_S = 3_600.0


def failed(error: Exception, call: Call, spent: Usage) -> BackendFailed:
    """The failure without a word of the prompt or the reply; `spent` is what it may have cost."""
    failure, status = _failure(error), getattr(error, "status_code", None)
    return backend_failed(
        failure,
        call.model.name,
        detail=f" (status {status})" if isinstance(status, int) else "",
        retry_after_s=_retry_after_s(error),
        usage=spent if failure in _SPENDING else None,
    )


_SPENDING = {Failure.TIMEOUT, Failure.BROKEN_OFF, Failure.GARBAGE}


_KINDS: tuple[tuple[type[Exception], Failure], ...] = (
    (TimeoutError, Failure.TIMEOUT),
    (openai.APITimeoutError, Failure.TIMEOUT),
    (openai.APIConnectionError, Failure.BROKEN_OFF),
    (openai.APIResponseValidationError, Failure.GARBAGE),
    (openai.RateLimitError, Failure.RATE_LIMITED),
    (openai.InternalServerError, Failure.OVERLOADED),
    (openai.AuthenticationError, Failure.NOT_SET_UP),
    (openai.PermissionDeniedError, Failure.NOT_SET_UP),
    (openai.NotFoundError, Failure.NOT_SET_UP),
    (openai.APIStatusError, Failure.REFUSED),
    (openai.APIError, Failure.OVERLOADED),
    (ValueError, Failure.GARBAGE),
    (TypeError, Failure.GARBAGE),
    (AttributeError, Failure.GARBAGE),
    (KeyError, Failure.GARBAGE),
)


def _failure(error: Exception) -> Failure:
    error = _own(error)
    found = next((word for kind, word in _KINDS if isinstance(error, kind)), Failure.BROKEN_OFF)
    out_of_credit = getattr(error, "code", None) == _OUT_OF_CREDIT
    if out_of_credit or getattr(error, "status_code", None) == 402:
        return Failure.NOT_SET_UP
    if getattr(error, "status_code", None) == 408:
        return Failure.TIMEOUT
    return Failure.UNREACHABLE if _unconnected(error) else found


def _own(error: Exception) -> Exception:
    """What an error of litellm is for, as far as it tells; any other as it is."""
    own: BaseException | None = error
    while own is not None and type(own).__module__.startswith("litellm"):
        own = own.__cause__ or own.__context__
    return own if isinstance(own, Exception) else error


def _unconnected(error: Exception) -> bool:
    """Whether no connection was ever made, so that nothing was sent."""
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ in _NEVER_CONNECTED:
            return True
        cause = cause.__cause__
    return False


def _retry_after_s(error: Exception) -> float | None:
    """What the provider's headers say; None where they say nothing that can be read."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            seconds = float(milliseconds) / 1e3
        elif (text := headers.get("retry-after")) is None:
            return None
        elif text.replace(".", "", 1).isdigit():
            seconds = float(text)
        else:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT_S)
