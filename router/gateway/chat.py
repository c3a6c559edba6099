"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Send

from router.errors import LeadlineError
from router.execution.deciding import Decider, Request
from router.execution.events import Final
from router.execution.executor import Executes
from router.gateway.asking import asked
from router.gateway.body import read_json
from router.gateway.guarding import Exchange
from router.gateway.hearing import Hearing
from router.gateway.naming import named
from router.gateway.replies import Reply, about
from router.gateway.streaming import PACE, Pace, Stream
from router.gateway.writing import completion
from router.serving.state import Current
from router.types import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """Answers chat completions by executing them for whoever asks.

    `key` makes conversation ids; a request may take `most_s`.
    """

    executor: Executes
    decider: Callable[[Identity], Decider]
    current: Current
    key: bytes
    most_s: float
    pace: Pace = PACE

    async def answer(self, exchange: Exchange, send: Send) -> int:
        """Answers, whole or as a stream; returns the status. Raises LeadlineError before that."""
        question = asked(
            read_json(exchange.body), exchange.headers, key=self.key, most_s=self.most_s
        )
        request = question.of_model(named(question.model, self.current.state))
        if not question.streams:
            return await self._whole(request, exchange, send)
        stream = Stream(send, self.pace, include_usage=question.include_usage)
        return await self._streamed(request, exchange, stream)

    async def _whole(self, request: Request, exchange: Exchange, send: Send) -> int:
        sent = False

        async def take(last: Final) -> None:
            nonlocal sent
            reply = _replying(last, request)
            sent = True
            await reply.send(send)

        try:
            await self.executor.answer(request, self.decider(exchange.caller), take)
        except Exception as error:
            if not sent:
                raise
            exchange.fault(error)
        return 200

    async def _streamed(self, request: Request, exchange: Exchange, stream: Stream) -> int:
        try:
            async with self._hearing(request, exchange.caller) as hearing:
                await stream.write(hearing)
        except Exception as error:
            if not stream.started:
                raise
            told = error if isinstance(error, LeadlineError) else exchange.fault(error)
            await stream.fail(told)
        return 200

    def _hearing(self, request: Request, caller: Identity) -> Hearing:
        return Hearing(self.executor.execute(request, self.decider(caller)))


def _replying(last: Final, request: Request) -> Reply:
    headers = about(last.decision_id, last.attempt, last.arm)
    headers["x-leadline-cost-usd"] = f"{last.cost_usd:.9f}"
    body = completion(last, logprobs=request.task.options.logprobs)
    return Reply(body=body, headers=headers)
