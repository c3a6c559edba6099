"""Routes, runs the caller's own function, continues, and reports, with no I/O of its own.

`walk` is a generator that says what to do next; a client does it and sends back what came
of it. So the order of things stands once, for the client that blocks and the one that awaits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from router.clients.calls import Call, Query, RouteOptions, continue_, report_outcome, route
from router.clients.values import NextStep, RoutedDecision
from router.errors import LeadlineError
from router.types import Arm, Evidence

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(Generic[T]):
    """An answer with what the caller's function knows of it; every figure helps the policy.

    `confidence` is a mean token log-probability (<= 0) or an agreement between samples in
    [0, 1]. Latency, arm and score are filled in by `run`.
    """

    answer: T
    confidence: float | None = None
    verifier_score: float | None = None
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    score: float | None = None
    arm: Arm | None = None
    time_to_first_token_s: float | None = None

    @property
    def evidence(self) -> Evidence:
        """What it showed before the truth is known."""
        return Evidence(
            confidence=self.confidence,
            verifier_score=self.verifier_score,
            output_tokens=self.output_tokens,
            cost_usd=self.cost_usd,
            latency_s=self.latency_s,
            time_to_first_token_s=self.time_to_first_token_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Generic[T]):
    """The answer that was kept, with the decision and every attempt, oldest first.

    `unreported` holds why an outcome could not be reported, or why Continue could not be
    asked: a server that went away costs the caller no answer.
    """

    answer: T
    decision: RoutedDecision
    attempts: tuple[Attempt[T], ...]
    kept: int
    unreported: tuple[LeadlineError, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute:
    """Asks for the caller's function to be run on the arm."""

    arm: Arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """Asks for the caller's score of the answer."""

    answer: Any


Step = Call[Any] | Execute | Grade


def walk(
    query: Query, options: RouteOptions, *, scored: bool, source: str, clock: Callable[[], float]
) -> Generator[Step, Any, Run[Any]]:
    """The way of one query through `run`; `clock` counts seconds.

    It may continue, unless the options say otherwise. When the caller's function raises,
    that is reported as an error, by its type alone, and the exception goes on.
    """
    options = {"may_continue": True, **options}
    way = _Way(decision=(yield route(query, **options)), scored=scored, source=source, clock=clock)
    arm: Arm | None = way.decision.arm
    while arm is not None:
        yield from way.attempt(arm)
        arm = yield from way.follow()
        yield from way.report()
    return Run(
        answer=way.attempts[way.kept].answer,
        decision=way.decision,
        attempts=tuple(way.attempts),
        kept=way.kept,
        unreported=tuple(way.unreported),
    )


class _Way:
    """One decision under way: its attempts so far and what could not be reported."""

    def __init__(
        self, *, decision: RoutedDecision, scored: bool, source: str, clock: Callable[[], float]
    ) -> None:
        self.decision = decision
        self.attempts: list[Attempt[Any]] = []
        self.kept = 0
        self.unreported: list[LeadlineError] = []
        self._scored = scored
        self._source = source
        self._clock = clock

    def attempt(self, arm: Arm) -> Generator[Step, Any, None]:
        """Has the caller's function run on the arm, and measures it."""
        started_s = self._clock()
        try:
            value = yield Execute(arm=arm)
        except Exception as error:
            yield from self._send_error(type(error).__name__, self._clock() - started_s)
            raise
        latency_s = self._clock() - started_s
        made: Attempt[Any] = value if isinstance(value, Attempt) else Attempt(answer=value)
        if made.latency_s is None:
            made = replace(made, latency_s=latency_s)
        self.attempts.append(replace(made, arm=arm))

    def follow(self) -> Generator[Step, Any, Arm | None]:
        """The arm to try next, or None when the answer of `kept` is kept."""
        number = len(self.attempts) - 1
        self.kept = number
        if not self.decision.should_continue:
            return None
        evidence = self.attempts[number].evidence
        asked = continue_(self.decision.decision_id, evidence, attempt=number)
        step: NextStep | None = yield from self._tolerate(asked)
        if step is None:
            return None
        if step.keep or step.chosen is None:
            self.kept = min(step.attempt, number)
            return None
        return step.chosen.arm

    def report(self) -> Generator[Step, Any, None]:
        """Has the last attempt scored and reports it."""
        number, made = len(self.attempts) - 1, self.attempts[-1]
        if self._scored:
            made = replace(made, score=(yield Grade(answer=made.answer)))
            self.attempts[number] = made
        yield from self._tolerate(
            report_outcome(
                self.decision.decision_id,
                attempt=number,
                score=made.score,
                source=self._source if made.score is not None else "",
                cost_usd=made.cost_usd,
                input_tokens=made.input_tokens,
                output_tokens=made.output_tokens,
                latency_s=made.latency_s,
                confidence=made.confidence,
                time_to_first_token_s=made.time_to_first_token_s,
            )
        )

    def _send_error(self, error: str, latency_s: float) -> Generator[Step, Any, None]:
        yield from self._tolerate(
            report_outcome(
                self.decision.decision_id,
                attempt=len(self.attempts),
                error=error,
                latency_s=latency_s,
            )
        )

    def _tolerate(self, call: Call[T]) -> Generator[Step, Any, T | None]:
        try:
            reply: T = yield call
        except LeadlineError as error:
            self.unreported.append(error)
            return None
        return reply
