"""The caller of an attempt: within its purse, samples however they come, all noted."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import replace

import pytest

from router.execution.allowance import Purse
from router.execution.backend import BackendFailed, backend_failed
from router.execution.caller import BoundedCaller, Trying
from router.execution.calls import Call, Completion, Failure, Options, Piece
from router.execution.retrying import Retries
from router.execution.scripted import Script, ScriptedBackend, saying
from router.execution.strategy import Allowance, AllowanceSpent
from router.types import Thinking
from tests.kit.execution import four, model

MESSAGES = ({"role": "user", "content": "What is 2 + 2?"},)


class Heard:
    """A caller over a script, and what it led to."""

    def __init__(
        self, script: Script, *, wait_s: float = 0.0, streams: bool = False, **allowed: float
    ) -> None:
        self.backend = ScriptedBackend(script, wait_s=wait_s)
        self.purse = Purse(Allowance(**allowed))
        self.heard: list[str | Piece] = []
        self.caller = BoundedCaller(
            self.backend,
            model("a"),
            self.purse,
            trying=Trying(retries=Retries(first_s=0.001)),
            rng=random.Random(1),
            hear=self.heard.append,
            streams=streams,
        )

    @property
    def failures(self) -> list[str | None]:
        return [made.failure for made in self.purse.made]


def one_at_a_time(call: Call) -> Completion:
    return saying(str(call.options.seed))


async def test_samples_that_a_provider_does_not_give_are_asked_for_one_by_one() -> None:
    heard = Heard(one_at_a_time, calls=10)
    completion = await heard.caller.ask(MESSAGES, Options(seed=7), samples=4)
    assert [said.text for said in completion.said] == ["7", "8", "9", "10"]
    assert completion.usage.output_tokens == 40 == heard.purse.usage.output_tokens
    assert heard.caller.left().calls == 6


async def test_a_provider_that_refuses_several_samples_is_asked_for_each() -> None:
    def refusing(call: Call) -> Completion | BackendFailed:
        return backend_failed(Failure.REFUSED, "a") if call.samples > 1 else saying("4")

    completion = await Heard(refusing).caller.ask(MESSAGES, Options(), samples=3)
    assert len(completion.said) == 3


async def test_what_is_asked_for_is_cut_to_what_is_left() -> None:
    heard = Heard(four, calls=3, output_tokens=300)
    await heard.caller.ask(MESSAGES, Options(), samples=2)
    assert heard.backend.calls[0].options.max_output_tokens == 100
    await heard.caller.ask(MESSAGES, Options(max_output_tokens=50), samples=9)
    assert heard.backend.calls[-1].options.max_output_tokens == 50
    with pytest.raises(AllowanceSpent):
        await heard.caller.ask(MESSAGES, Options())


async def test_thought_and_answer_share_their_bound() -> None:
    heard = Heard(four, calls=1, output_tokens=1_000)
    heard.caller._model = replace(model("a"), thinking=Thinking.EFFORT)
    assert heard.caller.reasons
    await heard.caller.ask(MESSAGES, Options(max_output_tokens=200), thought_tokens=4_096)
    [call] = heard.backend.calls
    assert call.thought_tokens == 800
    assert call.options.max_output_tokens == 200


async def test_a_stream_is_tried_again_only_while_nothing_was_written() -> None:
    left = [backend_failed(Failure.OVERLOADED, "a")]
    heard = Heard(lambda call: left.pop() if left else four(call))
    pieces = [piece async for piece in heard.caller.stream(MESSAGES, Options())]
    assert "".join(piece.text for piece in pieces) == "4"
    assert heard.failures == [Failure.OVERLOADED, None]


async def test_leaving_a_stream_is_paid_for_as_far_as_it_was_written() -> None:
    heard = Heard(lambda _: saying("word " * 20), wait_s=0.2)
    async with aclosing(heard.caller.stream(MESSAGES, Options())) as pieces:
        await anext(pieces)
    assert heard.failures == [Failure.ABANDONED]
    assert heard.purse.usage.output_tokens > 0
    assert heard.purse.cost_usd > 0


async def test_leaving_a_call_reaches_the_backend_and_is_paid_for() -> None:
    heard = Heard(four, wait_s=10.0)
    asking = asyncio.create_task(heard.caller.ask(MESSAGES, Options()))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert heard.backend.abandoned == 1
    assert heard.failures == [Failure.ABANDONED]


async def test_pieces_are_heard_only_where_someone_reads_them() -> None:
    quiet, loud = Heard(four), Heard(four, streams=True)
    for heard in (quiet, loud):
        heard.caller.write(Piece(text="4"))
        heard.caller.tell("one of one")
    assert quiet.heard == ["one of one"]
    assert loud.heard == [Piece(text="4"), "one of one"]
