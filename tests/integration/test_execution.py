"""Execute over a real channel: a real server and database before the simulated provider."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct

from router.clients import Answered, AsyncClient, Chosen, Client, Written
from router.errors import InvalidInput
from router.simulation.fleet import catalog
from router.simulation.provider import ProviderSettings, spawn
from router.v1 import execution_pb2 as pb
from router.v1.execution_pb2_grpc import ExecutorStub
from router.v1.router_pb2 import RouteRequest
from tests.integration.test_serving import refused
from tests.kit.postgres import PostgresServer, rows
from tests.kit.server import Admin, ServerProcess, serving

QUESTION = "What is seventeen and twenty-five, my secret question?"
TINY, MEDIUM = "sim-tiny:single", "sim-medium:single"
SOUND = tuple(
    arm.key for arm in catalog().arms if arm.strategy == "single" and arm.key not in {TINY, MEDIUM}
)
"""Arms of models that no other test's faults have taken out, or opened the circuit of."""

REFINED = next(arm.key for arm in catalog().arms if arm.strategy == "refinement")


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server, its provider and a database."""

    stub: Any
    key: str
    server: ServerProcess
    provider: str
    dsn: str

    def fail(self, *faults: dict[str, Any]) -> None:
        url = self.provider.replace("/v1", "/simulated/faults")
        assert httpx.put(url, json=list(faults)).status_code == 200

    def counters(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(
            self.provider.replace("/v1", "/simulated/counters")
        ).json()
        return found

    def execute(self, timeout_s: float = 20.0, **asked: Any) -> list[pb.ExecuteResponse]:
        return list(self.stream(timeout_s, **asked))

    def stream(self, timeout_s: float = 20.0, **asked: Any) -> Any:
        metadata = (("authorization", f"Bearer {self.key}"),)
        return self.stub.Execute(request(**asked), timeout=timeout_s, metadata=metadata)

    def answer(self, **asked: Any) -> pb.FinalAnswer:
        return self.execute(**asked)[-1].answer


@pytest.fixture(scope="module")
def running(cluster: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with cluster.database() as dsn, spawn(ProviderSettings(seed=3, count=20)) as provider:
        with Admin(dsn) as admin:
            admin.seed(catalog(provider), "default")
            key = admin.key("default")
        state_dir = tmp_path_factory.mktemp("execution")
        with (
            serving(state_dir, dsn, log_level="debug", authentication="api_key") as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            yield Running(
                stub=ExecutorStub(channel),
                key=key,
                server=server,
                provider=provider,
                dsn=dsn,
            )


def request(text: str = QUESTION, **asked: Any) -> pb.ExecuteRequest:
    arms = tuple(asked.pop("arms", (MEDIUM,)))
    route = RouteRequest(text=text, allowed_arms=arms, **asked.pop("route", {}))
    return pb.ExecuteRequest(route=route, **asked)


def outcomes(running: Running, decision_id: str, count: int) -> list[tuple[Any, ...]]:
    """Attempt, error, cost and tokens of a decision's outcomes, once they have been shipped."""
    query = (
        "select attempt, coalesce(error, ''), cost_usd, output_tokens from outcomes "
        f"where decision_id = '{decision_id}' order by attempt"
    )
    deadline = time.monotonic() + 20
    while len(found := rows(running.dsn, query)) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def test_the_stream_tells_the_arm_the_text_and_the_answer_with_what_it_cost(
    running: Running,
) -> None:
    events = running.execute(stream=True, options=pb.CallOptions(seed=1))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "chosen"
    assert kinds[-1] == "answer"
    assert set(kinds[1:-1]) == {"partial"}
    answer = events[-1].answer
    assert "".join(event.partial.text for event in events[1:-1]) == answer.said.text
    assert answer.attempts[0].arm.key == MEDIUM
    assert answer.attempts[0].evidence.confidence < 0
    assert answer.attempts[0].evidence.time_to_first_token_s > 0
    model = catalog().model("sim-medium")
    usd = answer.input_tokens * model.input_usd_per_mtok
    usd += answer.output_tokens * model.output_usd_per_mtok
    assert answer.cost_usd == pytest.approx(usd / 1e6)
    [(attempt, error, cost_usd, tokens)] = outcomes(running, answer.decision_id, 1)
    assert (attempt, error, tokens) == (0, "", answer.output_tokens)
    assert cost_usd == pytest.approx(answer.cost_usd)


@pytest.mark.parametrize(
    "arm",
    {arm.strategy: arm.key for arm in catalog().arms if arm.model == "sim-reasoning"}.values(),
)
def test_each_strategy_runs(running: Running, arm: str) -> None:
    events = running.execute(arms=(arm,))
    assert events[-1].answer.said.text
    assert events[-1].answer.attempts[0].arm.key == arm


def test_messages_tools_and_forms_reach_the_model(running: Running) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    said = {"role": "user", "content": [{"type": "text", "text": "use the tool"}, image]}
    answer = running.answer(
        text="",
        messages=[ParseDict(said, Struct())],
        options=pb.CallOptions(tools=[ParseDict(tool, Struct())]),
    )
    assert answer.said.finish_reason == "tool_calls"
    assert MessageToDict(answer.said.tool_calls[0])["function"]["name"] == "look_up"
    form = ParseDict({"type": "json_object"}, Struct())
    answer = running.answer(options=pb.CallOptions(response_format=form))
    assert answer.said.text.startswith("{")


