"""Calls as request bodies, and what providers send back, with all that some leave out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest

from router.execution.backend import BackendFailed
from router.execution.calls import Call, Completion, Failure, Options
from router.execution.openai_backend import OpenAIBackend
from router.execution.standing_in import stand_in
from router.execution.wording import body
from router.types import Arm, Model, Thinking


def model(**changes: Any) -> Model:
    known = {"name": "m", "input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0}
    return Model(**{**known, **changes})


def call(options: Options | None = None, **changes: Any) -> Call:
    message = {"role": "user", "content": "x" * 40}
    described = changes.pop("model", model())
    return Call(model=described, messages=(message,), options=options or Options(), **changes)


def test_nothing_is_sent_that_was_not_said() -> None:
    assert set(body(call())) == {"model", "messages"}
    said = body(call(Options(temperature=0.0, seed=1, stop=("\n",), logprobs=True), samples=3))
    assert (said["temperature"], said["seed"], said["stop"], said["n"]) == (0.0, 1, ["\n"], 3)
    assert said["logprobs"] is True


def test_the_bound_on_tokens_goes_by_the_name_that_the_endpoint_knows() -> None:
    options = Options(max_output_tokens=99)
    assert body(call(options))["max_tokens"] == 99
    theirs = model(endpoint="https://api.openai.com/v1")
    assert body(call(options, model=theirs))["max_completion_tokens"] == 99


@pytest.mark.parametrize(
    ("tokens", "effort"), [(0, "low"), (256, "low"), (1_024, "medium"), (4_096, "high")]
)
def test_thought_is_told_as_an_effort(tokens: int, effort: str) -> None:
    options = Options(max_output_tokens=100, temperature=0.7, logprobs=True)
    told = model(thinking=Thinking.EFFORT)
    said = body(call(options, model=told, thought_tokens=tokens))
    assert said["reasoning_effort"] == effort
    assert said["max_completion_tokens"] == 100 + tokens
    assert not {"temperature", "logprobs"} & set(said)
    assert "reasoning_effort" not in body(call(model=told))


def test_thought_is_told_as_a_budget_within_the_bound() -> None:
    told = model(thinking=Thinking.BUDGET)
    said = body(call(Options(temperature=0.7), model=told, thought_tokens=2_000))
    assert said["extra_body"]["thinking"] == {"type": "enabled", "budget_tokens": 2_000}
    assert said["max_tokens"] > 2_000
    assert "temperature" not in said
    assert body(call(Options(temperature=0.7), model=told))["temperature"] == 0.7


def test_thought_is_not_told_to_a_model_that_takes_no_word_of_it() -> None:
    assert set(body(call(thought_tokens=256))) == {"model", "messages"}


def test_the_arm_that_stands_in_is_of_another_model_and_best_at_another_endpoint() -> None:
    arms = [
        Arm(model=name, strategy=each) for name in ("a", "b", "c") for each in ("single", "dynamic")
    ]
    models = {name: model(name=name, endpoint=f"http://{name[-1]}") for name in ("a", "b", "c")}
    shared = {name: model(name=name, endpoint="http://x") for name in ("a", "b")}
    order = [1, 0, 2, 4, 3, 5]
    assert stand_in(order, arms, models, [0]) == 2
    assert stand_in(order, arms, models | shared, [0]) == 4
    assert stand_in([1, 0, 3, 2], arms, shared, [0]) == 3
    assert stand_in([1, 0], arms, models, [0]) is None


class Terse(BaseHTTPRequestHandler):
    """A provider that says `reply` and no more."""

    reply: ClassVar[Any] = {}
    status: ClassVar[int] = 200
    headers_sent: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[dict[str, Any]]] = []
    keys: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        Terse.asked.append(json.loads(self.rfile.read(length)))
        Terse.keys.append(self.headers["authorization"])
        text = self.reply if isinstance(self.reply, str) else json.dumps(self.reply)
        self.send_response(self.status)
        kind = "text/event-stream" if text.startswith("data:") else "application/json"
        self.send_header("content-type", kind)
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Terse)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture
def terse(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def says(reply: Any, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in (("reply", reply), ("status", status), ("headers_sent", named)):
            monkeypatch.setattr(Terse, name, value)

    yield says
    Terse.asked.clear()
    Terse.keys.clear()


def chat(content: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": content}}], **more}


async def complete(url: str, **changes: Any) -> Completion:
    backend = OpenAIBackend(url, lambda: "sk-mine")
    try:
        return await backend.complete(call(**changes), timeout_s=10.0)
    finally:
        await backend.close()


async def test_missing_usage_is_guessed_and_null_content_is_empty(url: str, terse: Any) -> None:
    terse(chat("four" * 10))
    completion = await complete(url)
    assert completion.usage.input_tokens == 14
    assert completion.usage.output_tokens == 10
    assert completion.said[0].confidence is None
    assert completion.said[0].finish_reason == "stop"
    terse(chat(None, usage={"prompt_tokens": 7, "completion_tokens": 1}))
    completion = await complete(url)
    assert completion.said[0].text == ""
    assert completion.usage.input_tokens == 7
    assert Terse.keys[-1] == "Bearer sk-mine"


async def test_cached_tokens_cost_less(url: str, terse: Any) -> None:
    details = {"cached_tokens": 60}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": details}
    terse(chat("4", usage=usage))
    spent = (await complete(url)).usage
    assert spent.cached_tokens == 60
    cheap = model(cached_input_usd_per_mtok=0.1)
    assert spent.cost_usd(cheap) == pytest.approx((40 * 1.0 + 60 * 0.1 + 10 * 4.0) / 1e6)


@pytest.mark.parametrize("reply", ["", "[]", '"4"', "{}", {"choices": []}, {"choices": [{}]}, "{"])
async def test_what_is_no_completion_is_garbage(url: str, terse: Any, reply: Any) -> None:
    terse(reply)
    with pytest.raises(BackendFailed) as caught:
        await complete(url)
    assert caught.value.failure is Failure.GARBAGE


@pytest.mark.parametrize(
    ("status", "code", "failure"),
    [
        (400, "", Failure.REFUSED),
        (401, "", Failure.NOT_SET_UP),
        (402, "", Failure.NOT_SET_UP),
        (404, "", Failure.NOT_SET_UP),
        (422, "", Failure.REFUSED),
        (408, "", Failure.TIMEOUT),
        (429, "", Failure.RATE_LIMITED),
        (429, "insufficient_quota", Failure.NOT_SET_UP),
        (503, "", Failure.OVERLOADED),
        (529, "", Failure.OVERLOADED),
    ],
)
async def test_each_status_is_its_failure(
    url: str, terse: Any, status: int, code: str, failure: Failure
) -> None:
    terse({"error": {"message": "a secret", "code": code}}, status, retry_after="7")
    with pytest.raises(BackendFailed) as caught:
        await complete(url)
    assert caught.value.failure is failure
    assert caught.value.retry_after_s == 7.0
    assert "a secret" not in caught.value.message
    assert len(Terse.asked) == 1


async def test_nobody_there_is_unreachable_and_costs_nothing() -> None:
    with pytest.raises(BackendFailed) as caught:
        await complete("http://127.0.0.1:9/v1")
    assert caught.value.failure is Failure.UNREACHABLE
    assert caught.value.usage.input_tokens == 0


@pytest.mark.parametrize(
    ("events", "failure"),
    [
        ('data: {"choices": [{"index": 0, "delta": {"content": "4"}}]}\n\n', Failure.BROKEN_OFF),
        ("data: {no json\n\n", Failure.GARBAGE),
        ("data: [DONE]\n\n", Failure.GARBAGE),
        ('data: {"error": {"message": "a secret"}}\n\n', Failure.OVERLOADED),
    ],
)
async def test_a_stream_that_does_not_end_well_is_its_failure(
    url: str, terse: Any, events: str, failure: Failure
) -> None:
    terse(events)
    backend = OpenAIBackend(url, lambda: "")
    with pytest.raises(BackendFailed) as caught:
        async for _ in backend.stream(call(), timeout_s=10.0):
            pass
    assert caught.value.failure is failure
    await backend.close()
