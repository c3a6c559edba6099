"""An executor over scripted backends, and a decider that does as it is told."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from router.execution.backend import BackendFailed
from router.execution.backends import Backends, Guards
from router.execution.caller import Trying
from router.execution.calls import Call, Completion, Failure, Options
from router.execution.deciding import Planned, Report, Request, Routed, Verdict
from router.execution.events import Event, Final
from router.execution.executor import Executor
from router.execution.keys import Keys
from router.execution.retrying import Retries
from router.execution.scripted import ScriptedBackend, saying
from router.execution.strategy import Task
from router.types import Arm, Bounds, Evidence, Model

QUESTION = "What is 2 + 2?"


def model(name: str) -> Model:
    """A model at an endpoint of its own."""
    return Model(
        name=name, input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, endpoint=f"twin://{name}"
    )


def planned(name: str, strategy: str = "single", **params: object) -> Planned:
    """An arm of a model, to be run."""
    arm = Arm(model=name, strategy=strategy, params=params)
    return Planned(arm=arm, model=model(name), accuracy=0.7, cost_usd=0.001)


@dataclass(slots=True)
class ToldDecider:
    """Runs `first`; then what `verdicts` say in turn; `stands_in` where that fails."""

    first: Planned = field(default_factory=lambda: planned("a"))
    verdicts: list[Verdict] = field(default_factory=list)
    stands_in: Planned | None = None
    decision_id: UUID = field(default_factory=uuid4)
    evidence: list[Evidence] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    async def route(self, request: Request) -> Routed:  # noqa: ARG002
        """As Decider says."""
        return Routed(
            decision_id=self.decision_id,
            first=self.first,
            reason="told so",
            should_continue=bool(self.verdicts),
        )

    async def go_on(self, decision_id: UUID, attempt: int, evidence: Evidence) -> Verdict:
        """As Decider says."""
        assert decision_id == self.decision_id
        assert attempt == len(self.evidence)
        self.evidence.append(evidence)
        return self.verdicts.pop(0)

    def leave(self, decision_id: UUID, attempt: int) -> None:
        """As Decider says."""
        assert decision_id == self.decision_id
        self.left.append(attempt)

    async def instead(self, decision_id: UUID, attempt: int, failure: Failure) -> Planned | None:  # noqa: ARG002
        """As Decider says."""
        self.failures.append(failure)
        return self.stands_in

    async def report(self, decision_id: UUID, report: Report) -> None:
        """As Decider says."""
        assert decision_id == self.decision_id
        self.reports.append(report)


Answering = Callable[[Call], Completion | BackendFailed]


def executor(
    scripts: Mapping[str, Answering], *, wait_s: float = 0.0, deadline_s: float = 10.0
) -> tuple[Executor, dict[str, ScriptedBackend]]:
    """An executor whose models answer by scripts, and their backends by model."""
    made: dict[str, ScriptedBackend] = {}

    def maker(endpoint: str, key: Callable[[], str]) -> ScriptedBackend:  # noqa: ARG001
        name = endpoint.removeprefix("twin://")
        made[name] = ScriptedBackend(scripts[name], wait_s=wait_s)
        return made[name]

    return (
        Executor(
            backends=Backends(Keys({}), Guards(), {"twin": maker}),
            trying=Trying(retries=Retries(first_s=0.01)),
            deadline_s=deadline_s,
            rng=random.Random(1),
        ),
        made,
    )


async def final(events: AsyncGenerator[Event, None]) -> Final:
    """The last event. Raises as the execution does."""
    last: Event | None = None
    async for event in events:
        last = event
    assert isinstance(last, Final), last
    return last


def four(_call: Call) -> Completion:
    """Says the right thing."""
    return saying("4")


def request(text: str = QUESTION, *, streams: bool = False, budget: int = 0) -> Request:
    """One question."""
    message = {"role": "user", "content": text}
    return Request(
        task=Task(messages=(message,), options=Options()),
        bounds=Bounds(compute_budget=budget),
        streams=streams,
    )
