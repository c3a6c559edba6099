"""Every strategy keeps to its allowance, gives what it has, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import InvalidInput
from router.execution.backend import BackendFailed
from router.execution.calls import Completion, Failure, Options
from router.execution.strategies import strategy
from router.execution.strategies.chain_of_thought import CONCLUDE
from router.execution.strategies.refinement import IMPROVE
from router.execution.strategies.tree_of_thoughts import VALUE, values
from router.execution.strategy import Allowance, AllowanceSpent, Answer, Task
from router.types import Strategy
from tests.kit.callers import Asked, TestCaller, completion, cut

USER = {"role": "user", "content": "2 + 2?"}
TASK = Task(messages=(USER,), options=Options(seed=7), verifier="self")
JSON_TASK = Task(messages=(USER,), options=Options(response_format={"type": "json_object"}))
NAMES = st.sampled_from([each.value for each in Strategy])


def always(*texts: str) -> TestCaller:
    return TestCaller(reply=lambda _: completion(*texts))


def test_a_strategy_that_is_not_here_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidInput, match="use one of single, chain_of_thought"):
        strategy("divination")


async def test_a_single_pass_is_the_task_as_it_came() -> None:
    caller = always("4")
    answer = await strategy("single").run(TASK, {}, caller)
    assert caller.asked[0].messages == TASK.messages
    assert (answer.said.text, answer.extracted, answer.evidence.confidence) == ("4", "4", -0.5)


async def test_a_single_pass_gives_a_choice_where_one_is_wanted() -> None:
    task = Task(messages=(USER,), options=Options(), samples=3)
    answer = await strategy("single").run(task, {}, always("4", "5", "6"))
    assert [each.text for each in answer.others] == ["5", "6"]


@pytest.mark.parametrize("name", ["single", "chain_of_thought"])
async def test_an_answer_of_one_call_is_passed_on_as_it_is_written(name: str) -> None:
    caller = always("so it is\nAnswer: 4")
    caller.streams = True
    answer = await strategy(name).run(TASK, {}, caller)
    assert "".join(piece.text for piece in caller.written) == answer.said.text


async def test_a_chain_of_thought_has_its_budget_and_joins_the_system_message() -> None:
    caller = always("so\nAnswer: 4")
    task = Task(messages=({"role": "system", "content": "Be kind."}, USER), options=Options())
    answer = await strategy("chain_of_thought").run(task, {"tokens": 512}, caller)
    assert caller.asked[0].options.max_output_tokens == 512
    assert [each["role"] for each in caller.asked[0].messages] == ["system", "user"]
    assert "step by step" in caller.asked[0].messages[0]["content"]
    assert answer.extracted == "4"


async def test_a_model_that_reasons_gets_the_budget_for_its_own_thought() -> None:
    caller = always("4")
    caller.reasons = True
    await strategy("chain_of_thought").run(TASK, {"tokens": 512}, caller)
    [asked] = caller.asked
    assert (asked.thought_tokens, asked.options.max_output_tokens) == (512, None)
    assert asked.messages == TASK.messages


async def test_a_thought_that_its_budget_cut_off_is_followed_by_the_answer() -> None:
    def reply(asked: Asked) -> Completion:
        return completion("Answer: 4") if asked.last == CONCLUDE else cut("2 and 2 are", 256)

    caller = TestCaller(reply=reply, streams=True)
    answer = await strategy("chain_of_thought").run(TASK, {}, caller)
    assert answer.said.text == "2 and 2 are\n\nAnswer: 4"
    assert "".join(piece.text for piece in caller.written) == answer.said.text
    caller = TestCaller(reply=reply, allowance=Allowance(calls=1))
    short = await strategy("chain_of_thought").run(TASK, {}, caller)
    assert short.cut_short


async def test_an_answer_that_must_be_of_a_form_is_thought_about_aside() -> None:
    def reply(asked: Asked) -> Completion:
        form = asked.options.response_format
        return completion("thoughts\nAnswer: 4") if form is None else completion('{"sum": 4}')

    caller = TestCaller(reply=reply)
    answer = await strategy("chain_of_thought").run(JSON_TASK, {}, caller)
    assert (answer.said.text, len(caller.asked)) == ('{"sum": 4}', 2)
    caller = TestCaller(reply=reply, allowance=Allowance(calls=1))
    answer = await strategy("chain_of_thought").run(JSON_TASK, {}, caller)
    assert (answer.said.text, len(caller.asked)) == ('{"sum": 4}', 1)


async def test_refinement_goes_on_until_the_verifier_is_content() -> None:
    def reply(asked: Asked) -> Completion:
        if "check answers" in asked.messages[0]["content"]:
            right = "Answer: 4" in asked.last
            return completion("Right.\nScore: 10/10" if right else "Off by one.\nScore: 2")
        return completion("Answer: 4" if "Off by one." in asked.last else "Answer: 5")

    caller = TestCaller(reply=reply)
    task = Task(messages=(USER,), options=Options())
    answer = await strategy("refinement").run(task, {"rounds": 5}, caller)
    assert (answer.extracted, answer.evidence.verifier_score) == ("4", 1.0)
    assert len(caller.asked) == 4


async def test_refinement_keeps_the_best_answer_and_not_the_last() -> None:
    scores = iter((6, 3))

    def reply(asked: Asked) -> Completion:
        if "check answers" in asked.messages[0]["content"]:
            return completion(f"Hm.\nScore: {next(scores)}")
        return completion(f"Answer: {asked.number}")

    task = Task(messages=(USER,), options=Options())
    answer = await strategy("refinement").run(task, {"rounds": 2}, TestCaller(reply=reply))
    assert (answer.extracted, answer.evidence.verifier_score) == ("0", 0.6)


async def test_a_model_that_checks_itself_gives_its_last_answer_of_all_rounds() -> None:
    caller = TestCaller(reply=lambda asked: completion(f"Answer: {asked.number}"))
    answer = await strategy("refinement").run(TASK, {"rounds": 3}, caller)
    assert (answer.extracted, len(caller.asked)) == ("2", 3)
    assert caller.asked[-1].last == IMPROVE


async def test_a_tree_keeps_the_paths_that_its_judge_prefers() -> None:
    def reply(asked: Asked) -> Completion:
        if asked.messages[0]["content"] == VALUE:
            ways = asked.last.split("Way ")[1:]
            return completion("\n".join(f"{way[0]}: {9 if 'good' in way else 1}" for way in ways))
        if asked.messages[-1]["role"] == "user" and len(asked.messages) == 2:
            return completion("bad step", "good step", "bad step", "bad step")
        steps = asked.messages[-2]["content"]
        return completion(*["Answer: 4" if "good" in steps else "Answer: 5"] * asked.samples)

    caller = TestCaller(reply=reply)
    answer = await strategy("tree_of_thoughts").run(TASK, {"depth": 2, "beam": 1}, caller)
    assert answer.extracted == "4"
    assert answer.said.text == "good step\nAnswer: 4"
    assert caller.samples == 10
    assert (
        len({asked.options.seed for asked in caller.asked if asked.options.temperature is None})
        == 2
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [("1: 9\n2: 3.5", [0.9, 0.35]), ("Way 2 - 7\nWay 1: **10**", [1.0, None]), ("4", [None, None])],
)
def test_a_judges_values_are_read_as_far_as_they_go(text: str, found: list[float | None]) -> None:
    assert values(text, 2) == found


async def test_dynamic_stops_where_unlike_attempts_agree_and_goes_on_where_not() -> None:
    caller = always("Answer: 4")
    answer = await strategy("dynamic").run(TASK, {}, caller)
    assert (len(caller.asked), answer.evidence.confidence) == (2, 1.0)
    caller = TestCaller(reply=lambda asked: completion(f"Answer: {(5, 4, 4, 4)[asked.number]}"))
    answer = await strategy("dynamic").run(TASK, {}, caller)
    assert (answer.extracted, answer.evidence.confidence) == ("4", 0.75)


class Unkind:
    """A backend that says what it likes: failures, too many answers, nothing to read."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def __call__(self, asked: Asked) -> Completion:
        kind = self._rng.randrange(6)
        if kind == 0:
            raise BackendFailed("gone", failure=self._rng.choice(list(Failure)))
        if kind == 1:
            return cut("never", self._rng.randrange(1, 50))
        texts = ("Answer: 4", "Answer: 5", "", "1: 9\n2: 4", "Score: 4", "x\ny")
        count = 1 if kind == 2 else asked.samples + (kind == 3)
        chosen = self._rng.choices(texts, k=count)
        return completion(*chosen, confidence=self._rng.choice([None, -0.1]))


