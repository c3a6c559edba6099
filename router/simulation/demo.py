"""The demo: the whole loop on this machine, with everything real but the models.

provider, server -> catalog -> explore -> train -> promote -> route what is unseen -> compare
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from router.simulation.demo_children import children
from router.simulation.demo_figures import (
    Answered,
    Constants,
    Plan,
    Result,
    best_constant,
    by_arm,
    largest,
    measure,
    mixed,
    neighbours,
)
from router.simulation.demo_place import Place
from router.simulation.demo_screen import Screen
from router.simulation.demo_steps import Steps, started


async def run(plan: Plan, place: Place, screen: Screen) -> Result:
    """Runs the demo; every process that it starts has ended when it returns or raises."""
    begun = time.monotonic()
    unseen = range(plan.explore, plan.explore + plan.then)
    with (
        children(place.logs, {"LEADLINE_STATE_DIR": str(place.state)}) as family,
        family.blamed(),
    ):
        async with started(plan, place, family, screen) as steps:
            await steps.fill_catalog()
            explored = await steps.explore(range(plan.explore))
            policy = await steps.train()
            followed_s = await steps.promote(policy["version"])
            routed = await steps.route(unseen)
            constants = await _constants(steps, explored, routed, unseen)
        await steps.stop()
    return Result(
        plan=plan,
        arms=steps.asker.catalog.arms,
        explored=explored,
        policy=policy,
        followed_s=followed_s,
        constants=constants,
        routed=routed,
        took_s=time.monotonic() - begun,
    )


async def _constants(
    steps: Steps, explored: Sequence[Answered], routed: Sequence[Answered], unseen: range
) -> Constants:
    """Has constant arms, picked on what was explored alone, answer what Leadline answered."""
    ways = by_arm(explored, steps.asker.catalog.arms)
    best, most = best_constant(ways), largest(ways, steps.asker.catalog.models[-1].name)
    constant = await steps.keep_to(best, unseen, "best constant arm")
    always = await steps.keep_to(most, unseen, "always-largest")
    spent = measure("", "", routed).usd_per_1000
    pair = neighbours(ways, spent)
    cheap, dear = [await steps.keep_to(arm, unseen, "mixed constants") for arm in pair]
    return Constants(
        best_arm=best,
        best=constant,
        largest_arm=most,
        largest=always,
        mixed_arms=pair,
        mixed=mixed(cheap, dear, spent / 1_000),
    )
