"""`leadline serve` with its gateway, before a simulated provider that goes wrong as it is told."""

from __future__ import annotations

import runpy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from router.simulation.provider import ProviderSettings
from tests.integration.test_serving import eventually
from tests.kit.gateway_served import Served, served
from tests.kit.postgres import PostgresServer, rows
from tests.promises.gateway import compared, left, waved

HELLO: Any = [{"role": "user", "content": "What is 17 * 23? Answer with the number alone."}]
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}},
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A cluster of these tests' own, which one of them kills."""
    server = PostgresServer()
    server.start()
    server.make_template()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def place(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server; each test leaves the provider without faults."""
    provider = ProviderSettings(count=20, time_scale=0.1)
    with (
        postgres.database() as dsn,
        served(dsn, tmp_path_factory.mktemp("served"), provider) as both,
    ):
        yield both


@pytest.fixture
def client(place: Served) -> Iterator[Any]:
    with OpenAI(base_url=place.gateway, api_key="none", max_retries=0) as client:
        yield client
    place.go_wrong()


def logged(place: Served, query: str, decision_id: str) -> list[Any]:
    """Rows of the database, once there are any."""
    dsn = place.server.settings["DSN"]
    eventually(lambda: bool(rows(dsn, query.replace(":id", f"'{decision_id}'"))))
    return rows(dsn, query.replace(":id", f"'{decision_id}'"))


def test_a_named_model_answers_and_its_decision_and_outcome_are_logged(
    place: Served, client: Any
) -> None:
    raw = client.chat.completions.with_raw_response.create(model="sim-small", messages=HELLO)
    answer = raw.parse()
    assert answer.model == "sim-small"
    assert answer.choices[0].message.content
    assert float(raw.headers["x-leadline-cost-usd"]) > 0
    decision_id = raw.headers["x-leadline-decision-id"]
    [row] = logged(
        place, "select arm, propensity from decisions where decision_id = :id", decision_id
    )
    assert tuple(row) == ("sim-small:single", 1.0)
    [outcome] = logged(
        place, "select cost_usd, output_tokens from outcomes where decision_id = :id", decision_id
    )
    assert outcome[0] == pytest.approx(answer.leadline["cost_usd"])
    assert outcome[1] == answer.usage.completion_tokens


def test_auto_streams_an_answer_and_says_what_it_cost(client: Any) -> None:
    stream = client.chat.completions.create(
        model="auto", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].leadline["cost_usd"] > 0
    assert chunks[-1].usage.completion_tokens > 0


def test_a_strategy_that_needs_whole_answers_streams_the_last_one(client: Any) -> None:
    arm = "sim-small:self_consistency?samples=5"
    stream = client.chat.completions.create(model=arm, messages=HELLO, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_tools_and_json_reach_the_model_and_come_back(client: Any) -> None:
    called = client.chat.completions.create(
        model="auto", messages=HELLO, tools=[TOOL], tool_choice="required"
    )
    [call] = called.choices[0].message.tool_calls
    assert call.function.name == "weather"
    stream = client.chat.completions.create(
        model="sim-large", messages=HELLO, tools=[TOOL], tool_choice="required", stream=True
    )
    named = [
        call.function.name
        for chunk in stream
        for call in chunk.choices[0].delta.tool_calls or ()
        if call.function.name
    ]
    assert named == ["weather"]
    spoken = client.chat.completions.create(
        model="auto", messages=HELLO, response_format={"type": "json_object"}
    )
    assert spoken.choices[0].message.content.startswith("{")


def test_log_probabilities_come_where_they_are_asked_for(client: Any) -> None:
    asked = {"model": "sim-small", "messages": HELLO, "presence_penalty": 0.1}
    told = client.chat.completions.create(**asked, logprobs=True, top_logprobs=1).choices[0]
    assert told.logprobs.content[0].logprob < 0
    assert client.chat.completions.create(**asked).choices[0].logprobs is None


def test_several_answers_are_one_call(place: Served, client: Any) -> None:
    before = place.counters()["calls"]
    answer = client.chat.completions.create(model="sim-small", messages=HELLO, n=3)
    assert len(answer.choices) == 3
    assert place.counters()["calls"] == before + 1


@pytest.mark.parametrize("kind", ["garbage", "half"])
def test_where_a_backend_fails_another_arm_answers(place: Served, client: Any, kind: str) -> None:
    first = client.chat.completions.create(model="auto", messages=HELLO).model
    place.go_wrong({"kind": kind, "model": first})
    answer = client.chat.completions.create(model="auto", messages=HELLO)
    assert answer.model != first
    assert answer.choices[0].message.content
    failures = [attempt["failure"] for attempt in answer.leadline["attempts"]]
    assert failures[0]
    assert failures[-1] is None


@pytest.mark.parametrize(
    ("kind", "model", "told"),
    [
        ("rate_limit", "sim-medium", {(429, "backend_rate_limited")}),
        ("garbage", "sim-large", {(502, "backend_garbage")}),
        ("hang", "sim-reasoning", {(504, "backend_timeout"), (504, "deadline")}),
    ],
)
def test_where_nothing_can_stand_in_the_failure_has_its_status(
    place: Served, client: Any, kind: str, model: str, told: set[Any]
) -> None:
    """Each of a model of its own, whose circuit no other test's failures have opened."""
    timeout_s = 1.0 if kind == "hang" else 60.0
    place.go_wrong({"kind": kind})
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(
            model=model, messages=HELLO, extra_body={"timeout_s": timeout_s}
        )
    assert (raised.value.status_code, raised.value.code) in told


def test_half_a_stream_is_an_error_that_the_client_sees(place: Served, client: Any) -> None:
    place.go_wrong({"kind": "half"})
    stream = client.chat.completions.create(model="sim-small", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError):
        list(stream)


def test_a_client_that_waits_no_longer_stops_the_spending(place: Served, client: Any) -> None:
    before = place.counters()["abandoned"]
    place.go_wrong({"kind": "hang", "times": 1, "seconds": 60})
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(model="sim-small", messages=HELLO)
    eventually(lambda: place.counters()["abandoned"] == before + 1)


def test_answers_go_on_while_postgres_is_away(
    place: Served, client: Any, postgres: PostgresServer
) -> None:
    client.chat.completions.create(model="auto", messages=HELLO)
    postgres.kill()
    try:
        answer = client.chat.completions.create(model="auto", messages=HELLO)
    finally:
        postgres.start()
    decision_id = answer.leadline["decision_id"]
    assert logged(place, "select 1 from decisions where decision_id = :id", decision_id)


async def test_what_the_promises_measure_is_measured(place: Served) -> None:
    direct_s, gateway_s = await compared(place, calls=10, per_s=50.0)
    assert len(direct_s) == len(gateway_s) == 5
    _, _, ended = await waved(place, streams=20, waves=2)
    assert ended == 40
    assert len(await left(place, times=2)) == 2


@pytest.mark.parametrize("name", ["openai_client", "langchain_chat", "grpc_service"])
def test_the_examples_run(
    place: Served,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LEADLINE_GATEWAY", place.gateway)
    monkeypatch.setenv("LEADLINE_ADDRESS", place.server.address)
    monkeypatch.setenv("BACKEND", place.provider)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert "sim-" in capsys.readouterr().out


def test_no_text_of_a_query_is_in_the_log(place: Served, client: Any) -> None:
    place.go_wrong({"kind": "error"})
    with pytest.raises(openai.APIStatusError):
        client.chat.completions.create(
            model="sim-tiny", messages=[{"role": "user", "content": "a private question"}]
        )
    time.sleep(0.1)
    assert "private question" not in place.server.log
