"""One execution: attempt, evidence, continue, and another arm where a backend fails."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import monotonic

from router.errors import InvalidInput
from router.execution.allowance import Passes, Purse, allowance
from router.execution.backend import BackendFailed, backend_failed
from router.execution.backends import Backends
from router.execution.caller import BoundedCaller, Trying
from router.execution.calls import Failure, Piece, Usage
from router.execution.deciding import Decider, Planned, Request, Routed, Verdict
from router.execution.events import Attempted, Decided, Event, Final, Partial, Progress
from router.execution.reading import guessed_input
from router.execution.reporting import attempted, report
from router.execution.strategy import Allowance, AllowanceSpent, Runnable, time_spent
from router.types import Evidence

FIRST_SHARE = 0.6
"""How much of the time an attempt may take as long as another one may have to stand in."""

REPLY_S = 0.05
"""What is kept of the time for the reply itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an execution runs with."""

    backends: Backends
    strategies: Callable[[str], Runnable]
    trying: Trying
    deadline_s: float
    rng: random.Random


class Run:
    """Runs one request; `tell` hears of it, and `take` gets its end."""

    def __init__(
        self,
        request: Request,
        decider: Decider,
        parts: Parts,
        *,
        tell: Callable[[Event], None],
        take: Callable[[Final], Awaitable[None]],
    ) -> None:
        self._request, self._decider, self._parts = request, decider, parts
        self._tell, self._take = tell, take
        self._began_s, self._attempts = monotonic(), list[Attempted]()
        self._passes = Passes.of(request.bounds.compute_budget)

    async def run(self) -> None:
        """Runs until the answer that is kept has been taken. Raises as Executor.execute says."""
        routed = await self._decider.route(self._request)
        planned: Planned | None = routed.first
        reason, failure = routed.reason, None
        error: BackendFailed | AllowanceSpent | None = None
        while planned is not None:
            self._tell(self._decided(routed, planned, reason, failure))
            may_go_on = routed.should_continue and failure is None
            try:
                await self._attempt(routed, planned, may_go_on=may_go_on)
            except (BackendFailed, AllowanceSpent) as caught:
                error = caught if error is None or isinstance(caught, BackendFailed) else error
                planned = await self._instead(routed, caught, before=failure)
                failure = getattr(caught, "failure", None)
                reason = "it stands in for an arm whose backend failed"
                continue
            if not may_go_on:
                return
            verdict = await self._verdict(routed)
            if verdict.following is None:
                await self._take(self._final(routed, verdict.best, verdict.accuracy))
                return
            planned, reason = verdict.following, verdict.reason
        await self._take(self._best(routed, error))

    async def _attempt(self, routed: Routed, planned: Planned, *, may_go_on: bool) -> None:
        """Runs one arm and reports what became of it. Raises what kept it from an answer.

        Which is the backend's failure, where a call failed before the allowance ran out.
        """
        number, caller = len(self._attempts), None
        seconds = self._left_s() * (1.0 if self._attempts else FIRST_SHARE)
        purse, answer, failure = Purse(self._allowance(planned, seconds)), None, None
        try:
            caller = self._caller(planned, purse, streams=self._request.streams and not may_go_on)
            runnable = _runnable(self._parts.strategies, planned)
            async with asyncio.timeout(seconds):
                answer = await runnable.run(self._request.task, planned.arm.params, caller)
        except BackendFailed as error:
            failure = error.failure
            raise
        except TimeoutError:
            if not purse.made:
                raise time_spent() from None
            failure = Failure.TIMEOUT
            raise backend_failed(failure, planned.model.name) from None
        except AllowanceSpent:
            failure = purse.failure
            if failure is None:
                raise
            raise backend_failed(failure, planned.model.name) from None
        except asyncio.CancelledError:
            failure = Failure.ABANDONED
            raise
        finally:
            calls = purse.calls if answer is not None else 0
            self._passes = self._passes.less(calls, purse.usage.output_tokens)
            self._attempts.append(attempted(number, planned, purse, answer, failure))
            kept = answer is not None and not may_go_on
            last = self._final(routed, number, planned.accuracy) if kept else None
            await self._close(routed, caller, last)

    async def _close(
        self, routed: Routed, caller: BoundedCaller | None, last: Final | None
    ) -> None:
        """Logs the attempt; whoever waits has its answer before, where that is the last event."""
        made = self._attempts[-1]
        try:
            if last is not None:
                await self._take(last)
        finally:
            known = await report(self._request.task, made, caller)
            await self._decider.report(routed.decision_id, known)

    def _allowance(self, planned: Planned, seconds: float) -> Allowance:
        tokens = guessed_input(self._request.task.messages)
        arm, model = planned.arm, planned.model
        return allowance(
            arm,
            model,
            self._passes,
            input_tokens=tokens,
            seconds=seconds,
            samples=self._request.task.samples,
        )

    def _caller(self, planned: Planned, purse: Purse, *, streams: bool) -> BoundedCaller:
        number = len(self._attempts)
        return BoundedCaller(
            self._parts.backends.of(planned.model),
            planned.model,
            purse,
            trying=self._parts.trying,
            rng=self._parts.rng,
            hear=lambda heard: self._tell(_heard(number, heard)),
            streams=streams,
        )

    async def _verdict(self, routed: Routed) -> Verdict:
        """What follows the last attempt; nothing that time or the compute budget do not cover."""
        last = self._attempts[-1]
        evidence = last.evidence or Evidence()
        verdict = await self._decider.go_on(routed.decision_id, last.attempt, evidence)
        following = verdict.following
        if following is None or self._covers(following):
            return verdict
        self._decider.leave(routed.decision_id, last.attempt + 1)
        reason = "what the request may spend covers no other attempt"
        return replace(verdict, following=None, best=last.attempt, reason=reason)

    def _covers(self, planned: Planned) -> bool:
        expected_s = planned.latency_s or 0.0
        return self._passes.cover(planned.arm) and self._left_s() > max(expected_s, REPLY_S)

    async def _instead(
        self, routed: Routed, error: Exception, *, before: Failure | None
    ) -> Planned | None:
        """The arm that stands in for one that failed: once, and for want of any answer.

        The failed calls are no part of the compute budget, but what they brought is.
        """
        answered = any(each.answer is not None for each in self._attempts)
        if before is not None or answered or not isinstance(error, BackendFailed):
            return None
        if self._left_s() <= 0:
            return None
        number = len(self._attempts) - 1
        return await self._decider.instead(routed.decision_id, number, error.failure)

    def _left_s(self) -> float:
        return max(self._parts.deadline_s - REPLY_S - (monotonic() - self._began_s), 0.0)

    def _best(self, routed: Routed, error: Exception | None) -> Final:
        """The newest answer in hand. Raises the error where there is none."""
        for each in reversed(self._attempts):
            if each.answer is not None:
                return self._final(routed, each.attempt, math.nan)
        raise error or AllowanceSpent

    def _final(self, routed: Routed, best: int, accuracy: float) -> Final:
        kept = self._attempts[best] if best < len(self._attempts) else self._attempts[-1]
        if kept.answer is None:
            kept = self._attempts[-1]
        if kept.answer is None:
            return self._best(routed, None)
        return Final(
            decision_id=routed.decision_id,
            attempt=kept.attempt,
            arm=kept.arm,
            answer=kept.answer,
            attempts=tuple(self._attempts),
            usage=sum((each.usage for each in self._attempts), Usage()),
            cost_usd=math.fsum(each.cost_usd for each in self._attempts),
            latency_s=monotonic() - self._began_s,
            accuracy=accuracy,
        )

    def _decided(
        self, routed: Routed, planned: Planned, reason: str, failure: Failure | None
    ) -> Decided:
        return Decided(
            decision_id=routed.decision_id,
            attempt=len(self._attempts),
            arm=planned.arm,
            reason=reason,
            accuracy=planned.accuracy,
            cost_usd=planned.cost_usd,
            failure=failure,
        )


def _runnable(strategies: Callable[[str], Runnable], planned: Planned) -> Runnable:
    """The arm's strategy. Raises BackendFailed for one that can't be run here."""
    try:
        return strategies(planned.arm.strategy)
    except InvalidInput as error:
        raise BackendFailed(error.message, failure=Failure.NOT_SET_UP) from None


def _heard(attempt: int, heard: str | Piece) -> Event:
    if isinstance(heard, str):
        return Progress(attempt=attempt, note=heard)
    return Partial(attempt=attempt, text=heard.text, tool_calls=heard.tool_calls)
