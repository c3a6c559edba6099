"""An execution with no server: a policy at hand decides, in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest

from router.bundle.embedder import load_embedder
from router.bundle.loader import load_archive
from router.errors import NotFound
from router.execution.backend import BackendFailed, backend_failed
from router.execution.backends import Backends, Guards
from router.execution.calls import Call, Completion, Failure
from router.execution.executor import Executor
from router.execution.keys import Keys
from router.execution.local import LocalDecider, conversation
from router.execution.scripted import ScriptedBackend, saying
from router.loading import bind, learned
from router.slo import Slo
from router.types import Bounds, Evidence
from tests.kit.bundles import TRUSTED
from tests.kit.execution import Answering, final, request
from tests.kit.policies import catalog
from tests.kit.serving_bundles import bundle

SINGLES = frozenset(f"m{tier}:single" for tier in range(4))
KNOWN = replace(
    catalog(),
    models=tuple(replace(each, endpoint=f"twin://{each.name}") for each in catalog().models),
)
ASKED = replace(request(), bounds=Bounds(allowed_arms=SINGLES, may_continue=True))


@pytest.fixture(scope="module")
def decider() -> LocalDecider:
    archive = load_archive(bundle(KNOWN), trusted=TRUSTED, probe=False)
    policy = bind(learned(archive, load_embedder()), KNOWN, 1)
    return LocalDecider(policy=policy, catalog=KNOWN, slo=Slo(accuracy_value_usd=0.05))


def executor(script: Answering) -> Executor:
    def maker(endpoint: str, key: Callable[[], str]) -> ScriptedBackend:  # noqa: ARG001
        return ScriptedBackend(script)

    return Executor(backends=Backends(Keys({}), Guards(), {"twin": maker}), deadline_s=10.0)


async def test_it_goes_on_while_answers_are_unsure_and_hears_of_every_attempt(
    decider: LocalDecider,
) -> None:
    decider.reports.clear()
    running = executor(lambda _: saying("3", confidence=-3.0))
    last = await final(running.execute(ASKED, decider))
    assert len(last.attempts) > 1
    assert [report.attempt for _, report in decider.reports] == list(range(len(last.attempts)))
    assert {identifier for identifier, _ in decider.reports} == {last.decision_id}


async def test_an_arm_of_another_model_stands_in(decider: LocalDecider) -> None:
    failed: list[str] = []

    def once(call: Call) -> Completion | BackendFailed:
        if failed:
            return saying("4")
        failed.append(call.model.name)
        return backend_failed(Failure.GARBAGE, call.model.name)

    last = await final(executor(once).execute(ASKED, decider))
    assert [attempt.failure for attempt in last.attempts] == [Failure.GARBAGE, None]
    assert last.arm.model not in failed


async def test_a_decision_that_was_not_made_here_is_not_known(decider: LocalDecider) -> None:
    with pytest.raises(NotFound):
        await decider.go_on(uuid4(), 0, Evidence())


def test_a_conversation_reads_as_the_policy_learnt_it() -> None:
    said = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
    assert conversation(said[:1]) == "a"
    assert conversation(said) == "user: a\nassistant: b"
