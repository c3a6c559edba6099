"""The seam to whatever answers calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from router.errors import LeadlineError
from router.execution.calls import Call, Completion, Failure, Piece, Usage


class BackendFailed(LeadlineError):
    """The backend did not answer; another arm may.

    `usage` is what the call spent before it failed, as far as it is known. The message
    never has text of the prompt or of the provider's reply.
    """

    reason = "BACKEND_FAILED"

    def __init__(
        self,
        message: str,
        *,
        failure: Failure,
        retry_after_s: float | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.retry_after_s = retry_after_s
        self.usage = usage or Usage()


def backend_failed(
    failure: Failure,
    model: str,
    *,
    detail: str = "",
    retry_after_s: float | None = None,
    usage: Usage | None = None,
) -> BackendFailed:
    """The error in words that say what to do."""
    return BackendFailed(
        f"the backend of model {model!r:.80} failed: {failure}{detail}; {_ADVICE[failure]}",
        failure=failure,
        retry_after_s=retry_after_s,
        usage=usage,
    )


_ADVICE = {
    Failure.RATE_LIMITED: "try again later, or raise its limits at the provider",
    Failure.OVERLOADED: "try again",
    Failure.REFUSED: "see whether it takes what is asked of it",
    Failure.NOT_SET_UP: "see its key and its name at the provider",
    Failure.UNREACHABLE: "see the model's endpoint in the catalog",
    Failure.BROKEN_OFF: "try again",
    Failure.GARBAGE: "see that its endpoint speaks OpenAI's chat completions",
    Failure.TIMEOUT: "allow it more time",
    Failure.BUSY: "raise LEADLINE_BACKEND_CONCURRENCY",
    Failure.OPEN_CIRCUIT: "it failed too often of late and is tried again soon",
    Failure.ABANDONED: "nobody waits for it",
}


class Backend(Protocol):
    """Answers calls to the models of one endpoint.

    Calls may be under way side by side on one event loop. Cancelling the task that awaits
    one, or closing the stream, reaches the provider: the connection is closed, so that it
    stops spending. A call is sent once: retries are their caller's.
    """

    async def complete(self, call: Call, *, timeout_s: float) -> Completion:
        """The whole answer. Raises BackendFailed."""
        ...

    def stream(self, call: Call, *, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """The answer as it is written, one sample; the last piece has the completion.

        `timeout_s` bounds the whole stream. Raises BackendFailed.
        """
        ...

    async def close(self) -> None:
        """Ends what is under way; may be called twice."""
        ...
