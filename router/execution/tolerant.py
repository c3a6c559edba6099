"""Does without log-probabilities where a provider refuses calls that ask for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from router.execution.backend import Backend, BackendFailed
from router.execution.calls import Call, Completion, Failure, Piece


class TolerantBackend:
    """A backend that is asked again without log-probabilities, once it refused with them.

    A refusal costs nothing. A model that answers without them is not asked for them again.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self._without: set[str] = set()

    async def complete(self, call: Call, *, timeout_s: float) -> Completion:
        """As Backend says."""
        asked = self._known(call)
        try:
            return await self._inner.complete(asked, timeout_s=timeout_s)
        except BackendFailed as error:
            if not _may_help(error, asked):
                raise
        completion = await self._inner.complete(_plain(asked), timeout_s=timeout_s)
        self._without.add(_name(call))
        return completion

    async def stream(self, call: Call, *, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """As Backend says."""
        asked = self._known(call)
        try:
            async with aclosing(self._inner.stream(asked, timeout_s=timeout_s)) as pieces:
                async for piece in pieces:
                    yield piece
                return
        except BackendFailed as error:
            if not _may_help(error, asked):
                raise
        async with aclosing(self._inner.stream(_plain(asked), timeout_s=timeout_s)) as pieces:
            async for piece in pieces:
                self._without.add(_name(call))
                yield piece

    async def close(self) -> None:
        """As Backend says."""
        await self._inner.close()

    def _known(self, call: Call) -> Call:
        return _plain(call) if _name(call) in self._without else call


def _name(call: Call) -> str:
    return call.model.endpoint_model or call.model.name


def _plain(call: Call) -> Call:
    return replace(call, options=replace(call.options, logprobs=False))


def _may_help(error: BackendFailed, call: Call) -> bool:
    return error.failure is Failure.REFUSED and call.options.logprobs
