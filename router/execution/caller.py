"""Calls one model for one attempt: within its purse, again where that is safe, all noted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from router.execution.allowance import Hold, Purse
from router.execution.backend import Backend, BackendFailed
from router.execution.calls import (
    Call,
    CallMade,
    Completion,
    Failure,
    Message,
    Options,
    Piece,
    Usage,
)
from router.execution.reading import guessed
from router.execution.retrying import Retries
from router.execution.strategy import Allowance
from router.types import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Trying:
    """How calls are tried: how long each may take, and which are made again."""

    timeout_s: float = 60.0
    retries: Retries = field(default_factory=Retries)


class BoundedCaller:
    """The Caller of an attempt. `hear` is told of its progress and of the answer's pieces."""

    def __init__(
        self,
        backend: Backend,
        model: Model,
        purse: Purse,
        *,
        trying: Trying,
        rng: random.Random,
        hear: Callable[[str | Piece], None],
        streams: bool,
    ) -> None:
        self._backend, self._model, self._purse = backend, model, purse
        self._trying, self._rng, self._hear, self._streams = trying, rng, hear, streams

    async def ask(
        self,
        messages: Sequence[Message],
        options: Options,
        *,
        samples: int = 1,
        thought_tokens: int | None = None,
    ) -> Completion:
        """As Caller says. Where a provider gives fewer samples, the rest are asked one by one."""
        held, call = self._call(messages, options, samples, thought_tokens)
        try:
            if held.calls == 1:
                return await self._complete(call)
            try:
                got = await self._complete(call)
            except BackendFailed as error:
                if error.failure is not Failure.REFUSED:
                    raise
                return await self._one_by_one(call, None)
            return got if len(got.said) >= held.calls else await self._one_by_one(call, got)
        finally:
            self._purse.settle(held)

    async def stream(
        self,
        messages: Sequence[Message],
        options: Options,
        *,
        thought_tokens: int | None = None,
    ) -> AsyncGenerator[Piece, None]:
        """As Caller says; tried again only as long as nothing was written."""
        held, call = self._call(messages, options, 1, thought_tokens)
        try:
            tries, written = 0, False
            while True:
                tries += 1
                try:
                    async with aclosing(self._streamed(call)) as pieces:
                        async for piece in pieces:
                            written = True
                            yield piece
                except BackendFailed as error:
                    await self._wait(error, self._trying.retries.most + 1 if written else tries)
                else:
                    return
        finally:
            self._purse.settle(held)

    def left(self) -> Allowance:
        """As Caller says."""
        return self._purse.left()

    def tell(self, progress: str) -> None:
        """As Caller says."""
        self._hear(progress)

    def write(self, piece: Piece) -> None:
        """As Caller says."""
        if self._streams:
            self._hear(piece)

    @property
    def streams(self) -> bool:
        """As Caller says."""
        return self._streams

    @property
    def reasons(self) -> bool:
        """As Caller says."""
        return self._model.thinking is not None

    def _call(
        self, messages: Sequence[Message], options: Options, samples: int, thought: int | None
    ) -> tuple[Hold, Call]:
        """The call, cut to what is left. Thought and answer share their bound."""
        thought = thought if self.reasons else None
        asked, usual = options.max_output_tokens, self._model.max_output_tokens
        wanted = asked if thought is None else thought + (usual if asked is None else asked)
        held, most = self._purse.hold(samples, wanted)
        if most is not None and thought is not None:
            thought = min(thought, max(most - (usual if asked is None else asked), most // 2))
            most -= thought
        if asked is None and most is not None and most >= usual:
            most = None
        return held, Call(
            model=self._model,
            messages=tuple(messages),
            options=options if asked == most else replace(options, max_output_tokens=most),
            samples=held.calls,
            thought_tokens=thought,
        )

    async def _complete(self, call: Call) -> Completion:
        tries = 0
        while True:
            tries += 1
            try:
                return await self._once(call)
            except BackendFailed as error:
                await self._wait(error, tries)

    async def _wait(self, error: BackendFailed, tries: int) -> None:
        """Waits to try again. Raises the error where that is not safe or there is no time."""
        left_s = self._purse.left().seconds
        wait_s = self._trying.retries.wait_s(error, tries, left_s, self._rng)
        if wait_s is None:
            raise error
        await asyncio.sleep(wait_s)

    async def _once(self, call: Call) -> Completion:
        started = perf_counter()
        try:
            completion = await self._backend.complete(call, timeout_s=self._timeout_s())
        except BackendFailed as error:
            self._pay(error.usage, started, failure=error.failure)
            raise
        except asyncio.CancelledError:
            self._pay(guessed(call), started, failure=Failure.ABANDONED)
            raise
        self._pay(completion.usage, started, first_s=completion.time_to_first_token_s)
        return completion

    async def _streamed(self, call: Call) -> AsyncGenerator[Piece, None]:
        started, text, ended = perf_counter(), [""], False
        try:
            pieces = self._backend.stream(call, timeout_s=self._timeout_s())
            async with aclosing(pieces):
                async for piece in pieces:
                    text.append(piece.text)
                    if piece.completion is not None:
                        first_s, ended = piece.completion.time_to_first_token_s, True
                        self._pay(piece.completion.usage, started, first_s=first_s)
                    yield piece
        except BackendFailed as error:
            ended = True
            self._pay(error.usage, started, failure=error.failure)
            raise
        finally:
            if not ended:
                written = Usage(output_tokens=sum(map(len, text)) // 4)
                self._pay(guessed(call) + written, started, failure=Failure.ABANDONED)

    async def _one_by_one(self, call: Call, got: Completion | None) -> Completion:
        """The samples that are missing, each by a call of its own, side by side."""
        have = () if got is None else got.said
        missing = range(len(have), call.samples)
        calls = [self._complete(_single(call, index)) for index in missing]
        try:
            done = await _gathered(calls)
        except BackendFailed:
            if got is None:
                raise
            return got
        said = [*have, *(each.said[0] for each in done)]
        known = [each for each in (got, *done) if each is not None]
        return Completion(
            said=tuple(said),
            usage=sum((each.usage for each in known), Usage()),
            latency_s=max(each.latency_s for each in done) + (got.latency_s if got else 0.0),
            time_to_first_token_s=known[0].time_to_first_token_s,
        )

    def _timeout_s(self) -> float:
        return min(self._trying.timeout_s, self._purse.left().seconds)

    def _pay(
        self,
        usage: Usage,
        started: float,
        *,
        first_s: float | None = None,
        failure: Failure | None = None,
    ) -> None:
        self._purse.pay(
            CallMade(
                model=self._model.name,
                usage=usage,
                cost_usd=usage.cost_usd(self._model),
                latency_s=perf_counter() - started,
                time_to_first_token_s=first_s,
                failure=failure,
            )
        )


def _single(call: Call, index: int) -> Call:
    """One sample of a call; a seed is moved on, since the same one gives the same answer."""
    seed = call.options.seed
    options = replace(call.options, seed=None if seed is None else seed + index)
    return replace(call, samples=1, options=options)


async def _gathered(calls: Sequence[Coroutine[Any, Any, Completion]]) -> list[Completion]:
    """Those that came. Raises what the first one did where none has."""
    done = await asyncio.gather(*calls, return_exceptions=True)
    came = [each for each in done if isinstance(each, Completion)]
    unexpected = [each for each in done if not isinstance(each, Completion | BackendFailed)]
    for error in unexpected or ([] if came else done):
        if isinstance(error, BaseException):
            raise error
    return came
