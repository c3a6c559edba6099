from __future__ import annotations

import re
import subprocess
import sys
from typing import Any, cast
from uuid import UUID

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.clients import calls, messages
from router.clients.connection import Connection, Patience
from router.clients.errors import BY_REASON, named
from router.clients.values import OutcomeReport
from router.errors import InvalidInput, LeadlineError, NotFound, Unavailable
from router.slo import AccuracyScope, OnInfeasible, Slo
from router.types import Arm, Capability, Model, Thinking
from router.v1 import errors_pb2
from tests.kit.policies import some_slos

RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Status(grpc.RpcError):
    """A failed call, as gRPC raises it."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "some text"

    def trailing_metadata(self) -> tuple[()]:
        return ()


def patience() -> Patience:
    return Patience(address="here:1", ends_s=10.0, draw=lambda: 1.0)


def test_every_reason_of_the_closed_set_has_a_class() -> None:
    reasons = {
        name.removeprefix("ERROR_REASON_")
        for name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name
    }
    assert reasons - {"UNSPECIFIED"} == set(BY_REASON)


def test_a_reason_of_a_newer_server_is_still_a_leadline_error() -> None:
    error = named("FROM_THE_FUTURE", "text")
    assert type(error) is LeadlineError
    assert error.reason == "FROM_THE_FUTURE"


@pytest.mark.parametrize("code", RETRIED)
def test_a_server_that_is_away_is_asked_again_after_rising_pauses(code: grpc.StatusCode) -> None:
    waits = patience()
    pauses = [waits.pause_s(Status(code), 0.0) for _ in range(8)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.1
    assert pauses[-1] == 1.0


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code not in RETRIED])
def test_nothing_else_is_asked_again(code: grpc.StatusCode) -> None:
    with pytest.raises(LeadlineError):
        patience().pause_s(Status(code), 0.0)


def test_no_pause_reaches_beyond_the_deadline() -> None:
    with pytest.raises(Unavailable, match="no server answers there"):
        patience().pause_s(Status(grpc.StatusCode.UNAVAILABLE), 9.99)


def test_the_key_is_not_shown_in_repr() -> None:
    connection = Connection.of(address=None, api_key="ll_secret", tls=False, timeout_s=2.0)
    assert "secret" not in repr(connection)


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADLINE_ADDRESS", "there:7")
    monkeypatch.setenv("LEADLINE_API_KEY", "ll_k")
    connection = Connection.of(address=None, api_key=None, tls=False, timeout_s=2.0)
    assert connection.address == "there:7"
    assert connection.metadata == (("authorization", "Bearer ll_k"),)


@given(some_slos())
def test_an_slo_survives_the_wire(slo: Slo) -> None:
    assert messages.slo_of(messages.slo_message(slo)) == slo


def test_an_slo_of_unusual_words_survives_the_wire() -> None:
    slo = Slo(
        name="chat",
        version=3,
        min_accuracy=0.0,
        accuracy_scope=AccuracyScope.PER_QUERY,
        on_infeasible=OnInfeasible.REJECT,
        allowed_strategies=("single",),
    )
    assert messages.slo_of(messages.slo_message(slo)) == slo


def test_an_arm_keeps_its_key_over_the_wire() -> None:
    arm = Arm(model="m", strategy="s", params={"samples": 3, "share": 0.5, "base": "single"})
    assert messages.arm_of(messages.arm_message(arm)).key == arm.key


def test_a_model_survives_the_wire() -> None:
    model = Model(
        name="m",
        input_usd_per_mtok=0.1,
        output_usd_per_mtok=0.4,
        tier=2,
        capabilities=frozenset({Capability.JSON, Capability.TOOLS}),
        endpoint="http://x",
        thinking=Thinking.BUDGET,
        enabled=False,
    )
    assert messages.model_of(messages.model_message(model)) == model


def test_a_route_request_carries_all_that_was_said() -> None:
    call = calls.route(
        [{"role": "user", "content": "hello"}],
        slo="chat",
        labels={"team": "a"},
        needs=["vision"],
        needs_context_tokens=9_000,
        excluded_arms={"b", "a"},
        max_cost_usd=0.0,
    )
    request = cast("Any", call.request)
    assert call.path == "/router.v1.Router/Route"
    assert request.chat.messages[0].content == "hello"
    assert request.needs.vision
    assert list(request.excluded_arms) == ["a", "b"]
    assert request.HasField("max_cost_usd")
    assert UUID(request.request_id).version == 7


def test_a_query_that_is_neither_text_nor_messages_is_refused() -> None:
    with pytest.raises(InvalidInput, match="query: is neither text nor messages"):
        calls.route([{"role": "user"}])


def test_a_batch_refuses_one_request_id_for_all() -> None:
    with pytest.raises(InvalidInput, match="request_id"):
        calls.route_batch(["a"], request_id=UUID(int=1))


@given(st.integers(0, 1_300))
def test_many_outcomes_go_in_streams_that_lose_none(count: int) -> None:
    reports = (OutcomeReport(decision_id=str(n)) for n in range(count))
    parts = [(start, call.request) for start, call in calls.report_parts(reports)]
    found = [each.decision_id for _, part in parts for each in cast("tuple[Any, ...]", part)]
    assert [start for start, _ in parts] == list(range(0, count, calls.OUTCOMES_PER_STREAM))
    assert found == [str(n) for n in range(count)]


def test_importing_the_generated_code_loads_nothing_heavy() -> None:
    program = (
        "import sys, router.v1.router_pb2, router; "
        "print([n for n in ('lightgbm', 'numpy', 'grpc') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_every_name_that_the_package_offers_is_there() -> None:
    import router

    assert all(getattr(router, name) is not None for name in router.__all__)
    assert set(router.__all__) <= set(dir(router))
    with pytest.raises(AttributeError, match=re.escape("'router' has no attribute 'Rooter'")):
        getattr(router, "Rooter")  # noqa: B009


def test_not_found_keeps_its_reason() -> None:
    error = named("SLO_NOT_FOUND", "no slo 'x'")
    assert isinstance(error, NotFound)
    assert (error.reason, error.message) == ("SLO_NOT_FOUND", "no slo 'x'")
