"""What a chat completion request asks, as values: parsed once, at the edge."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router.errors import InvalidInput
from router.execution.calls import Message, Options
from router.execution.deciding import Request
from router.execution.strategy import Task
from router.gateway.naming import Named
from router.policy.conversation import LEAST_CACHED_TOKENS
from router.types import Bounds, Capability

EXTRA = "x-leadline-"
FURTHER = (
    *("presence_penalty", "frequency_penalty", "logit_bias", "top_logprobs"),
    *("parallel_tool_calls", "verbosity"),
)
"""Fields of OpenAI's that reach the provider unread."""

MOST_SAMPLES = 16
_Text = Annotated[str, Field(max_length=256)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Part(BaseModel):
    type: str


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None


class _Tool(BaseModel):
    type: str


class _Format(BaseModel):
    type: Literal["text", "json_object", "json_schema"]


class _StreamOptions(BaseModel):
    include_usage: bool | None = None


class _Extras(BaseModel):
    """What Leadline takes on top of OpenAI's fields: in the body, or as `x-leadline-` headers."""

    slo: Annotated[str, Field(max_length=128)] = ""
    compute_budget: Annotated[int, Field(ge=0, le=100)] = 0
    conversation_id: _Text = ""
    subject: _Text = ""
    max_cost_usd: _Positive | None = None
    max_latency_s: _Positive | None = None
    timeout_s: _Positive | None = None
    request_id: _Text = ""


_HEADERS = {EXTRA + name.replace("_", "-"): name for name in _Extras.model_fields}


class _Body(_Extras):
    """The fields of OpenAI's that Leadline reads; those it does not know are left unread."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: Annotated[str, Field(min_length=1, max_length=512)]
    messages: Annotated[list[_Message], Field(min_length=1, max_length=4_096)]
    n: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    response_format: _Format | None = None
    tools: Annotated[list[_Tool], Field(max_length=256)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    user: _Text | None = None
    safety_identifier: _Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A chat completion to make: what is executed, and how it is written back.

    `request` lacks what the model's name decides; see `Asked.of_model`.
    """

    model: str
    request: Request
    streams: bool
    include_usage: bool

    def of_model(self, named: Named) -> Request:
        """The request to execute. Raises InvalidInput where two slos are named."""
        request, pinned = self.request, bool(named.arms)
        if named.slo and request.slo and named.slo != request.slo:
            raise InvalidInput(f"is {request.slo!r:.80}, and the model names another", field="slo")
        return replace(
            request,
            slo=named.slo or request.slo,
            bounds=replace(request.bounds, allowed_arms=named.arms, may_continue=not pinned),
            needs=frozenset() if pinned else request.needs,
        )


def asked(
    body: Mapping[str, Any], headers: Mapping[str, str], *, key: bytes, most_s: float
) -> Asked:
    """Reads a request. Raises InvalidInput that names the field.

    It may take `most_s` at most. `key` makes conversation ids of messages, so that they tell
    nothing of the text.
    """
    read: _Body = read_as(_Body, body)
    if extras := _extras(headers):
        read = read.model_copy(update=extras)
    if body.get("functions"):
        raise InvalidInput("is not taken any more; use tools", field="functions")
    messages: tuple[Message, ...] = tuple(body["messages"])
    streams, samples, needs = bool(read.stream), read.n or 1, _needs(read)
    return Asked(
        model=read.model,
        streams=streams,
        include_usage=bool(read.stream_options and read.stream_options.include_usage),
        request=Request(
            task=Task(
                messages=messages,
                options=_options(read, body),
                answer_kind="json" if Capability.JSON in needs else "auto",
                samples=samples,
            ),
            request_id=read.request_id,
            slo=read.slo,
            subject=read.subject or read.safety_identifier or read.user or "",
            conversation_id=read.conversation_id or _conversation(messages, key),
            bounds=Bounds(
                max_cost_usd=read.max_cost_usd,
                max_latency_s=read.max_latency_s,
                compute_budget=read.compute_budget,
            ),
            needs=needs,
            deadline_s=min(read.timeout_s or most_s, most_s),
            streams=streams and samples == 1,
        ),
    )


def read_as(shape: type[Any], value: Any, *, strict: bool = True) -> Any:
    """The value in that shape, a pydantic model. Raises InvalidInput that names the field."""
    try:
        return shape.model_validate(value, strict=strict)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        param = ".".join(step for step in map(str, first["loc"]) if not _is_type(step))
        raise InvalidInput(first["msg"], field=param[:200] or "body") from None


def _is_type(step: str) -> bool:
    """Whether a step of a place is what pydantic adds to it for each type that may be there."""
    return step == "str" or "[" in step


def _extras(headers: Mapping[str, str]) -> dict[str, Any]:
    """What headers say, which goes before the body; an empty or a zero one says nothing."""
    given = {name: headers[header] for header, name in _HEADERS.items() if header in headers}
    if not given:
        return {}
    extras: _Extras = read_as(_Extras, given, strict=False)
    return extras.model_dump(exclude_defaults=True)


def _options(read: _Body, body: Mapping[str, Any]) -> Options:
    stop = (read.stop,) if isinstance(read.stop, str) else tuple(read.stop or ())
    return Options(
        temperature=read.temperature,
        top_p=read.top_p,
        seed=read.seed,
        stop=stop,
        max_output_tokens=read.max_completion_tokens or read.max_tokens,
        logprobs=bool(read.logprobs),
        response_format=body.get("response_format"),
        tools=tuple(body.get("tools") or ()),
        tool_choice=body.get("tool_choice"),
        further={name: body[name] for name in FURTHER if body.get(name) is not None},
    )


def _needs(read: _Body) -> frozenset[Capability]:
    kinds = {part.type for message in read.messages for part in _parts(message)}
    wanted = {
        Capability.TOOLS: bool(read.tools),
        Capability.VISION: bool(kinds & {"image_url", "input_image", "image"}),
        Capability.JSON: read.response_format is not None and read.response_format.type != "text",
    }
    return frozenset(each for each, needed in wanted.items() if needed)


def _parts(message: _Message) -> list[_Part]:
    return message.content if isinstance(message.content, list) else []


def _conversation(messages: tuple[Message, ...], key: bytes) -> str:
    """An id that a conversation's turns share, since they begin alike; empty for short ones.

    Which are those that no provider keeps a prompt of, since a token has a character at least.
    """
    if sum(len(text) for message in messages for text in _texts(message)) < LEAST_CACHED_TOKENS:
        return ""
    digest = hashlib.blake2b(key=key[:64], digest_size=16)
    for message in _opening(messages):
        for text in (message["role"], *_texts(message)):
            digest.update(len(text).to_bytes(8, "big") + text.encode())
    return f"messages-{digest.hexdigest()}"


def _opening(messages: tuple[Message, ...]) -> Iterator[Message]:
    """The messages up to the first one of the user."""
    for message in messages:
        yield message
        if message["role"] == "user":
            return


def _texts(message: Message) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        yield from (text for part in content if isinstance(text := part.get("text"), str))
