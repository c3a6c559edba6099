"""Both clients against a real gRPC server that answers as written down: one test, two clients."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from router import AsyncClient, Attempt, Client, OutcomeReport
from router.clients import NextStep, RoutedDecision, Tls
from router.errors import Conflict, InvalidInput, LeadlineError, NotFound, OutboxFull, Unavailable
from router.slo import Slo
from router.types import Arm, Evidence
from router.v1 import router_pb2, slos_pb2
from tests.kit import echo
from tests.kit.echo import CHEAP, STRONG, EchoServer, echo_server

TIMEOUT_S = 4.0
Use = Callable[[Callable[[Any], Any]], Any]


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with echo_server() as server:
        server.answer("Route", echo.decision())
        server.answer("ReportOutcome", echo.outcome_reply())
        yield server


@pytest.fixture(params=["blocking", "awaiting"])
def use(request: pytest.FixtureRequest, server: EchoServer) -> Use:
    """Runs `do(client)` with either client; what it returns is awaited when it must be."""

    def blocking(do: Callable[[Any], Any]) -> Any:
        with Client(server.address, api_key="ll_key", timeout_s=TIMEOUT_S) as client:
            return do(client)

    def awaiting(do: Callable[[Any], Any]) -> Any:
        async def run() -> Any:
            async with AsyncClient(server.address, api_key="ll_key", timeout_s=TIMEOUT_S) as client:
                result = do(client)
                return await result if inspect.isawaitable(result) else result

        return asyncio.run(run())

    return blocking if request.param == "blocking" else awaiting


def caller(client: Any, function: Callable[[Arm], Any]) -> Callable[[Arm], Any]:
    """The caller's function as this client takes it."""

    async def awaited(arm: Arm) -> Any:
        return function(arm)

    return awaited if isinstance(client, AsyncClient) else function


def test_a_routed_query_gets_its_decision(use: Use, server: EchoServer) -> None:
    decision: RoutedDecision = use(lambda client: client.route("What is 2 + 2?", slo="chat"))
    assert decision.arm == CHEAP
    assert (decision.accuracy, decision.cost_usd) == (0.8, 0.001)
    assert decision.latency_p95_s == 1.5
    assert decision.chosen.latency_p50_s is None
    assert decision.alternatives[0].arm.params == {"samples": 3}
    assert server.requests["Route"][0].slo == "chat"
    assert server.metadata[0]["authorization"] == "Bearer ll_key"


def test_a_batch_has_a_decision_or_an_error_in_each_place(use: Use, server: EchoServer) -> None:
    error = router_pb2.RouteError(reason="SLO_NOT_FOUND", message="there is no slo 'x'")
    reply = router_pb2.RouteBatchResponse(
        results=[
            router_pb2.RouteResult(response=echo.decision()),
            router_pb2.RouteResult(error=error),
        ]
    )
    server.answer("RouteBatch", reply)
    first, second = use(lambda client: client.route_batch(["a", "b"]))
    assert first.arm == CHEAP
    assert isinstance(second, NotFound)


def test_the_same_request_is_sent_again_while_the_server_is_away(
    use: Use, server: EchoServer
) -> None:
    away = grpc.StatusCode.UNAVAILABLE
    server.answer("Route", away, away, echo.decision())
    assert use(lambda client: client.route("q")).arm == CHEAP
    sent = server.requests["Route"]
    assert len(sent) == 3
    assert len({each.request_id for each in sent}) == 1


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (InvalidInput("is empty", field="query"), InvalidInput),
        (NotFound("no slo", reason="SLO_NOT_FOUND"), NotFound),
        (Conflict("another body", reason="REQUEST_ID_REUSED"), Conflict),
        (OutboxFull(), OutboxFull),
    ],
)
def test_an_error_of_the_server_is_raised_as_itself_and_at_once(
    use: Use, server: EchoServer, raised: LeadlineError, kind: type[LeadlineError]
) -> None:
    server.answer("Route", raised)
    with pytest.raises(kind) as caught:
        use(lambda client: client.route("q"))
    assert (caught.value.reason, caught.value.message) == (raised.reason, raised.message)
    assert getattr(caught.value, "field", "") == getattr(raised, "field", "")
    assert len(server.requests["Route"]) == 1


def test_a_call_ends_within_its_timeout(use: Use, server: EchoServer) -> None:
    server.delay_s = 3 * TIMEOUT_S
    started = time.monotonic()
    with pytest.raises(Unavailable, match="longer timeout_s"):
        use(lambda client: client.route("q"))
    assert time.monotonic() - started < 2 * TIMEOUT_S


def test_no_server_at_all_is_said_in_one_sentence() -> None:
    with Client("localhost:1", timeout_s=0.3) as client, pytest.raises(Unavailable) as caught:
        client.route("q")
    assert caught.value.message.startswith("localhost:1: no server answers there")


def test_outcomes_are_counted_and_the_refused_ones_keep_their_place(
    use: Use, server: EchoServer
) -> None:
    refused = router_pb2.RefusedOutcome(index=3, reason="DECISION_NOT_FOUND", message="unknown")
    server.answer(
        "ReportOutcomes",
        router_pb2.ReportOutcomesResponse(accepted=500),
        router_pb2.ReportOutcomesResponse(accepted=99, refused=[refused], refused_count=1),
    )
    reports = [OutcomeReport(decision_id=str(n), score=1.0) for n in range(600)]
    summary = use(lambda client: client.report_outcomes(iter(reports)))
    assert (summary.accepted, summary.refused_count) == (599, 1)
    assert summary.refused[0].index == 503
    assert [len(stream) for stream in server.requests["ReportOutcomes"]] == [500, 100]


