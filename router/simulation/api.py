"""The OpenAI wire format of the simulated provider: requests read, replies written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field, ValidationError

from router.simulation.answering import Ask, Reply, Sample
from router.simulation.fleet import BY_NAME, FLEET
from router.simulation.scaling import Effort

NOTICE = "simulated: invented models with drawn answers, tokens, latency and confidence"
DEFAULT_THOUGHT_TOKENS = 1024
MOST_THOUGHT_TOKENS = 4096  # no figure is published beyond
EFFORT_TOKENS = {"none": 0, "minimal": 0, "low": 256, "medium": 1024}
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
STEP_BY_STEP = "step by step"


class ApiError(Exception):
    """A refusal in OpenAI's error format."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
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
    stream: Literal[False] | None = None

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


def write_chat(request: ChatRequest, reply: Reply, *, number: int, created: int) -> bytes:
    """The chat completion as JSON."""
    output_tokens = sum(sample.output_tokens for sample in reply.samples)
    return orjson.dumps(
        {
            "id": f"chatcmpl-simulated-{number}",
            "object": "chat.completion",
            "created": created,
            "model": request.model,
            "system_fingerprint": "simulated",
            "choices": _choices(reply.samples, logprobs=bool(request.logprobs)),
            "usage": {
                "prompt_tokens": request.prompt_tokens,
                "completion_tokens": output_tokens,
                "total_tokens": request.prompt_tokens + output_tokens,
            },
        }
    )


def write_models() -> bytes:
    """The list of models, which says that they are simulated."""
    models = [
        {
            "id": item.model.name,
            "object": "model",
            "created": 0,
            "owned_by": "leadline-simulation",
            "description": NOTICE,
        }
        for item in FLEET
    ]
    return orjson.dumps({"object": "list", "data": models})


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


def _choices(samples: Sequence[Sample], *, logprobs: bool) -> list[dict[str, Any]]:
    return [
        {
            "index": index,
            "message": {"role": "assistant", "content": sample.content, "refusal": None},
            "finish_reason": "stop",
            "logprobs": _logprobs(sample) if logprobs else None,
        }
        for index, sample in enumerate(samples)
    ]


def _logprobs(sample: Sample) -> dict[str, Any]:
    tokens = re.findall(r"\s*\S+", sample.content)
    return {
        "content": [
            {"token": token, "logprob": sample.confidence, "bytes": None, "top_logprobs": []}
            for token in tokens
        ],
        "refusal": None,
    }
