"""The OpenAI wire format of the simulated provider: requests as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field, ValidationError

from router.simulation.answering import Ask
from router.simulation.fleet import BY_NAME
from router.simulation.scaling import Effort

DEFAULT_THOUGHT_TOKENS = 1024
MOST_THOUGHT_TOKENS = 4096  # no figure is published beyond
EFFORT_TOKENS = {"none": 0, "minimal": 0, "low": 256, "medium": 1024}
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
STEP_BY_STEP = "step by step"


class ApiError(Exception):
    """A refusal in OpenAI's error format, or `garbage` in its place."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        garbage: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status, self.headers, self.garbage = status, dict(headers or {}), garbage
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _Part(BaseModel):
    type: str
    text: str = ""


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class _StreamOptions(BaseModel):
    include_usage: bool | None = None


class _Named(BaseModel):
    name: str
    parameters: Mapping[str, Any] = Field(default_factory=dict)


class Tool(BaseModel):
    """A tool that a reply may call."""

    type: Literal["function"] = "function"
    function: _Named


class ResponseFormat(BaseModel):
    """What a reply's text must be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Mapping[str, Any] | None = None


class ChatRequest(BaseModel):
    """The part of a chat completion request that the simulation reads."""

    model: str
    messages: list[_Message] = Field(min_length=1)
    n: int | None = Field(None, ge=1, le=128)
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    reasoning_effort: ReasoningEffort | None = None
    seed: int | None = None
    logprobs: bool | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[Tool] | None = None
    tool_choice: str | Mapping[str, Any] | None = None
    response_format: ResponseFormat | None = None

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with what it used."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def token_limit(self) -> int | None:
        """The most output tokens of one sample."""
        return self.max_completion_tokens or self.max_tokens

    def question_text(self, known: Any) -> str:
        """The first user message that `known` accepts, else the last one."""
        texts = [message.text.strip() for message in self.messages if message.role == "user"]
        return next(filter(known, texts), texts[-1] if texts else "")

    def effort(self) -> Effort:
        """Thought from the prompt or `reasoning_effort`; rounds from the answers so far."""
        rounds = 1 + sum(message.role == "assistant" for message in self.messages)
        return Effort(tokens=self._thought_tokens(), rounds=rounds, samples=self.n or 1)

    def _thought_tokens(self) -> int:
        if self.reasoning_effort is not None:
            return EFFORT_TOKENS.get(self.reasoning_effort, MOST_THOUGHT_TOKENS)
        if any(STEP_BY_STEP in message.text.lower() for message in self.messages):
            return min(self.token_limit or DEFAULT_THOUGHT_TOKENS, MOST_THOUGHT_TOKENS)
        return 0

    @property
    def prompt_tokens(self) -> int:
        """About four characters a token, and four tokens a message."""
        return sum(len(message.text) // 4 + 4 for message in self.messages)


def read_chat(body: bytes) -> ChatRequest:
    """Parses a request. Raises ApiError 400, or 404 for an unknown model."""
    try:
        request = ChatRequest.model_validate(_read_json(body))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        param = ".".join(str(step) for step in first["loc"]) or "body"
        raise ApiError(400, f"{param}: {first['msg']}", param=param) from None
    if request.model not in BY_NAME:
        raise ApiError(
            404,
            f"The model {request.model[:64]!r} does not exist; GET /v1/models lists those that do.",
            param="model",
            code="model_not_found",
        )
    return request


def ask_of(request: ChatRequest, known: Any, key: str) -> Ask:
    """What the request asks; `key` stands in for a missing seed."""
    greedy = request.temperature == 0
    seed = "greedy" if greedy else key if request.seed is None else str(request.seed)
    return Ask(
        model=BY_NAME[request.model],
        text=request.question_text(known),
        effort=request.effort(),
        key=seed,
        greedy=greedy,
        max_tokens=request.token_limit,
    )


def _read_json(body: bytes) -> Any:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise ApiError(
            400, f"The body is not valid UTF-8 at byte {error.start}; send JSON as UTF-8."
        ) from None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise ApiError(400, f"The body is not valid JSON at {where}.") from None