@settings(max_examples=150)
@given(NAMES, st.integers(0, 6), st.integers(0, 10**6), st.booleans())
async def test_no_strategy_asks_for_more_than_it_is_allowed_whatever_the_backend_says(
    name: str, calls: int, seed: int, verified: bool
) -> None:
    caller = TestCaller(reply=Unkind(seed), allowance=Allowance(calls=calls))
    task = Task(messages=(USER,), options=Options(), verifier="model" if verified else "self")
    try:
        answer = await strategy(name).run(task, {"rounds": 4, "samples": 6}, caller)
    except (AllowanceSpent, BackendFailed):
        return
    assert 1 <= caller.samples <= calls
    _check(answer)


def _check(answer: Answer) -> None:
    score, confidence = answer.evidence.verifier_score, answer.evidence.confidence
    assert score is None or 0 <= score <= 1
    assert confidence is None or confidence <= 1


@pytest.mark.parametrize("name", [each.value for each in Strategy])
async def test_a_client_that_goes_away_leaves_no_call_of_any_strategy(name: str) -> None:
    caller = TestCaller(reply=lambda _: completion("no\nanswer"), pause_s=0.02)
    running = asyncio.create_task(strategy(name).run(TASK, {}, caller))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert caller.under_way == 0
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("name", [each.value for each in Strategy])
async def test_the_same_seed_goes_the_same_way(name: str) -> None:
    def reply(asked: Asked) -> Completion:
        rng = random.Random(repr((asked.messages, asked.options.seed)))
        texts = [f"Answer: {rng.randrange(3)}" for _ in range(asked.samples)]
        return completion(*texts)

    params: dict[str, Any] = {"samples": 5, "adaptive": True}
    one, other = [await strategy(name).run(TASK, params, TestCaller(reply=reply)) for _ in range(2)]
    assert one == other
