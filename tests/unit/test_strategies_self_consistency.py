"""Samples are drawn as far as they are needed, and their vote is what it should be."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bundle.embedder import load_embedder
from router.errors import InvalidInput
from router.execution.allowance import Purse
from router.execution.answers import reader
from router.execution.backend import BackendFailed
from router.execution.caller import BoundedCaller, Trying
from router.execution.calls import Completion, Failure, Options, Said, Usage
from router.execution.scripted import ScriptedBackend, saying
from router.execution.strategies import strategy
from router.execution.strategies.ballot import Ballot
from router.execution.strategies.self_consistency import SelfConsistency, least_more
from router.execution.strategy import Allowance, AllowanceSpent, Task
from router.policy.sampling import Agreement, FixedSamples, SamplingRule, Votes
from router.types import Model
from tests.kit.callers import Asked, TestCaller, completion

TASK = Task(messages=({"role": "user", "content": "2 + 2?"},), options=Options(seed=7))
ANSWERS = st.lists(st.sampled_from(["Answer: 1", "Answer: 2", "Answer: 3", "a\nb"]), min_size=1)


def drawing(*texts: str) -> TestCaller:
    """Answers with the texts in turn, over and over."""
    drawn = 0

    def reply(asked: Asked) -> Completion:
        nonlocal drawn
        drawn += asked.samples
        return completion(
            *(texts[place % len(texts)] for place in range(drawn - asked.samples, drawn))
        )

    return TestCaller(reply=reply)


async def test_the_answer_with_most_votes_wins_and_its_share_is_the_evidence() -> None:
    caller = drawing("Answer: 4", "so\nAnswer: 4.0", "Answer: 5", "a\nb")
    answer = await strategy("self_consistency").run(TASK, {"samples": 8}, caller)
    assert (answer.extracted, answer.evidence.confidence) == ("4", 0.5)
    assert not answer.cut_short
    assert [asked.samples for asked in caller.asked] == [8]


async def test_the_surest_of_the_winning_samples_is_what_is_said() -> None:
    def reply(_: Asked) -> Completion:
        made = completion("so\nAnswer: 4", "thus\nAnswer: 4", "Answer: 5")
        sure = (-0.9, -0.2, -0.1)
        said = (
            Said(text=each.text, confidence=how) for each, how in zip(made.said, sure, strict=True)
        )
        return Completion(said=tuple(said), usage=made.usage, latency_s=1.0)

    answer = await strategy("self_consistency").run(TASK, {"samples": 3}, TestCaller(reply=reply))
    assert answer.said.text == "thus\nAnswer: 4"


async def test_a_weighed_vote_counts_the_samples_for_more_that_the_model_was_surer_of() -> None:
    said = [
        Said(text=f"Answer: {n}", confidence=sure) for n, sure in ((4, -0.1), (5, -0.9), (5, -0.8))
    ]

    def reply(asked: Asked) -> Completion:
        blind = [Said(text=each.text) for each in said]
        texts = said if asked.options.seed == 7 else blind
        return Completion(said=tuple(texts), usage=Usage(output_tokens=3), latency_s=1.0)

    params = {"samples": 3, "weighed": True}
    answer = await strategy("self_consistency").run(TASK, params, TestCaller(reply=reply))
    assert answer.extracted == "4"
    assert 0.9 < (answer.evidence.confidence or 0) < 1
    task = Task(messages=TASK.messages, options=Options(seed=8))
    blind = await strategy("self_consistency").run(task, params, TestCaller(reply=reply))
    assert blind.extracted == "5"
    assert blind.evidence.confidence == pytest.approx(2 / 3)


async def test_adaptive_sampling_stops_once_the_leader_is_likely_to_stay_ahead() -> None:
    caller = drawing("Answer: 4")
    params = {"samples": 10, "adaptive": True}
    answer = await strategy("self_consistency").run(TASK, params, caller)
    assert [asked.samples for asked in caller.asked] == [4]
    assert answer.evidence.confidence == 1.0


async def test_adaptive_sampling_draws_no_sample_that_one_at_a_time_would_not() -> None:
    rule, rng = Agreement(threshold=0.9, most=12), random.Random(3)
    for _ in range(50):
        texts = [f"Answer: {rng.choice('1123')}" for _ in range(12)]
        caller = drawing(*texts)
        await SelfConsistency(rule=rule).run(TASK, {"samples": 12, "adaptive": True}, caller)
        alone = next(n for n in range(1, 13) if rule.enough(Votes.of(texts[:n])))
        assert sum(asked.samples for asked in caller.asked) == alone


async def test_each_call_has_a_seed_of_its_own_so_that_no_sample_comes_twice() -> None:
    caller = drawing("Answer: 1", "Answer: 2")
    await strategy("self_consistency").run(TASK, {"samples": 9, "adaptive": True}, caller)
    seeds = [asked.options.seed for asked in caller.asked]
    assert len(seeds) > 1
    assert len(set(seeds)) == len(seeds)


async def test_samples_are_drawn_on_where_a_call_brings_fewer() -> None:
    caller = TestCaller(reply=lambda _: completion("Answer: 4"))
    answer = await strategy("self_consistency").run(TASK, {"samples": 3}, caller)
    assert [asked.samples for asked in caller.asked] == [3, 2, 1]
    assert answer.evidence.confidence == 1.0


async def test_what_was_drawn_answers_when_the_backend_fails_midway() -> None:
    def reply(asked: Asked) -> Completion:
        if asked.number:
            raise BackendFailed("gone", failure=Failure.OVERLOADED)
        return completion("Answer: 4", "Answer: 4")

    answer = await strategy("self_consistency").run(TASK, {"samples": 5}, TestCaller(reply=reply))
    assert answer.cut_short
    assert answer.extracted == "4"


async def test_fewer_samples_are_drawn_where_the_allowance_has_no_room_for_all() -> None:
    purse = Purse(Allowance(calls=10, output_tokens=70))
    backend = ScriptedBackend(lambda call: saying(*["Answer: 4"] * call.samples))
    caller = BoundedCaller(
        backend,
        Model(name="m", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0),
        purse,
        trying=Trying(),
        rng=random.Random(0),
        hear=lambda _: None,
        streams=False,
    )
    answer = await strategy("self_consistency").run(TASK, {"samples": 10, "tokens": 32}, caller)
    assert (answer.extracted, answer.cut_short) == ("4", True)
    assert 2 <= purse.calls < 10
    assert purse.usage.output_tokens <= 70


async def test_a_failure_passes_where_nothing_was_drawn() -> None:
    def reply(_: Asked) -> Completion:
        raise BackendFailed("gone", failure=Failure.OVERLOADED)

    with pytest.raises(BackendFailed):
        await strategy("self_consistency").run(TASK, {}, TestCaller(reply=reply))
    caller = TestCaller(reply=reply, allowance=Allowance(calls=0))
    with pytest.raises(AllowanceSpent):
        await strategy("self_consistency").run(TASK, {}, caller)


@settings(max_examples=50)
@given(ANSWERS, st.integers(0, 9), st.integers(1, 12), st.booleans())
async def test_never_more_than_allowed_is_drawn_and_agreement_is_a_share(
    texts: list[str], calls: int, samples: int, adaptive: bool
) -> None:
    caller = drawing(*texts)
    caller.allowance = Allowance(calls=calls)
    params = {"samples": samples, "adaptive": adaptive}
    try:
        answer = await strategy("self_consistency").run(TASK, params, caller)
    except AllowanceSpent:
        assert calls == 0
        return
    assert caller.samples <= min(calls, samples)
    assert answer.cut_short == (caller.samples < samples and not adaptive) or adaptive
    assert answer.evidence.confidence is not None
    assert 0 <= answer.evidence.confidence <= 1


@settings(max_examples=50)
@given(ANSWERS, st.randoms(use_true_random=False))
def test_the_order_of_samples_changes_nothing_unless_two_lead(
    texts: list[str], rng: random.Random
) -> None:
    shuffled = rng.sample(texts, len(texts))
    one, other = _ballot(texts), _ballot(shuffled)
    assert one.agreement == other.agreement
    counts = Counter(text for text in texts if text.startswith("Answer"))
    best = sorted(counts.values())[-2:]
    if len(best) == 1 or (best and best[0] < best[-1]):
        assert one.ranked()[0][1] == other.ranked()[0][1]


def _ballot(texts: list[str]) -> Ballot:
    ballot = Ballot(reader("auto"))
    ballot.add([Said(text=text) for text in texts])
    return ballot


def test_free_form_answers_that_say_the_same_vote_together() -> None:
    texts = [
        "The whale is a mammal since it has lungs and feeds milk to its young.\nThat is why.",
        "Since whales have lungs and feed their young milk,\nthe whale is a mammal.",
        "Fish breathe through gills,\nand sharks among them have no bones at all.",
    ]
    ballot = Ballot(reader("auto"), load_embedder())
    ballot.add([Said(text=text) for text in texts])
    assert ballot.agreement == pytest.approx(2 / 3)
    assert _ballot(texts).agreement == pytest.approx(1 / 3)


async def test_at_temperature_zero_samples_are_still_unlike() -> None:
    caller = drawing("Answer: 4")
    task = Task(messages=TASK.messages, options=Options(temperature=0.0))
    await strategy("self_consistency").run(task, {"base": "single"}, caller)
    assert caller.asked[0].options.temperature == 0.7


async def test_a_client_that_goes_away_leaves_no_call_under_way() -> None:
    caller = TestCaller(reply=lambda _: completion("Answer: 4"), pause_s=0.02)
    running = asyncio.create_task(strategy("self_consistency").run(TASK, {"samples": 9}, caller))
    await asyncio.sleep(0.03)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert caller.under_way == 0
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(
    "params",
    [{"samples": 0}, {"samples": "many"}, {"base": "poem"}, {"adaptive": 1}, {"tokens": -1}],
)
async def test_params_that_make_no_sense_are_refused(params: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=r"arm\.params"):
        await strategy("self_consistency").run(TASK, params, drawing("Answer: 4"))


@pytest.mark.parametrize("rule", [Agreement(most=9), FixedSamples(samples=9)])
def test_the_fewest_samples_that_are_needed_are_what_every_way_on_needs(rule: SamplingRule) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        before = [str(each) for each in rng.integers(3, size=rng.integers(1, 8))]
        needed = least_more(rule, Votes.of(before), 9)
        after = before + [str(each) for each in rng.integers(4, size=needed - 1)]
        assert needed == 1 or not rule.enough(Votes.of(after))
