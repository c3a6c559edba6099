"""The loop over a real channel, and every bad input with its code and reason."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.json_format import ParseDict
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

from router import Client
from router.slo import Slo
from router.types import Role
from router.v1 import catalog_pb2, policies_pb2, slos_pb2
from router.v1 import router_pb2 as pb
from tests.kit.bundles import KEY
from tests.kit.policies import catalog
from tests.kit.postgres import PostgresServer, rows
from tests.kit.server import Admin, ServerProcess, Stubs, serving
from tests.kit.serving_bundles import bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A running server with two tenants and their keys."""

    server: ServerProcess
    admin: Admin
    dsn: str
    operator: str
    admin_key: str
    caller: str
    other: str


@pytest.fixture(scope="module")
def place(cluster: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two workers on one port, with a learned policy."""
    with cluster.database() as dsn, Admin(dsn) as admin:
        admin.seed(catalog(), "acme", "other", signer=KEY)
        record = admin.registry.register(bundle(catalog()), {}, actor="test")
        admin.registry.promote(record.version, actor="test")
        keys = {role: admin.key("acme", role) for role in Role}
        directory: Path = tmp_path_factory.mktemp("serving")
        with serving(directory, dsn, workers="2", authentication="api_key") as server:
            yield Place(
                server=server,
                admin=admin,
                dsn=dsn,
                operator=keys[Role.OPERATOR],
                admin_key=keys[Role.ADMIN],
                caller=keys[Role.CALLER],
                other=admin.key("other"),
            )


@pytest.fixture
def stubs(place: Place) -> Iterator[Stubs]:
    """A caller of acme."""
    with Stubs(place.server.address, place.caller) as stubs:
        yield stubs


@pytest.fixture
def operator(place: Place) -> Iterator[Stubs]:
    """An operator of acme."""
    with Stubs(place.server.address, place.operator) as stubs:
        yield stubs


def refused(call: Callable[[], Any]) -> tuple[str, str, str]:
    """The code, the reason and the field of the call's error."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    status = rpc_status.from_call(caught.value)
    assert status is not None, caught.value
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "leadline"
    return caught.value.code().name, info.reason, info.metadata.get("field", "")


def eventually(check: Callable[[], bool], timeout_s: float = 30.0) -> float:
    """Waits until the check holds; returns how long that took."""
    started = time.monotonic()
    while not check():
        assert time.monotonic() - started < timeout_s
        time.sleep(0.02)
    return time.monotonic() - started


def test_a_query_gets_an_arm_its_outcome_comes_back_and_both_are_in_postgres(
    place: Place, stubs: Stubs
) -> None:
    request = pb.RouteRequest(
        request_id=str(uuid4()), text="What is 2 + 2?", subject="u1", labels={"team": "a"}
    )
    routed = stubs.router.Route(request)
    assert routed.policy_source == pb.POLICY_SOURCE_LEARNED
    assert 0 < routed.propensity <= 1
    assert routed.chosen.arm.key in {arm.key for arm in catalog().arms}
    assert len(routed.alternatives) == 3
    reported = stubs.router.ReportOutcome(
        pb.ReportOutcomeRequest(
            decision_id=routed.decision_id, score=1.0, source="exact", time_to_first_token_s=0.25
        )
    )
    asked = pb.GetDecisionRequest(decision_id=routed.decision_id)
    eventually(lambda: len(stubs.router.GetDecision(asked).outcomes) == 1)
    kept = stubs.router.GetDecision(asked)
    assert kept.decision == routed
    assert kept.labels == {"team": "a"}
    assert len(kept.predictions) >= 24
    assert kept.outcomes[0].outcome_id == reported.outcome_id
    found = rows(
        place.dsn,
        "select subject, query, arm from decisions where decision_id = %s",
        routed.decision_id,
    )
    assert found == [("u1", "What is 2 + 2?", routed.chosen.arm.key)]
    told = "select time_to_first_token_s from outcomes where decision_id = %s"
    assert rows(place.dsn, told, routed.decision_id) == [(0.25,)]


def test_a_chat_is_routed_by_its_messages(stubs: Stubs) -> None:
    chat = pb.Chat(messages=[pb.Message(role="user", content="hello " * 50)])
    assert stubs.router.Route(pb.RouteRequest(chat=chat)).input_tokens > 40


def test_the_same_request_gets_the_same_decision_and_another_body_is_refused(stubs: Stubs) -> None:
    request = pb.RouteRequest(request_id=str(uuid4()), text="one")
    first = stubs.router.Route(request)
    assert stubs.router.Route(request) == first
    changed = pb.RouteRequest(request_id=request.request_id, text="two")
    assert refused(lambda: stubs.router.Route(changed))[:2] == (
        "ALREADY_EXISTS",
        "REQUEST_ID_REUSED",
    )


def test_a_decision_is_explained_on_request_in_the_reply_and_in_the_log(
    place: Place, stubs: Stubs
) -> None:
    request = pb.RouteRequest(request_id=str(uuid4()), text="What is 6 * 7?", explain=True)
    routed = stubs.router.Route(request)
    picked, beside = routed.explanation.arms
    assert picked.arm == routed.chosen.arm.key
    assert beside.arm == routed.alternatives[0].arm.key
    assert picked.accuracy == pytest.approx(routed.chosen.accuracy, rel=1e-6)
    terms = picked.terms
    added = sum(each.log_odds for each in (*terms.signals, *terms.trees))
    added += terms.mean + terms.trees_expected + terms.trees_other
    assert added == pytest.approx(terms.log_odds)
    stored = "select explanation from decisions where decision_id = %s"
    eventually(lambda: len(rows(place.dsn, stored, routed.decision_id)) == 1)
    [(kept,)] = rows(place.dsn, stored, routed.decision_id)
    assert isinstance(kept, dict)
    assert ParseDict(kept, pb.Explanation()) == routed.explanation
    asked = pb.GetDecisionRequest(decision_id=routed.decision_id)
    assert stubs.router.GetDecision(asked).decision == routed
    with Stubs(place.server.address, place.other) as other:
        assert refused(lambda: other.router.GetDecision(asked))[1] == "DECISION_NOT_FOUND"


def test_a_retried_request_gets_its_explanation_again_byte_by_byte(stubs: Stubs) -> None:
    request = pb.RouteRequest(request_id=str(uuid4()), text="What is 6 * 8?", explain=True)
    first = stubs.router.Route(request)
    batch = stubs.router.RouteBatch(pb.RouteBatchRequest(requests=[request]))
    assert first.HasField("explanation")
    for again in (stubs.router.Route(request), batch.results[0].response):
        assert again.SerializeToString(deterministic=True) == first.SerializeToString(
            deterministic=True
        )


def test_a_decision_that_nobody_asked_to_explain_is_not_explained(
    place: Place, stubs: Stubs
) -> None:
    text = "What is 6 * 9?"
    plain = stubs.router.Route(pb.RouteRequest(text=text))
    asked = stubs.router.Route(pb.RouteRequest(text=text, explain=True))
    assert not plain.HasField("explanation")
    assert plain.chosen == asked.chosen
    stored = "select explanation from decisions where decision_id = %s"
    eventually(lambda: rows(place.dsn, stored, plain.decision_id) == [(None,)])


def test_a_client_reads_an_explanation(place: Place) -> None:
    with Client(place.server.address, api_key=place.caller) as client:
        decision = client.route("What is 6 * 10?", explain=True)
        assert client.route("What is 6 * 10?").explanation is None
    assert decision.explanation is not None
    first = decision.explanation.arms[0]
    assert first.arm == decision.arm.key
    assert first.terms is not None
    assert first.terms.neighbours == ()  # each stands for three rows, too few to be told


BAD_REQUESTS = {
    "no text": (pb.RouteRequest(), "INVALID_ARGUMENT", "QUERY_EMPTY", ""),
    "blank": (pb.RouteRequest(text=" \n"), "INVALID_ARGUMENT", "QUERY_EMPTY", ""),
    "empty chat": (
        pb.RouteRequest(chat=pb.Chat(messages=[pb.Message(role="user")])),
        "INVALID_ARGUMENT",
        "QUERY_EMPTY",
        "",
    ),
    "1 MB": (pb.RouteRequest(text="x" * 1_000_000), "INVALID_ARGUMENT", "QUERY_TOO_LARGE", ""),
    "request id": (
        pb.RouteRequest(text="x", request_id="7"),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "request_id",
    ),
    "slo": (pb.RouteRequest(text="x", slo="gold"), "NOT_FOUND", "SLO_NOT_FOUND", ""),
    "arm": (pb.RouteRequest(text="x", allowed_arms=["no:arm"]), "NOT_FOUND", "ARM_NOT_FOUND", ""),
    "cost": (
        pb.RouteRequest(text="x", max_cost_usd=-1),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "max_cost_usd",
    ),
    "latency": (
        pb.RouteRequest(text="x", max_latency_s=float("nan")),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "max_latency_s",
    ),
    "budget": (
        pb.RouteRequest(text="x", compute_budget=101),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "compute_budget",
    ),
    "labels": (
        pb.RouteRequest(text="x", labels={str(number): "" for number in range(17)}),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "labels",
    ),
    "needs": (
        pb.RouteRequest(text="x", needs=pb.Needs(context_tokens=-1)),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "needs.context_tokens",
    ),
    "no arm left": (
        pb.RouteRequest(text="x", needs=pb.Needs(context_tokens=10_000_000)),
        "FAILED_PRECONDITION",
        "SLO_INFEASIBLE",
        "",
    ),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused_with_its_code_reason_and_field(stubs: Stubs, name: str) -> None:
    request, code, reason, field = BAD_REQUESTS[name]
    assert refused(lambda: stubs.router.Route(request)) == (code, reason, field)


def test_invalid_utf_8_is_malformed_and_not_a_fault(place: Place) -> None:
    with Stubs(place.server.address) as raw:
        route: Any = raw.channel.unary_unary("/router.v1.Router/Route")
        key = (("authorization", f"Bearer {place.caller}"),)
        answer = refused(lambda: route(b"\x12\x02\xff\xfe", metadata=key))
        assert answer[:2] == ("INVALID_ARGUMENT", "MALFORMED")
        stub = refused(lambda: route(b"\xff\xff\xff", metadata=key))
        assert stub[:2] == ("INVALID_ARGUMENT", "MALFORMED")


def test_a_message_beyond_4_mb_is_refused(stubs: Stubs) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stubs.router.Route(pb.RouteRequest(text="x" * (5 << 20)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_nul_in_a_text_is_replaced_and_arrives(place: Place, stubs: Stubs) -> None:
    routed = stubs.router.Route(pb.RouteRequest(text="a\x00b", subject="\x00"))
    query = "select query from decisions where decision_id = %s"
    eventually(lambda: rows(place.dsn, query, routed.decision_id) == [("a\ufffdb",)])


def test_no_key_a_wrong_key_and_a_revoked_key_are_refused(place: Place) -> None:
    for key in ("", "ll_nonsense", place.caller[:-1] + ("0" if place.caller[-1] != "0" else "1")):
        with Stubs(place.server.address, key) as stubs:
            answer = refused(lambda stubs=stubs: stubs.router.Route(pb.RouteRequest(text="x")))  # type: ignore[misc]
            assert answer[:2] == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    text = place.admin.key("acme")
    with Stubs(place.server.address, text) as stubs:
        assert stubs.router.Route(pb.RouteRequest(text="x")).decision_id
        place.admin.tenants.revoke_key("acme", text.split("_")[2], actor="test")

        def gone() -> bool:
            try:
                stubs.router.Route(pb.RouteRequest(text="x"))
            except grpc.RpcError:
                return True
            return False

        assert eventually(gone) < 2.0


@pytest.mark.parametrize("pause_s", [0.0005, 0.2])
def test_a_stream_ends_when_its_key_is_revoked(place: Place, pause_s: float) -> None:
    text, ended = place.admin.key("acme"), threading.Event()
    with Stubs(place.server.address, text) as stubs:
        decision = stubs.router.Route(pb.RouteRequest(text="x")).decision_id

        def reports() -> Iterator[pb.ReportOutcomeRequest]:
            yield pb.ReportOutcomeRequest(decision_id=decision, score=1)
            place.admin.tenants.revoke_key("acme", text.split("_")[2], actor="test")
            deadline = time.monotonic() + 5.0
            while time.monotonic() < deadline and not ended.wait(pause_s):
                yield pb.ReportOutcomeRequest(decision_id=decision, score=1)

        answer = refused(lambda: stubs.router.ReportOutcomes(reports()))
        ended.set()
    assert answer[:2] == ("UNAUTHENTICATED", "UNAUTHENTICATED")


def test_no_call_names_another_tenants_decision(place: Place, stubs: Stubs) -> None:
    routed = stubs.router.Route(pb.RouteRequest(text="mine"))
    with Stubs(place.server.address, place.other) as other:
        calls: list[Callable[[], Any]] = [
            lambda: other.router.GetDecision(pb.GetDecisionRequest(decision_id=routed.decision_id)),
            lambda: other.router.Continue(pb.ContinueRequest(decision_id=routed.decision_id)),
            lambda: other.router.ReportOutcome(
                pb.ReportOutcomeRequest(decision_id=routed.decision_id, score=0)
            ),
        ]
        for call in calls:
            assert refused(call)[:2] == ("NOT_FOUND", "DECISION_NOT_FOUND")


def test_bad_outcomes_are_refused_and_a_report_twice_counts_once(
    place: Place, stubs: Stubs
) -> None:
    decision = stubs.router.Route(pb.RouteRequest(text="x")).decision_id
    for field, value in (
        ("score", 1.5),
        ("score", float("nan")),
        ("cost_usd", -1.0),
        ("latency_s", float("inf")),
        ("time_to_first_token_s", -1.0),
        ("attempt", 100),
        ("confidence", float("nan")),
    ):
        report = pb.ReportOutcomeRequest(decision_id=decision, **{field: value})  # type: ignore[arg-type]
        answer = refused(lambda report=report: stubs.router.ReportOutcome(report))  # type: ignore[misc]
        assert answer == ("INVALID_ARGUMENT", "INVALID_FIELD", field)
    unknown = pb.ReportOutcomeRequest(decision_id=str(uuid4()), score=1)
    assert refused(lambda: stubs.router.ReportOutcome(unknown))[1] == "DECISION_NOT_FOUND"
    good = pb.ReportOutcomeRequest(decision_id=decision, score=0.5)
    first, second = stubs.router.ReportOutcome(good), stubs.router.ReportOutcome(good)
    assert first.outcome_id == second.outcome_id
    count = "select count(*) from outcomes where decision_id = %s"
    eventually(lambda: rows(place.dsn, count, decision) == [(1,)])


def test_a_stream_of_outcomes_names_those_that_were_refused(stubs: Stubs) -> None:
    decision = stubs.router.Route(pb.RouteRequest(text="x")).decision_id
    reports = [pb.ReportOutcomeRequest(decision_id=decision, score=0.1 * at) for at in range(13)]
    summary = stubs.router.ReportOutcomes(iter(reports))
    assert (summary.accepted, summary.refused_count) == (11, 2)
    assert [(each.index, each.reason) for each in summary.refused] == [
        (11, "INVALID_FIELD"),
        (12, "INVALID_FIELD"),
    ]


def test_an_outcome_with_a_broken_time_is_refused_and_does_not_end_its_stream(stubs: Stubs) -> None:
    decision = stubs.router.Route(pb.RouteRequest(text="x")).decision_id
    good = pb.ReportOutcomeRequest(decision_id=decision, score=0.5)
    for nanos in (-1, 1_000_000_000):
        bad = pb.ReportOutcomeRequest(decision_id=decision)
        bad.occurred_at.FromJsonString("2026-01-01T00:00:00Z")
        bad.occurred_at.nanos = nanos
        answer = refused(lambda bad=bad: stubs.router.ReportOutcome(bad))  # type: ignore[misc]
        assert answer == ("INVALID_ARGUMENT", "INVALID_FIELD", "occurred_at")
        summary = stubs.router.ReportOutcomes(iter([bad, good]))
        assert (summary.accepted, summary.refused_count) == (1, 1)


@pytest.mark.parametrize(
    "decision_id",
    ["ffffffff-ffff-7fff-bfff-ffffffffffff", "ab2b6ef4-96b5-4a0d-9d2c-6ac9d7a5e9b1", "0" * 32],
)
def test_a_decision_id_that_nobody_gave_is_not_found(stubs: Stubs, decision_id: str) -> None:
    request = pb.GetDecisionRequest(decision_id=decision_id)
    answer = refused(lambda: stubs.router.GetDecision(request))
    assert answer[:2] == ("NOT_FOUND", "DECISION_NOT_FOUND")


@pytest.mark.parametrize("name", ["a\x00b", "", "x" * 200])
def test_an_slo_is_asked_for_by_a_plain_name(stubs: Stubs, name: str) -> None:
    answer = refused(lambda: stubs.slos.GetSlo(slos_pb2.GetSloRequest(name=name)))
    assert answer == ("INVALID_ARGUMENT", "INVALID_FIELD", "name")


def test_a_batch_has_a_result_or_an_error_for_each(stubs: Stubs) -> None:
    requests = [pb.RouteRequest(text="x"), pb.RouteRequest(), pb.RouteRequest(text="y")]
    reply = stubs.router.RouteBatch(pb.RouteBatchRequest(requests=requests))
    assert [result.WhichOneof("result") for result in reply.results] == [
        "response",
        "error",
        "response",
    ]
    assert reply.results[1].error.reason == "QUERY_EMPTY"
    many = pb.RouteBatchRequest(requests=requests * 86)
    assert refused(lambda: stubs.router.RouteBatch(many))[2] == "requests"


def test_continue_walks_the_attempts_and_a_retry_gets_the_same_step(
    place: Place, stubs: Stubs
) -> None:
    routed = stubs.router.Route(pb.RouteRequest(text="Prove it."))
    assert routed.should_continue
    request = pb.ContinueRequest(
        decision_id=routed.decision_id, evidence=pb.Evidence(confidence=0.0, cost_usd=1e-3)
    )
    step = stubs.router.Continue(request)
    assert not step.keep
    assert step.attempt == 1
    assert step.next.arm.key != routed.chosen.arm.key
    assert stubs.router.Continue(request) == step
    other = pb.ContinueRequest(decision_id=routed.decision_id, evidence=pb.Evidence(confidence=1))
    assert refused(lambda: stubs.router.Continue(other))[1] == "REQUEST_ID_REUSED"
    second = pb.ContinueRequest(
        decision_id=routed.decision_id, attempt=1, evidence=pb.Evidence(confidence=1.0)
    )
    assert stubs.router.Continue(second).accuracy > step.accuracy
    early = pb.ContinueRequest(
        decision_id=stubs.router.Route(pb.RouteRequest(text="x")).decision_id, attempt=1
    )
    assert refused(lambda: stubs.router.Continue(early)) == (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "attempt",
    )
    logged = "select attempt, arm, next_arm from attempts where decision_id = %s order by 1"
    eventually(lambda: len(rows(place.dsn, logged, routed.decision_id)) == 2)
    assert rows(place.dsn, logged, routed.decision_id)[0] == (
        0,
        routed.chosen.arm.key,
        step.next.arm.key,
    )


def test_the_answer_to_keep_is_the_best_of_all_attempts(stubs: Stubs) -> None:
    decision_id = stubs.router.Route(pb.RouteRequest(text="Prove it again.")).decision_id
    for attempt, confidence in enumerate((0.0, -1.0, -2.0)):
        evidence = pb.Evidence(confidence=confidence)
        step = stubs.router.Continue(
            pb.ContinueRequest(decision_id=decision_id, attempt=attempt, evidence=evidence)
        )
    assert step.keep
    assert step.attempt == 0


def test_continue_finds_the_decision_of_another_worker(place: Place) -> None:
    for _ in range(6):
        with Stubs(place.server.address, place.caller) as one:
            decision = one.router.Route(pb.RouteRequest(text="x")).decision_id
        with Stubs(place.server.address, place.caller) as another:
            request = pb.ContinueRequest(decision_id=decision, evidence=pb.Evidence(confidence=0.5))
            assert another.router.Continue(request).reason


def test_an_slo_change_reaches_every_worker_within_2_s(place: Place) -> None:
    connections = [Stubs(place.server.address, place.caller) for _ in range(8)]
    with Stubs(place.server.address, place.admin_key) as admin:
        slo = slos_pb2.Slo(name="fresh", min_accuracy=0.5)
        written = admin.slos.PutSlo(slos_pb2.PutSloRequest(slo=slo)).slo
        assert admin.slos.PutSlo(slos_pb2.PutSloRequest(slo=slo)).slo.version == written.version
        slo.min_accuracy = 0.6
        stale = slos_pb2.PutSloRequest(slo=slo, base_version=7)
        assert refused(lambda: admin.slos.PutSlo(stale))[:2] == ("ABORTED", "CONFLICT")
        assert admin.slos.GetSlo(slos_pb2.GetSloRequest(name="fresh")).slo == written

    def everywhere() -> bool:
        try:
            return all(
                stubs.router.Route(pb.RouteRequest(text="x", slo="fresh")).slo_version == 1
                for stubs in connections
            )
        except grpc.RpcError:
            return False

    assert eventually(everywhere) < 2.0
    for stubs in connections:
        stubs.channel.close()


def test_writes_need_their_role(place: Place, stubs: Stubs) -> None:
    slo = slos_pb2.PutSloRequest(slo=slos_pb2.Slo(name="mine"))
    assert refused(lambda: stubs.slos.PutSlo(slo))[:2] == ("PERMISSION_DENIED", "ROLE_MISSING")
    with Stubs(place.server.address, place.admin_key) as admin:
        model = catalog_pb2.PutModelRequest(model=catalog_pb2.Model(name="m"))
        promote = policies_pb2.PromotePolicyRequest(version=1)
        assert refused(lambda: admin.catalog.PutModel(model))[1] == "ROLE_MISSING"
        assert refused(lambda: admin.policies.PromotePolicy(promote))[1] == "ROLE_MISSING"
        assert admin.policies.ListPolicies(policies_pb2.ListPoliciesRequest()).policies


def test_an_operator_adds_a_model_and_an_arm_and_decisions_may_pick_it(operator: Stubs) -> None:
    models = operator.catalog.ListModels(catalog_pb2.ListModelsRequest()).models
    model = next(each for each in models if each.name == "m0")
    model.name = "new"
    operator.catalog.PutModel(catalog_pb2.PutModelRequest(model=model))
    arm = catalog_pb2.Arm(model="new", strategy="chain_of_thought")
    arm.params.update({"tokens": 512})
    operator.catalog.PutArm(catalog_pb2.PutArmRequest(arm=arm, enabled=True))
    key = "new:chain_of_thought?tokens=512"
    request = pb.RouteRequest(text="x", allowed_arms=[key])

    def picks() -> bool:
        try:
            return bool(operator.router.Route(request).chosen.arm.key == key)
        except grpc.RpcError:
            return False

    assert eventually(picks) < 2.0
    bad = catalog_pb2.PutModelRequest(model=model)
    bad.model.input_usd_per_mtok = -1
    assert refused(lambda: operator.catalog.PutModel(bad))[2] == "model.input_usd_per_mtok"
    stray = catalog_pb2.PutArmRequest(arm=catalog_pb2.Arm(key="nobody:single"), enabled=True)
    assert refused(lambda: operator.catalog.PutArm(stray))[1] == "MODEL_NOT_FOUND"
    operator.catalog.PutArm(catalog_pb2.PutArmRequest(arm=arm, enabled=False))
    arms = operator.catalog.ListArms(catalog_pb2.ListArmsRequest()).arms
    assert key not in {each.key for each in arms}


BAD_ARMS = {
    "m0:self_consistency?samples=1" + "0" * 400: "arm.params",
    "m0:sing\x00le?x=NaN": "arm.strategy",
    "m0:single?x=NaN": "arm.params",
    "m0:single?x=" + "[" * 1_500: "arm.params",
    "m0:single?x=" + "1" * 5_000: "arm.key",
    "m0": "arm.key",
}


@pytest.mark.parametrize("key", BAD_ARMS)
def test_an_arm_that_would_stop_the_workers_is_refused_by_its_key(
    operator: Stubs, key: str
) -> None:
    bad = catalog_pb2.PutArmRequest(arm=catalog_pb2.Arm(key=key), enabled=True)
    answer = refused(lambda: operator.catalog.PutArm(bad))
    assert answer == ("INVALID_ARGUMENT", "INVALID_FIELD", BAD_ARMS[key])


@pytest.mark.parametrize("value", [1e20, float("nan"), "x\x00", [1], None])
def test_an_arm_with_a_senseless_parameter_is_refused(operator: Stubs, value: Any) -> None:
    arm = catalog_pb2.Arm(model="m0", strategy="chain_of_thought")
    arm.params.update({"tokens": value})
    bad = catalog_pb2.PutArmRequest(arm=arm, enabled=True)
    answer = refused(lambda: operator.catalog.PutArm(bad))
    assert answer == ("INVALID_ARGUMENT", "INVALID_FIELD", "arm.params")


def test_health_and_reflection_answer_without_a_key(place: Place) -> None:
    with Stubs(place.server.address) as stubs:
        health = health_pb2_grpc.HealthStub(stubs.channel)
        for name in ("", "router.v1.Router"):
            reply = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        known = ProtoReflectionDescriptorDatabase(stubs.channel)
        assert "router.v1.Router" in known.get_services()
        described = known.FindFileContainingSymbol("router.v1.Router")
        assert isinstance(described, FileDescriptorProto)


def test_both_workers_take_connections_of_the_one_port(place: Place) -> None:
    assert len(place.server.worker_pids()) == 2
    connections = [Stubs(place.server.address, place.caller) for _ in range(16)]
    for stubs in connections:
        stubs.router.Route(pb.RouteRequest(text="spread"))
        stubs.channel.close()
    files = sorted((place.server.state_dir / "outbox").glob("outbox-*.sqlite3"))
    assert len(files) == 2


def test_no_query_text_stands_in_the_log(place: Place, stubs: Stubs) -> None:
    secret = "the secret recipe"
    stubs.router.Route(pb.RouteRequest(text=secret))
    refused(lambda: stubs.router.Route(pb.RouteRequest(text=secret, slo="none")))
    assert secret not in place.server.log


def test_an_slo_that_says_reject_is_infeasible_with_its_reason(place: Place, stubs: Stubs) -> None:
    tenant = place.admin.tenants.identify("acme")
    assert tenant is not None
    strict = Slo.from_mapping({"name": "strict", "max_cost_usd": 1e-9, "on_infeasible": "reject"})
    place.admin.slos.put(tenant.tenant_id, strict, base_version=None, actor="test")

    def infeasible() -> bool:
        answer = refused(lambda: stubs.router.Route(pb.RouteRequest(text="x", slo="strict")))
        return answer[:2] == ("FAILED_PRECONDITION", "SLO_INFEASIBLE")

    eventually(infeasible, 2.0)