def test_a_fault_that_is_safe_is_tried_again(running: Running) -> None:
    running.fail({"kind": "rate_limit", "times": 1, "seconds": 0.1}, {"kind": "error", "times": 1})
    answer = running.answer()
    assert answer.attempts[0].calls == 3
    assert answer.attempts[0].failure == ""


@pytest.mark.parametrize(
    ("kind", "failure"),
    [("garbage", "garbage"), ("half", "broken_off"), ("close", "broken_off")],
)
def test_another_arm_stands_in_and_both_attempts_are_logged(
    running: Running, kind: str, failure: str
) -> None:
    running.fail({"kind": kind, "times": 1})
    events = running.execute(arms=SOUND)
    answer = events[-1].answer
    assert [event.chosen.failure for event in events[:-1]] == ["", failure]
    assert [attempt.failure for attempt in answer.attempts] == [failure, ""]
    assert answer.attempts[0].arm.model != answer.attempts[1].arm.model
    logged = outcomes(running, answer.decision_id, 2)
    assert [(row[0], row[1]) for row in logged] == [(0, failure), (1, "")]
    assert all(row[2] > 0 for row in logged)
    assert answer.cost_usd == pytest.approx(sum(row[2] for row in logged))
    attempts = f"select next_arm, reason from attempts where decision_id = '{answer.decision_id}'"
    [(next_arm, reason)] = rows(running.dsn, attempts)
    assert next_arm == answer.attempts[1].arm.key
    assert failure in str(reason)


def test_no_answer_is_an_error_within_the_deadline_and_is_logged(running: Running) -> None:
    running.fail({"kind": "hang", "times": 2, "seconds": 30})
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        running.execute(1.5, arms=(TINY, MEDIUM))
    assert time.monotonic() - started < 3.0
    assert caught.value.code().name in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    running.fail({"kind": "error"})
    code, reason, _ = refused(lambda: running.execute(arms=(TINY,)))
    running.fail()
    assert (code, reason) == ("UNAVAILABLE", "BACKEND_FAILED")


def test_whoever_leaves_is_gone_from_the_provider_within_100_ms(running: Running) -> None:
    running.fail({"kind": "hang", "times": 1, "seconds": 30})
    before = running.counters()["abandoned"]
    stream = running.stream()
    assert next(stream).WhichOneof("event") == "chosen"
    time.sleep(0.2)
    left_at = time.time()
    stream.cancel()
    while (counted := running.counters())["abandoned"] == before:
        assert time.time() - left_at < 5.0
        time.sleep(0.01)
    assert counted["abandoned_at"] - left_at < 0.5  # 0.1 s alone on the machine: make promises


@pytest.mark.parametrize(
    ("verifier", "code"), [("unit_tests", "PERMISSION_DENIED"), ("nobody's", "INVALID_ARGUMENT")]
)
def test_a_verifier_must_be_one_that_the_operator_allows(
    running: Running, verifier: str, code: str
) -> None:
    asked: dict[str, Any] = {"arms": (REFINED,), "verifier": verifier}
    assert refused(lambda: running.execute(**asked))[0] == code
    asked["verifier"] = "self"
    assert running.answer(**asked).said.text


async def test_the_clients_hear_the_same_and_get_the_answer(running: Running) -> None:
    asked: dict[str, Any] = {"allowed_arms": [MEDIUM], "seed": 1, "stream": True}
    known: dict[str, Any] = {"address": running.server.address, "api_key": running.key}
    with Client(**known) as client:
        events = list(client.execute(QUESTION, **asked))
        answer = client.answer([{"role": "user", "content": QUESTION}], **asked)
    async with AsyncClient(**known) as other:
        heard = [event async for event in other.execute(QUESTION, **asked)]
        with pytest.raises(InvalidInput, match="samples"):
            await other.answer(QUESTION, samples=99)
    assert [type(event) for event in events] == [type(event) for event in heard]
    assert isinstance(events[0], Chosen)
    assert isinstance(events[-1], Answered)
    assert events[-1].text == answer.text
    assert "".join(event.text for event in events if isinstance(event, Written)) == answer.text
    assert answer.arm.key == MEDIUM
    assert answer.attempts[0].evidence is not None
    assert answer.attempts[0].evidence.cost_usd == pytest.approx(answer.cost_usd)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"answer_kind": "riddle"}, "answer_kind"),
        ({"samples": 99}, "samples"),
        ({"options": pb.CallOptions(temperature=9)}, "options.temperature"),
        ({"options": pb.CallOptions(max_output_tokens=0)}, "options.max_output_tokens"),
        ({"messages": [Struct()]}, "messages"),
    ],
)
def test_a_bad_request_is_refused_by_its_field(
    running: Running, asked: dict[str, Any], field: str
) -> None:
    code, _, named = refused(lambda: running.execute(**asked))
    assert (code, named) == ("INVALID_ARGUMENT", field)


def test_no_log_holds_a_word_of_a_prompt_or_an_answer(running: Running) -> None:
    answer = running.answer()
    log = running.server.log
    assert "secret question" not in log
    assert answer.said.text not in log


def test_a_key_is_needed(running: Running) -> None:
    code = refused(lambda: list(running.stub.Execute(request(), timeout=10.0)))[0]
    assert code == "UNAUTHENTICATED"
