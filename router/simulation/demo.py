"""The demo: the whole loop on this machine, with everything real but the models.

provider, server -> catalog -> explore -> train -> promote -> route what is unseen -> compare
"""

from __future__ import annotations

import time

from router.simulation.demo_children import children
from router.simulation.demo_figures import (
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
from router.simulation.demo_steps import started


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

            ways = by_arm(explored, steps.asker.catalog.arms)
            constant_arm = best_constant(ways)
            largest_arm = largest(ways, steps.asker.catalog.models[-1].name)
            constant = await steps.keep_to(constant_arm, unseen, "best constant arm")
            always = await steps.keep_to(largest_arm, unseen, "always-largest")

            spent = measure("", "", routed).usd_per_1000
            cheap, dear = neighbours(ways, spent)
            parts = [await steps.keep_to(arm, unseen, "mixed constants") for arm in (cheap, dear)]
        await steps.stop()
    return Result(
        plan=plan,
        arms=steps.asker.catalog.arms,
        explored=explored,
        policy=policy,
        followed_s=followed_s,
        constant_arm=constant_arm,
        constant=constant,
        largest_arm=largest_arm,
        largest=always,
        mixed_arms=(cheap, dear),
        mixed=mixed(parts[0], parts[1], spent / 1_000),
        routed=routed,
        took_s=time.monotonic() - begun,
    )
