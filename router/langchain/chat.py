"""ChatLeadline: a chat model that lets Leadline pick model and strategy for each call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.utils import convert_to_openai_messages
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils import secret_from_env
from langchain_core.utils.function_calling import convert_to_openai_tool
from openai import AsyncOpenAI, OpenAI
from pydantic import ConfigDict, Field, SecretStr

from router.langchain.messages import chunk, result

_EXTRAS = ("slo", "compute_budget", "conversation_id", "subject", "max_cost_usd", "max_latency_s")
_CHOICES = {"any": "required"}


class ChatLeadline(BaseChatModel):
    """A chat model behind Leadline's gateway, which `base_url` is the address of, with /v1.

    `response_metadata` of each answer has its `decision_id`, `arm`, `cost_usd` and what else
    the gateway tells; `report` says what an answer was worth. The fields from `slo` to
    `max_latency_s` are those of a request; each may be given to a call as well.
    """

    model_config = ConfigDict(populate_by_name=True)

    base_url: str
    api_key: SecretStr = Field(
        default_factory=secret_from_env("LEADLINE_API_KEY", default="none"), repr=False
    )
    model_name: str = Field(default="auto", alias="model")
    slo: str | None = None
    compute_budget: int | None = None
    conversation_id: str | None = None
    subject: str | None = None
    max_cost_usd: float | None = None
    max_latency_s: float | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    timeout: float | None = None
    max_retries: int = 2

    @property
    def _llm_type(self) -> str:
        return "leadline"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"model": self.model_name, "base_url": self.base_url, **self._extras({})}

    @cached_property
    def client(self) -> OpenAI:
        """The client of calls that block."""
        return OpenAI(**self._connection())

    @cached_property
    def async_client(self) -> AsyncOpenAI:
        """The client of calls that await; it belongs to one event loop."""
        return AsyncOpenAI(**self._connection())

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with tools that it may call; `tool_choice` is OpenAI's, or a tool's name."""
        described = [convert_to_openai_tool(tool) for tool in tools]
        if tool_choice is not None:
            kwargs["tool_choice"] = _choice(tool_choice, described)
        return self.bind(tools=described, **kwargs)

    def report(self, answer: AIMessage, score: float, *, source: str = "feedback") -> str:
        """Says what an answer was worth, in [0, 1]; returns the outcome's id."""
        return _outcome_id(self.client.post("/feedback", **_feedback(answer, score, source)))

    async def areport(self, answer: AIMessage, score: float, *, source: str = "feedback") -> str:
        """As `report`."""
        told = _feedback(answer, score, source)
        return _outcome_id(await self.async_client.post("/feedback", **told))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        asked = self._asked(messages, stop, kwargs)
        return result(self.client.chat.completions.create(**asked).model_dump())

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        asked = self._asked(messages, stop, kwargs)
        return result((await self.async_client.chat.completions.create(**asked)).model_dump())

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        asked = self._asked(messages, stop, kwargs, streams=True)
        with self.client.chat.completions.create(**asked) as stream:
            for each in stream:
                generated = chunk(each.model_dump())
                if run_manager is not None and generated.text:
                    run_manager.on_llm_new_token(generated.text, chunk=generated)
                yield generated

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        asked = self._asked(messages, stop, kwargs, streams=True)
        async with await self.async_client.chat.completions.create(**asked) as stream:
            async for each in stream:
                generated = chunk(each.model_dump())
                if run_manager is not None and generated.text:
                    await run_manager.on_llm_new_token(generated.text, chunk=generated)
                yield generated

    def _connection(self) -> dict[str, Any]:
        told: dict[str, Any] = {"base_url": self.base_url, "max_retries": self.max_retries}
        if self.timeout is not None:
            told["timeout"] = self.timeout
        return told | {"api_key": self.api_key.get_secret_value()}

    def _asked(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        given: Mapping[str, Any],
        *,
        streams: bool = False,
    ) -> dict[str, Any]:
        """The arguments of a chat completion; what a call gives stands above the fields."""
        given = dict(given)
        usual: dict[str, Any] = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "stop": stop,
        }
        if streams:
            usual |= {"stream": True, "stream_options": {"include_usage": True}}
        return {
            "model": self.model_name,
            "messages": convert_to_openai_messages(messages),
            "extra_body": self._extras(given),
            **{name: value for name, value in usual.items() if value is not None},
            **given,
        }

    def _extras(self, given: dict[str, Any]) -> dict[str, Any]:
        """What Leadline takes beyond OpenAI's fields, taken out of what is given."""
        told = {name: given.pop(name, getattr(self, name)) for name in _EXTRAS}
        return {name: value for name, value in told.items() if value is not None}


def _choice(tool_choice: str, tools: Sequence[Mapping[str, Any]]) -> Any:
    if tool_choice in {tool["function"]["name"] for tool in tools}:
        return {"type": "function", "function": {"name": tool_choice}}
    return _CHOICES.get(tool_choice, tool_choice)


def _feedback(answer: AIMessage, score: float, source: str) -> dict[str, Any]:
    completion_id = answer.response_metadata["completion_id"]
    body = {"completion_id": completion_id, "score": score, "source": source}
    return {"cast_to": object, "body": body}


def _outcome_id(reply: Any) -> str:
    return str(reply["outcome_id"])
