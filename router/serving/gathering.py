"""Requests that are there at the same time are answered together.

A worker has one thread: while it answers, others arrive. Together they cost less, since
they share one prediction and one commit: at 8 connections Route does half as much again as
one by one. How many come together is learnt from the last few times: once as many are
there, nobody waits, and a request that is alone is answered at once. Fewer wait for about
0.3 ms, and so does every eighth group, so that growing traffic is seen.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from router.errors import LeadlineError
from router.serving.routing import Waiting
from router.serving.rows import Row

MOST_TOGETHER = 16
QUIET_TURNS = 40  # about 0.3 ms: gRPC hands calls over one by one, some turns apart
PATIENT_EVERY = 8

Answer = asyncio.Future[Row]


class Answering(Protocol):
    """Answers requests together."""

    def answer(self, waiting: Sequence[Waiting]) -> list[Row | LeadlineError]:
        """A decision's row or an error for each, in their order."""
        ...


class Gathering:
    """Answers whoever has come once nobody new comes."""

    def __init__(self, routing: Answering) -> None:
        self._routing = routing
        self._waiting: list[tuple[Waiting, Answer]] = []
        self._sizes = deque([MOST_TOGETHER], maxlen=PATIENT_EVERY)
        self._groups = 0

    async def route(self, waiting: Waiting) -> Row:
        """The decision's row, once the decision is in the outbox. Raises what `answer` says."""
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        self._waiting.append((waiting, answer))
        if len(self._waiting) == 1:
            loop.call_soon(self._wait, loop, 1, QUIET_TURNS)
        return await answer

    def _wait(self, loop: asyncio.AbstractEventLoop, seen: int, turns: int) -> None:
        """Answers once all are there that may be, or nobody new has come for some turns."""
        count = len(self._waiting)
        if count > seen:
            turns = QUIET_TURNS
        if turns and count < self._enough():
            loop.call_soon(self._wait, loop, count, turns - 1)
        else:
            self._answer(loop)

    def _enough(self) -> int:
        """How many need not wait for more: as many as any of the last groups had."""
        patient = self._groups % PATIENT_EVERY == 0
        return MOST_TOGETHER if patient else max(self._sizes)

    def _answer(self, loop: asyncio.AbstractEventLoop) -> None:
        now, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
        self._groups += 1
        self._sizes.append(len(now))
        if self._waiting:
            loop.call_soon(self._answer, loop)
        for (_, answer), result in zip(now, self._results([each for each, _ in now]), strict=True):
            _settle(answer, result)

    def _results(self, waiting: list[Waiting]) -> Sequence[Row | Exception]:
        """What `answer` gives; a fault that it meets stays with the request that has it."""
        try:
            return self._routing.answer(waiting)
        except Exception as error:  # noqa: BLE001 (each caller's own handler reports it)
            if len(waiting) == 1:
                return [error]
            return [self._results([each])[0] for each in waiting]


def _settle(answer: Answer, result: Row | Exception) -> None:
    if answer.done():  # the caller went away
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
