"""Verifiers say what they find, and one that fails, hangs or lies takes nothing with it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest

from router.errors import InvalidInput, PermissionDenied
from router.execution.calls import Options, Said
from router.execution.strategy import Task
from router.execution.verifiers import CANNOT_TELL, Checked, Verdict, Verifiers
from router.execution.verifiers.confined import Limits
from router.execution.verifiers.functions import FunctionVerifier
from router.execution.verifiers.model import judged
from router.execution.verifiers.webhook import WebhookVerifier
from tests.kit.callers import TestCaller, completion

CALLER = TestCaller(reply=lambda _: completion("Fine.\nScore: 9"))
SUM = "assert add(1, 2) == 3\nassert add(0, 0) == 0\ndef test_less():\n    assert add(1, -1) == 0"

REACH = """
import socket
def test_nothing_is_reached():
    try:
        socket.create_connection(("192.0.2.1", 9), 1)
    except OSError as error:
        assert error.errno == 101, error
"""


def checked(text: str, options: Options | None = None, **params: Any) -> Checked:
    task = Task(
        messages=({"role": "user", "content": "Add."},),
        options=options or Options(),
        verifier_params=params,
    )
    return Checked(task=task, said=Said(text=text), extracted=None)


async def verdict(name: str, what: Checked, allowed: Verifiers | None = None) -> Verdict:
    verifier = (allowed or Verifiers(code=True, limits=Limits(seconds=5.0))).named(name)
    assert verifier is not None
    return await verifier.verify(what, CALLER)


def test_an_unknown_verifier_is_refused_and_code_is_not_run_unless_allowed() -> None:
    with pytest.raises(InvalidInput, match="none of self, unit_tests, model"):
        Verifiers().named("oracle")
    with pytest.raises(PermissionDenied, match="operator"):
        Verifiers().named("unit_tests")


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("All right.\nScore: 9", Verdict(passed=True, score=0.9, feedback="All right.")),
        ("**Score:** 3/10", Verdict(score=0.3)),
        (
            "It claims 'Score: 10'. No.\nScore: 0",
            Verdict(score=0.0, feedback="It claims 'Score: 10'. No."),
        ),
        ("I can't say.", CANNOT_TELL),
        ("Score: 99", CANNOT_TELL),
    ],
)
def test_a_judges_last_score_counts(reply: str, found: Verdict) -> None:
    assert judged(reply) == found


async def test_a_model_judges_without_knowing_how_the_answer_came_about() -> None:
    assert (await verdict("model", checked("3"))).passed
    assert [each["role"] for each in CALLER.asked[-1].messages] == ["system", "user"]


async def test_code_passes_with_its_tests_and_scores_by_their_share() -> None:
    right = await verdict("unit_tests", checked("def add(a, b): return a + b", tests=SUM))
    assert right == Verdict(passed=True, score=1.0, feedback="0 of 3 tests fail.")
    wrong = await verdict("unit_tests", checked("def add(a, b): return a * b", tests=SUM))
    assert wrong.score == pytest.approx(1 / 3)
    assert "assert add(1, 2) == 3: AssertionError" in wrong.feedback


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import os; os._exit(0)",
        "raise SystemExit",
        "x = 'x' * 10**10",
        "def add(a, b:",
        "import os, time\nif os.fork(): os._exit(0)\ntime.sleep(60)",
    ],
)
async def test_code_that_hangs_ends_itself_or_takes_too_much_has_failed(code: str) -> None:
    allowed = Verifiers(code=True, limits=Limits(seconds=1.0))
    started = time.monotonic()
    found = await verdict("unit_tests", checked(code, tests=SUM), allowed)
    assert (found.passed, found.score) == (False, 0.0)
    assert time.monotonic() - started < 10.0


async def test_code_finds_no_keys_in_its_environment_and_no_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROVIDER_API_KEY", "secret")
    tests = "import os, socket\nassert 'PROVIDER_API_KEY' not in os.environ\n"
    found = await verdict("unit_tests", checked("x = 1", tests=tests))
    assert found.passed
    if not _may_leave():
        pytest.skip("this kernel lets no unprivileged process leave the network")
    assert (await verdict("unit_tests", checked("x = 1", tests=REACH))).passed


def _may_leave() -> bool:
    code = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x70000000))"
    return subprocess.run((sys.executable, "-c", code), check=False).returncode == 0


SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}, "name": {"pattern": "(a+)+$"}},
    "required": ["sum"],
}


async def test_json_is_held_against_its_schema_wherever_that_comes_from() -> None:
    assert (await verdict("json_schema", checked('{"sum": 3}', schema=SCHEMA))).passed
    asked = Options(response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA}})
    found = await verdict("json_schema", checked('{"sum": "3"}', asked))
    assert (found.passed, found.score) == (False, 0.0)
    assert "sum: '3' is not of type 'integer'" in found.feedback
    assert not (await verdict("json_schema", checked("no JSON", schema=SCHEMA))).passed
    hostile = '{"sum": 1, "name": "' + "a" * 50 + 'b"}'
    assert (await verdict("json_schema", checked(hostile, schema=SCHEMA))).passed


@pytest.mark.parametrize("schema", [None, {"type": 7}, {"$ref": "http://192.0.2.1/schema"}])
async def test_a_schema_that_does_not_hold_is_refused_and_nothing_is_fetched(schema: Any) -> None:
    with pytest.raises(InvalidInput, match="verifier_params"):
        await verdict("json_schema", checked("{}", schema=schema))


def _fails(_answer: str, _params: Mapping[str, Any]) -> bool:
    raise RuntimeError("prompt text")


def _dawdles(_answer: str, _params: Mapping[str, Any]) -> bool:
    time.sleep(0.3)
    return True


async def test_a_users_function_is_asked_and_may_fail() -> None:
    right = FunctionVerifier(lambda answer, params: answer == params["gold"])
    assert await right.verify(checked("4", gold="4"), CALLER) == Verdict(passed=True, score=1.0)
    half = FunctionVerifier(lambda _answer, _params: 0.5)
    assert await half.verify(checked("4"), CALLER) == Verdict(passed=False, score=0.5)
    for check in (_fails, _dawdles, lambda _answer, _params: 7.0):
        failing = FunctionVerifier(check, seconds=0.1)
        assert await failing.verify(checked("4"), CALLER) == CANNOT_TELL


class _Handler(BaseHTTPRequestHandler):
    replies: ClassVar[dict[str, bytes]] = {
        "/right": b'{"score": 1.0}',
        "/strict": b'{"score": 0.9, "passed": false, "feedback": "Say why."}',
        "/garbage": b"<html>",
        "/list": b"[1]",
    }

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/slow":
            time.sleep(0.5)
        body = self.replies.get(self.path, b"{}")
        self.send_response(302 if self.path == "/away" else 200)
        if self.path == "/away":
            self.send_header("Location", "/right")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def hooks() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_webhook_of_the_operators_is_asked_and_may_fail(hooks: str) -> None:
    allowed = Verifiers(webhooks={"house": f"{hooks}/right", "strict": f"{hooks}/strict"})
    assert await verdict("house", checked("4"), allowed) == Verdict(passed=True, score=1.0)
    strict = Verdict(passed=False, score=0.9, feedback="Say why.")
    assert await verdict("strict", checked("4"), allowed) == strict
    for path in ("garbage", "list", "away", "slow", "nothing"):
        failing = WebhookVerifier(f"{hooks}/{path}", timeout_s=0.2)
        assert await failing.verify(checked("4"), CALLER) == CANNOT_TELL
    with pytest.raises(InvalidInput, match="https"):
        WebhookVerifier("http://example.com/hook")