def test_an_slo_is_written_and_read_back(use: Use, server: EchoServer) -> None:
    reply = slos_pb2.PutSloResponse(slo=slos_pb2.Slo(name="chat", version=4, min_accuracy=0.9))
    server.answer("PutSlo", reply)
    written = use(lambda client: client.put_slo(Slo(name="chat", min_accuracy=0.9), base_version=3))
    assert written == Slo(name="chat", version=4, min_accuracy=0.9)
    assert server.requests["PutSlo"][0].base_version == 3


def test_run_routes_answers_and_reports(use: Use, server: EchoServer) -> None:
    def answer(arm: Arm) -> Attempt[str]:
        said = f"by {arm.model}"
        return Attempt(answer=said, cost_usd=0.002, output_tokens=5, time_to_first_token_s=0.25)

    run = use(lambda client: client.run("q", caller(client, answer), score=lambda _: 1.0, slo="s"))
    assert run.answer == "by small"
    assert run.decision.arm == CHEAP
    assert run.unreported == ()
    report = server.requests["ReportOutcome"][0]
    assert report.decision_id == str(run.decision.decision_id)
    assert (report.score, report.source, report.cost_usd) == (1.0, "exact", 0.002)
    assert report.latency_s > 0
    assert report.time_to_first_token_s == 0.25
    assert "Continue" not in server.requests


def test_run_takes_a_plain_answer_too(use: Use, server: EchoServer) -> None:
    run = use(lambda client: client.run("q", caller(client, lambda _: "4")))
    assert run.answer == "4"
    assert not server.requests["ReportOutcome"][0].HasField("score")


def test_run_is_willing_to_continue_unless_told_otherwise(use: Use, server: EchoServer) -> None:
    use(lambda client: client.run("q", caller(client, lambda _: "4")))
    use(lambda client: client.run("q", caller(client, lambda _: "4"), may_continue=False))
    use(lambda client: client.route("q"))
    assert [each.may_continue for each in server.requests["Route"]] == [True, False, False]


def test_run_follows_continue_to_the_next_arm(use: Use, server: EchoServer) -> None:
    server.answer("Route", echo.decision(should_continue=True))
    server.answer(
        "Continue",
        router_pb2.ContinueResponse(attempt=1, next=echo.prediction(STRONG), accuracy=0.3),
        router_pb2.ContinueResponse(keep=True, attempt=1, accuracy=0.9),
    )

    def answer(arm: Arm) -> Attempt[str]:
        return Attempt(answer=arm.model, confidence=-0.5)

    run = use(lambda client: client.run("q", caller(client, answer)))
    assert run.answer == "large"
    assert [each.arm for each in run.attempts] == [CHEAP, STRONG]
    assert [each.attempt for each in server.requests["ReportOutcome"]] == [0, 1]
    assert server.requests["Continue"][0].evidence.confidence == -0.5


def test_what_the_callers_function_raises_is_reported_and_raised(
    use: Use, server: EchoServer
) -> None:
    def fail(_: Arm) -> str:
        raise ZeroDivisionError("the query's own text")

    with pytest.raises(ZeroDivisionError):
        use(lambda client: client.run("q", caller(client, fail)))
    report = server.requests["ReportOutcome"][0]
    assert report.error == "ZeroDivisionError"
    assert not report.HasField("score")


def test_a_server_that_goes_away_costs_the_caller_no_answer(use: Use, server: EchoServer) -> None:
    server.answer("Route", echo.decision(should_continue=True))
    server.answer("Continue", grpc.StatusCode.INTERNAL)
    server.answer("ReportOutcome", OutboxFull())
    run = use(lambda client: client.run("q", caller(client, lambda _: "4")))
    assert run.answer == "4"
    assert [error.reason for error in run.unreported] == ["INTERNAL", "OUTBOX_FULL"]


def test_continue_says_what_to_do_next(use: Use, server: EchoServer) -> None:
    server.answer("Continue", router_pb2.ContinueResponse(keep=True, attempt=0, accuracy=0.9))
    wanted = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    step: NextStep = use(lambda client: client.continue_(wanted, Evidence(confidence=-0.1)))
    assert step.keep
    assert step.chosen is None


def test_tls_trusts_the_given_authority_and_no_other(tmp_path: Path) -> None:
    certificate, key = self_signed("localhost")
    (tmp_path / "ca.pem").write_bytes(certificate)
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    with echo_server(credentials) as server:
        server.answer("Route", echo.decision())
        with Client(server.address, tls=Tls(ca=tmp_path / "ca.pem")) as client:
            assert client.route("q").arm == CHEAP
        for tls in (True, False):
            with (
                Client(server.address, tls=tls, timeout_s=0.4) as client,
                pytest.raises(Unavailable),
            ):
                client.route("q")


def self_signed(host: str) -> tuple[bytes, bytes]:
    """A certificate that is its own authority, and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


async def test_an_awaited_score_is_awaited(server: EchoServer) -> None:
    async def score(_: str) -> float:
        return 0.5

    async def answer(_: Arm) -> str:
        return "4"

    async with AsyncClient(server.address) as client:
        await client.run("q", answer, score)
    assert server.requests["ReportOutcome"][0].score == 0.5
