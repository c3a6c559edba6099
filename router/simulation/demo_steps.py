"""The demo's steps: each does one thing with real parts and says what came of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from router.errors import Unavailable
from router.simulation.demo_asking import Asker, connected
from router.simulation.demo_children import Children, leadline
from router.simulation.demo_figures import Answered, Plan, measure
from router.simulation.demo_place import Place
from router.simulation.demo_screen import Screen
from router.simulation.fleet import catalog
from router.simulation.provider import READY
from router.simulation.workload import questions
from router.slo import Slo
from router.types import Arm

EXPLORE = Slo(name="explore", exploration_rate=1.0)
SERVES = "leadline serves on "
SERVE = leadline("serve", "--embedded", "--authentication", "none", "--port", "0")
START_TIMEOUT_S = 90.0
FOLLOW_TIMEOUT_S = 15.0
_WATCH_S = 0.01


@asynccontextmanager
async def started(
    plan: Plan, place: Place, family: Children, screen: Screen
) -> AsyncIterator[Steps]:
    """The provider and the server, ready, with clients of both."""
    os.environ.setdefault("no_grpc_proxy", "127.0.0.1")
    count = plan.explore + plan.then
    provider = family.start("provider", _provider_command(seed=plan.seed, count=count))
    server = family.start("server", SERVE, postgres=place.postgres)
    with screen.step("simulated provider") as step:
        asked = await asyncio.to_thread(questions, count, plan.seed)
        endpoint = await provider.printed(READY, START_TIMEOUT_S)
        step.done(f"OpenAI-compatible, at {endpoint}")
    with screen.step("leadline serve") as step:
        address = (await server.printed(SERVES, START_TIMEOUT_S)).partition(" ")[0]
        step.done(f"gRPC at {address}, its Postgres embedded")
    async with connected(address, endpoint) as (client, openai):
        asker = Asker(
            leadline=client,
            provider=openai,
            catalog=catalog(endpoint),
            questions=asked,
            seed=plan.seed,
        )
        yield Steps(plan=plan, asker=asker, family=family, screen=screen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What the demo does once its processes run."""

    plan: Plan
    asker: Asker
    family: Children
    screen: Screen
    kept: dict[Arm, list[Answered]] = field(default_factory=dict)

    async def fill_catalog(self) -> None:
        """Puts the models, the arms and the slo that explores."""
        client, what = self.asker.leadline, self.asker.catalog
        with self.screen.step("catalog") as step:
            for model in what.models:
                await client.put_model(model)
            for arm in what.arms:
                await client.put_arm(arm)
            await client.put_slo(EXPLORE)
            await self._until_known(len(what.arms))
            step.done(
                f"{len(what.models)} models, {len(what.arms)} arms (model x strategy), "
                "an slo that explores"
            )

    async def _until_known(self, arms: int) -> None:
        async with asyncio.timeout(FOLLOW_TIMEOUT_S):
            while len(await self.asker.leadline.list_arms()) < arms:  # noqa: ASYNC110
                await asyncio.sleep(_WATCH_S)

    async def explore(self, numbers: range) -> list[Answered]:
        """Routes questions to arms at random, so that the log can teach."""
        with self.screen.step("explore", total=len(numbers)) as step:
            answered = await self.asker.route(numbers, EXPLORE.name, step.advance)
            step.done(f"{len(numbers):,} questions on random arms: {_brought(answered)}")
        return answered

    async def train(self) -> dict[str, Any]:
        """Runs `leadline train` on the database that the server logs to."""
        with self.screen.step("leadline train") as step:
            command = leadline("train", "--no-canary", "--json", "--seed", str(self.plan.seed))
            child = self.family.start("train", command)
            policy: dict[str, Any] = json.loads(await child.ended())
            step.done(_learnt(policy))
        return policy

    async def promote(self, version: int) -> float:
        """Promotes the policy; the seconds until Route answered with it."""
        client, text = self.asker.leadline, self.asker.questions[0].text
        with self.screen.step("promote") as step:
            await client.promote_policy(version, comment="leadline demo")
            begun = time.monotonic()
            while (await client.route(text)).policy_version != version:
                if time.monotonic() - begun > FOLLOW_TIMEOUT_S:
                    raise Unavailable(f"policy {version} does not serve; see the server's log")
                await asyncio.sleep(_WATCH_S)
            followed_s = time.monotonic() - begun
            step.done(
                f"policy {version} verified; served {followed_s:.2f} s later, with no restart"
            )
        return followed_s

    async def route(self, numbers: range) -> list[Answered]:
        """Routes unseen questions with the slo 'default', going on when told to."""
        with self.screen.step("route with it", total=len(numbers)) as step:
            answered = await self.asker.route(numbers, "default", step.advance)
            step.done(f"{len(numbers):,} unseen questions: {_brought(answered)}")
        return answered

    async def keep_to(self, arm: Arm, numbers: range, name: str) -> list[Answered]:
        """Answers the same questions with one arm throughout; once, however often asked."""
        if arm not in self.kept:
            with self.screen.step(name, total=len(numbers)) as step:
                answered = await self.asker.keep_to(arm, numbers, step.advance)
                self.kept[arm] = answered
                step.done(f"the same questions: {_brought(answered)}")
        return self.kept[arm]

    async def stop(self) -> None:
        """Ends every process."""
        with self.screen.step("stop") as step:
            await asyncio.to_thread(self.family.stop)
            step.done("provider, server and Postgres have ended")


def _provider_command(*, seed: int, count: int) -> list[str]:
    module = [sys.executable, "-m", "router.simulation.provider"]
    return [*module, "--seed", str(seed), "--count", str(count)]


def _brought(answered: Sequence[Answered]) -> str:
    way = measure("", "", answered)
    return f"accuracy {way.accuracy:.3f}, ${way.usd_per_1000:.2f} per 1,000"


def _learnt(policy: dict[str, Any]) -> str:
    judged = policy["held_out"]["prediction"]
    learnt = f"policy {policy['version']}, {policy['scored_rows']:,} outcomes"
    if not judged["rows"]:
        return f"{learnt}; too few to hold any back"
    auc = "" if judged["auc"] is None else f"AUC {judged['auc']:.2f}, "
    return f"{learnt}; held out: {auc}calibration error {judged['ece']:.3f}"
