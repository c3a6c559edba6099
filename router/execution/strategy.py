"""The seam to strategies: how inference compute is spent on one query.

A strategy asks through a `Caller`, which counts and bounds what it spends, and answers with
what it has when the allowance runs out. One file each in `strategies`; others come by the
entry-point group `leadline.strategies`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from router.errors import LeadlineError
from router.execution.calls import Completion, Message, Options, Piece, Said
from router.types import Evidence


class AllowanceSpent(LeadlineError):
    """The attempt's allowance of calls, tokens, dollars or time is spent.

    Its reason is DEADLINE where it is the time.
    """

    reason = "ALLOWANCE_SPENT"


def time_spent() -> AllowanceSpent:
    """The error where the time ran out before a call could bring anything."""
    return AllowanceSpent(
        "the time ran out before an answer was there; allow it more", reason="DEADLINE"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What one attempt may spend at most.

    `output_tokens` and `calls` are of all calls together, `seconds` of the attempt's wall
    clock, `usd` at the model's prices; infinite means unbounded.
    """

    calls: float = float("inf")
    output_tokens: float = float("inf")
    seconds: float = float("inf")
    usd: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be answered, with how answers are read and checked.

    `answer_kind` names a kind of `answers` ("text", "number", "choice", "json", "code", or
    "auto"); `verifier` is "model" or a verifier's name and `verifier_params` its settings.
    `samples` is how many answers the caller wants to choose from, where a strategy can give
    more than one for less than running it again.
    """

    messages: tuple[Message, ...]
    options: Options
    answer_kind: str = "auto"
    verifier: str = "model"
    verifier_params: Mapping[str, Any] | None = None
    samples: int = 1


class Caller(Protocol):
    """Calls one model for one attempt, within its allowance.

    May be used side by side by tasks of one event loop. A failed call is tried again where
    that is safe and the allowance has room. What is asked for is cut to what is left.
    """

    async def ask(
        self,
        messages: Sequence[Message],
        options: Options,
        *,
        samples: int = 1,
        thought_tokens: int | None = None,
    ) -> Completion:
        """One call. Raises BackendFailed, and AllowanceSpent where nothing is left for it."""
        ...

    def stream(
        self,
        messages: Sequence[Message],
        options: Options,
        *,
        thought_tokens: int | None = None,
    ) -> AsyncGenerator[Piece, None]:
        """One call, as it is written. Raises as `ask` does; close it where it is left early."""
        ...

    def left(self) -> Allowance:
        """What is left to spend."""
        ...

    def tell(self, progress: str) -> None:
        """Tells whoever waits what is going on, in a few words without the query's text."""
        ...

    def write(self, piece: Piece) -> None:
        """Passes on a piece of what will be the answer, for whoever reads it as it is written.

        Only a strategy whose final answer is one call streams it, and only where `streams`.
        """
        ...

    @property
    def streams(self) -> bool:
        """Whether someone reads the answer as it is written."""
        ...

    @property
    def reasons(self) -> bool:
        """Whether the model thinks by itself, so that `thought_tokens` mean something to it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an attempt came to.

    `said` is what the caller gets, `others` are more answers where `samples` asked for them;
    `extracted` is the answer alone, None where none could be read; `cut_short` tells that the
    allowance ran out before the strategy was done. Of `evidence` a strategy gives confidence
    and verifier score; what was spent and how long it took is counted for it.
    """

    said: Said
    evidence: Evidence
    extracted: str | None = None
    cut_short: bool = False
    others: tuple[Said, ...] = ()


class Runnable(Protocol):
    """Runs one strategy.

    Its params are the arm's. It holds no state between runs, makes no call but through the
    caller, and lets BackendFailed pass only when it has no answer to give.
    """

    name: str

    async def run(self, task: Task, params: Mapping[str, Any], caller: Caller) -> Answer:
        """Raises BackendFailed, AllowanceSpent where not even one call was allowed."""
        ...
