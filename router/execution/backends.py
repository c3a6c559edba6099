"""The backends by the endpoints of the catalog's models, each made once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

from router.execution.backend import Backend, BackendFailed
from router.execution.calls import Failure
from router.execution.guarded import GuardedBackend
from router.execution.hedged import HedgedBackend
from router.execution.keys import Keys
from router.execution.tolerant import TolerantBackend
from router.types import Model

Maker = Callable[[str, Callable[[], str]], Backend]
"""Makes the backend of an endpoint, with what gives its key."""


def openai_backend(endpoint: str, key: Callable[[], str]) -> Backend:
    """An OpenAI-compatible endpoint. Raises BackendFailed without the extra `execution`."""
    try:
        from router.execution.openai_backend import OpenAIBackend  # noqa: PLC0415

        return OpenAIBackend(endpoint, key)
    except ModuleNotFoundError as error:
        raise _missing(error.name or "openai", "execution") from None


def litellm_backend(endpoint: str, key: Callable[[], str]) -> Backend:
    """Any provider that litellm knows. Raises BackendFailed without the extra `litellm`."""
    try:
        from router.execution.litellm_backend import LiteLLMBackend  # noqa: PLC0415

        return LiteLLMBackend(endpoint.partition(":")[2], key)
    except ModuleNotFoundError as error:
        raise _missing(error.name or "litellm", "litellm") from None


MAKERS: Mapping[str, Maker] = MappingProxyType(
    {"http": openai_backend, "https": openai_backend, "litellm": litellm_backend}
)
"""By the scheme of the endpoint; `litellm:` may be followed by a base URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What holds for every backend: calls under way at once, and when to ask again (0: never)."""

    concurrency: int = 256
    hedge_after_s: float = 0.0


class Backends:
    """Finds the backend of a model. Belongs to one event loop."""

    def __init__(self, keys: Keys, guards: Guards, makers: Mapping[str, Maker] = MAKERS) -> None:
        self._keys, self._guards, self._makers = keys, guards, makers
        self._made: dict[str, Backend] = {}

    def of(self, model: Model) -> Backend:
        """Raises BackendFailed where the catalog has no endpoint that can be called."""
        made = self._made.get(model.endpoint)
        if made is None:
            made = self._made[model.endpoint] = self._make(model)
        return made

    def prepare(self, models: Iterable[Model]) -> None:
        """Makes those of the models that can be called.

        Their libraries take a second to load, in which nothing else could be answered, nor
        a caller be seen to leave.
        """
        for model in models:
            with suppress(Exception):  # a call says what is wrong
                self.of(model)

    async def close(self) -> None:
        """Closes them all."""
        made, self._made = list(self._made.values()), {}
        await asyncio.gather(*(each.close() for each in made))

    def _make(self, model: Model) -> Backend:
        scheme = model.endpoint.partition(":")[0].lower()
        maker = self._makers.get(scheme)
        if maker is None:
            raise BackendFailed(
                f"model {model.name!r:.80} has no endpoint that can be called; set an http(s) URL "
                "or 'litellm:' with 'leadline models add --endpoint'",
                failure=Failure.NOT_SET_UP,
            )
        backend = maker(model.endpoint, self._keys.of(model.endpoint))
        tolerant = TolerantBackend(backend)
        guarded: Backend = GuardedBackend(tolerant, most=self._guards.concurrency)
        after_s = self._guards.hedge_after_s
        return HedgedBackend(guarded, after_s=after_s) if after_s else guarded


def _missing(module: str, extra: str) -> BackendFailed:
    return BackendFailed(
        f"calling models needs {module}: pip install 'leadline[{extra}]'",
        failure=Failure.NOT_SET_UP,
    )
