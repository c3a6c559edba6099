"""An execution: arms, evidence, what follows, what stands in, and what is reported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

import pytest

from router.errors import InvalidInput
from router.execution.backend import BackendFailed, backend_failed
from router.execution.calls import Call, Completion, Failure
from router.execution.deciding import Verdict
from router.execution.events import Decided, Event, Final, Partial
from router.execution.scripted import saying
from router.execution.strategy import AllowanceSpent, Answer, Caller, Task
from tests.kit.execution import Answering, ToldDecider, executor, final, four, planned, request

KEEP = Verdict(following=None, best=0, accuracy=0.9, reason="it is good")


def escalates(name: str, best: int = 0) -> Verdict:
    return Verdict(following=planned(name), best=best, accuracy=0.4, reason="it is not")


def failing(failure: Failure) -> Answering:
    return lambda call: backend_failed(failure, call.model.name, usage=saying("").usage)


async def events(*given: object, **options: object) -> list[Event]:
    running, _ = executor(given[0], **options)  # type: ignore[arg-type]
    return [event async for event in running.execute(*given[1:])]  # type: ignore[arg-type]


async def test_an_answer_comes_with_its_evidence_usage_and_report() -> None:
    decider = ToldDecider()
    told = await events({"a": four}, request(), decider)
    assert [type(event) for event in told] == [Decided, Final]
    last = told[-1]
    assert isinstance(last, Final)
    assert last.answer.said.text == "4"
    assert last.usage.output_tokens == 10
    assert last.cost_usd == pytest.approx((5 * 1 + 10 * 4) / 1e6)
    [report] = decider.reports
    assert report.failure is None
    assert report.evidence.confidence == -0.5
    assert report.evidence.cost_usd == report.cost_usd == last.cost_usd
    assert report.evidence.time_to_first_token_s == 0.005
    assert report.latency_s is not None
    assert report.latency_s >= 0
    assert report.score is None


async def test_the_policy_says_what_follows_and_which_answer_is_kept() -> None:
    scripts = {"a": lambda _: saying("3"), "b": four}
    later = ToldDecider(verdicts=[escalates("b"), replace(KEEP, best=1)])
    told = await events(scripts, request(), later)
    assert [each.attempt for each in told if isinstance(each, Decided)] == [0, 1]
    assert isinstance(told[-1], Final)
    assert told[-1].answer.said.text == "4"
    assert told[-1].usage.output_tokens == 20
    assert [report.attempt for report in later.reports] == [0, 1]
    earlier = ToldDecider(verdicts=[escalates("b"), KEEP])
    told = await events(scripts, request(), earlier)
    assert isinstance(told[-1], Final)
    assert told[-1].answer.said.text == "3"
    assert told[-1].arm.model == "a"


@pytest.mark.parametrize("failure", [Failure.REFUSED, Failure.GARBAGE, Failure.BROKEN_OFF])
async def test_another_arm_stands_in_once_for_one_whose_backend_failed(failure: Failure) -> None:
    decider = ToldDecider(stands_in=planned("b"))
    told = await events({"a": failing(failure), "b": four}, request(), decider)
    second, last = told[1], told[-1]
    assert isinstance(second, Decided)
    assert second.failure is failure
    assert isinstance(last, Final)
    assert last.arm.model == "b"
    assert [each.failure for each in last.attempts] == [failure, None]
    assert [report.failure for report in decider.reports] == [failure, None]
    assert last.cost_usd == pytest.approx(sum(each.cost_usd for each in last.attempts))
    assert last.attempts[0].cost_usd > 0
    again = ToldDecider(stands_in=planned("b"))
    with pytest.raises(BackendFailed) as caught:
        await events({"a": failing(failure), "b": failing(failure)}, request(), again)
    assert caught.value.failure is failure
    assert len(again.failures) == 1
    assert len(again.reports) == 2


async def test_an_answer_in_hand_is_kept_when_the_next_arm_fails() -> None:
    decider = ToldDecider(verdicts=[escalates("b")], stands_in=planned("c"))
    told = await events({"a": four, "b": failing(Failure.REFUSED)}, request(), decider)
    assert isinstance(told[-1], Final)
    assert told[-1].arm.model == "a"
    assert not decider.failures


async def test_a_strategy_that_cannot_run_here_is_stood_in_for() -> None:
    decider = ToldDecider(first=planned("a", "unheard_of"), stands_in=planned("b"))
    told = await events({"a": four, "b": four}, request(), decider)
    assert isinstance(told[-1], Final)
    assert told[-1].arm.model == "b"


async def test_what_is_safe_is_tried_again_and_each_call_is_noted() -> None:
    left = [backend_failed(Failure.OVERLOADED, "a"), backend_failed(Failure.RATE_LIMITED, "a")]

    def flaky(call: Call) -> Completion | BackendFailed:
        return left.pop() if left else four(call)

    decider = ToldDecider()
    told = await events({"a": flaky}, request(), decider)
    assert isinstance(told[-1], Final)
    [attempt] = told[-1].attempts
    assert [call.failure for call in attempt.calls] == ["rate_limited", "overloaded", None]
    assert decider.reports[0].failure is None


async def test_a_backend_that_hangs_leaves_time_for_another() -> None:
    running, made = executor({"a": four, "b": four}, wait_s=30.0, deadline_s=1.0)
    decider, started = ToldDecider(stands_in=planned("b")), time.monotonic()
    with pytest.raises(BackendFailed, match="timeout"):
        await final(running.execute(request(), decider))
    assert time.monotonic() - started < 1.5
    assert len(made["b"].calls) == 1
    assert [report.failure for report in decider.reports] == ["timeout", "timeout"]


async def test_a_stream_is_heard_as_it_is_written_unless_another_attempt_may_replace_it() -> None:
    def long(_call: Call) -> Completion:
        return saying("two and two are four")

    told = await events({"a": long}, request(streams=True), ToldDecider())
    pieces = [event.text for event in told if isinstance(event, Partial)]
    assert "".join(pieces) == "two and two are four"
    assert len(pieces) == 5
    told = await events({"a": long}, request(streams=True), ToldDecider(verdicts=[KEEP]))
    assert not [event for event in told if isinstance(event, Partial)]


async def test_whoever_leaves_stops_the_spending_and_what_was_spent_is_reported() -> None:
    running, made = executor({"a": four}, wait_s=30.0)
    decider = ToldDecider()
    async with aclosing(running.execute(request(), decider)) as coming:
        await anext(coming)
        await asyncio.sleep(0.05)
    assert made["a"].abandoned == 1
    [report] = decider.reports
    assert report.failure is None
    assert report.latency_s is None
    assert report.cost_usd > 0


async def test_a_compute_budget_bounds_all_attempts_together() -> None:
    voting = planned("a", "self_consistency", samples=10)
    decider = ToldDecider(first=voting)
    running, made = executor({"a": lambda call: saying(*["4"] * call.samples)})
    last = await final(running.execute(request(budget=3), decider))
    assert sum(call.samples for call in made["a"].calls) <= 3
    assert last.usage.output_tokens <= 3 * 1_024
    decider = ToldDecider(verdicts=[escalates("a")])
    last = await final(running.execute(request(budget=1), decider))
    assert len(last.attempts) == 1


async def test_a_compute_budget_of_one_pass_leaves_room_for_the_arm_that_stands_in() -> None:
    decider = ToldDecider(stands_in=planned("b"))
    running, _ = executor({"a": failing(Failure.BROKEN_OFF), "b": four})
    last = await final(running.execute(request(budget=1), decider))
    assert last.arm.model == "b"


async def test_an_answer_that_is_not_of_the_form_asked_for_is_reported_as_wrong() -> None:
    asked = request()
    formed = replace(asked.task.options, response_format={"type": "json_object"})
    asked = replace(asked, task=replace(asked.task, options=formed))
    decider = ToldDecider()
    await events({"a": four}, asked, decider)
    assert decider.reports[0].score is None
    await events({"a": lambda _: saying("no json")}, asked, decider)
    assert (decider.reports[1].score, decider.reports[1].source) == (0.0, "schema")


async def test_a_fault_of_the_callers_is_not_the_backends() -> None:
    decider = ToldDecider(first=planned("a", "refinement", rounds=2), stands_in=planned("b"))
    asked = request()
    asked = replace(asked, task=replace(asked.task, verifier="unheard_of"))
    with pytest.raises(InvalidInput, match="unheard_of"):
        await events({"a": four}, asked, decider)
    assert decider.reports[0].failure is None


async def test_time_that_ran_out_before_a_call_is_said_so() -> None:
    running, made = executor({"a": four}, deadline_s=0.01)
    decider = ToldDecider(stands_in=planned("b"))
    with pytest.raises(AllowanceSpent, match="time ran out") as caught:
        await final(running.execute(request(), decider))
    assert caught.value.reason == "DEADLINE"
    assert not made["a"].calls
    assert not decider.failures
    assert decider.reports[0].failure is None


async def test_an_arm_that_time_does_not_cover_is_left() -> None:
    following = replace(planned("b"), latency_s=100.0)
    decider = ToldDecider(verdicts=[replace(escalates("b"), following=following)])
    told = await events({"a": four}, request(), decider)
    assert isinstance(told[-1], Final)
    assert told[-1].arm.model == "a"
    assert decider.left == [1]


async def test_an_answer_comes_before_its_outcome_is_logged_which_leaving_does_not_lose() -> None:
    running, _ = executor({"a": four})
    decider = ToldDecider()
    async with aclosing(running.execute(request(), decider)) as told:
        async for event in told:
            if isinstance(event, Final):
                assert not decider.reports
                break
    assert len(decider.reports) == 1


class Stubborn:
    """Asks until its allowance is spent, whatever fails."""

    name = "stubborn"

    async def run(self, task: Task, params: Mapping[str, Any], caller: Caller) -> Answer:  # noqa: ARG002
        """As Runnable says."""
        while True:
            with suppress(BackendFailed):
                await caller.ask(task.messages, task.options)


async def test_a_failure_before_the_allowance_ran_out_is_what_the_caller_gets() -> None:
    running, _ = executor({"a": failing(Failure.GARBAGE)})
    decider = ToldDecider()
    with pytest.raises(BackendFailed, match="garbage"):
        await final(
            replace(running, strategies=lambda _: Stubborn()).execute(request(budget=2), decider)
        )
    assert decider.reports[0].failure is Failure.GARBAGE


async def test_whoever_waits_for_the_answer_alone_has_it_before_its_outcome_is_logged() -> None:
    running, _ = executor({"a": four})
    decider, answers = ToldDecider(), list[str]()

    async def take(last: Final) -> None:
        assert decider.reports == []
        answers.append(last.answer.said.text)

    await running.answer(request(), decider, take)
    assert answers == ["4"]
    assert len(decider.reports) == 1


async def test_an_answer_that_nobody_could_take_is_logged_all_the_same() -> None:
    running, _ = executor({"a": four})
    decider = ToldDecider()

    async def take(_last: Final) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await running.answer(request(), decider, take)
    [report] = decider.reports
    assert report.failure is None


async def test_cancelling_whoever_waits_ends_the_call_and_logs_that_it_was_abandoned() -> None:
    running, backends = executor({"a": four}, wait_s=30.0)
    decider = ToldDecider()

    async def take(last: Final) -> None:
        raise AssertionError(last)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await running.answer(request(), decider, take)
    assert backends["a"].abandoned == 1
    [report] = decider.reports
    assert report.latency_s is None
