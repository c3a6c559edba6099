"""How canaries end in simulation: a drop is rolled back soon, and nothing is for no reason.

Every canary is judged after each decision. `python -m tests.promises.canary` prints each case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.types import Floats, Mask
from tests.promises import Measured
from training.canary.bets import Bets, thinned
from training.canary.judge import DECISIVE, DEFAULT, Plan

RUNS = 200
NULL_RUNS = 1_000
NULL_DECISIONS = 10_000
MOST_DECISIONS = 20_000
AT_MOST = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What decisions bring, and by how much the canary's are worse in each metric."""

    accuracy: float = 0.8
    spread: float = 1.0
    failed: float = 0.01
    drop: float = 0.0
    dearer: float = 0.0
    slower: float = 0.0
    failing: float = 0.0
    drifts: bool = False

    def draw(self, canary: Mask, at: Floats, rng: np.random.Generator) -> Floats:
        """How bad a decision of each run is, (r, 4), costs up to four times the mean.

        Where the mix drifts, accuracy falls and costs double on both sides on the way.
        """
        moved = at if self.drifts else np.zeros(canary.shape)
        right = self.accuracy - 0.2 * moved - self.drop * canary
        cost = (1.0 + moved) * (1.0 + self.dearer * canary)
        cost *= rng.lognormal(-(self.spread**2) / 2, self.spread, canary.shape)
        slow = rng.exponential(1.0, canary.shape) * (1.0 + self.slower * canary) > 3.0
        failed = rng.random(canary.shape) < self.failed + self.failing * canary
        wrong = np.where(failed, np.nan, rng.random(canary.shape) >= right)
        return np.stack((wrong, np.minimum(cost / 4.0, 1.0), slow, failed), axis=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How canaries ended, (r,): after how many of their decisions; inf where they did not so."""

    rolled_back: Floats
    promoted: Floats

    @property
    def median(self) -> float:
        """Decisions until the rollback, counting every run."""
        return float(np.quantile(self.rolled_back, 0.5, method="inverted_cdf"))

    @property
    def share(self) -> float:
        """Of the runs, those that were rolled back."""
        return float(np.isfinite(self.rolled_back).mean())


def live(
    world: World,
    runs: int = RUNS,
    *,
    plan: Plan | None = DEFAULT,
    most: int = MOST_DECISIONS,
    seed: int = 0,
) -> Ended:
    """Canaries side by side, judged after every decision; time is no matter.

    Each advances by the plan; without one the share rises by the count alone and nothing ends
    a canary but a rollback, which leaves more time for false alarms.
    """
    steps = (plan or DEFAULT).steps
    rng, bets = np.random.default_rng(seed), Bets.of(tuple(each.slack for each in steps), runs)
    chances = np.array([thinned(each.share) for each in steps])
    least = np.array([each.least_decisions for each in steps])
    place, decisions, at_share = (np.zeros(runs, int) for _ in range(3))
    back, through = np.full(runs, np.inf), np.full(runs, np.inf)
    while (open_ := np.isinf(back) & np.isinf(through) & (decisions < most)).any():
        chance = chances[place]
        canary = rng.random(runs) < chance
        bad = world.draw(canary, decisions / most, rng)
        bets = bets.observe(bad, canary, chance, (plan or DEFAULT).margins)
        decisions, at_share = decisions + canary, at_share + canary
        back[open_ & (bets.worse >= DECISIVE)] = decisions[open_ & (bets.worse >= DECISIVE)]
        if plan is None:
            place = np.minimum(decisions * len(steps) // most, len(steps) - 1)
            continue
        within = (bets.peak[1 + place, np.arange(runs)] >= DECISIVE).all(axis=1)
        advances = open_ & np.isinf(back) & within & (at_share >= least[place])
        last = advances & (place == len(steps) - 1)
        through[last] = decisions[last]
        place, at_share = place + (advances & ~last), np.where(advances, 0, at_share)
    return Ended(rolled_back=back, promoted=through)


def drops_are_rolled_back() -> Measured:
    """Five points of accuracy, and what is bad in the other metrics."""
    worlds = {
        "5 points less accurate": World(drop=0.05),
        "of 95 %": World(accuracy=0.95, drop=0.05),
        "while the mix drifts": World(drop=0.05, drifts=True),
        "20 % dearer": World(dearer=0.2),
        "half as slow again": World(slower=0.5),
        "2 points more errors": World(failing=0.02),
    }
    found = {name: live(world) for name, world in worlds.items()}
    said = "; ".join(
        f"{name}: {each.median:,.0f} ({each.share:.0%})" for name, each in found.items()
    )
    return Measured(
        figures=f"canary decisions at the median, over {RUNS} runs, and the share that was ever "
        f"rolled back: {said}",
        held=all(found[name].median <= AT_MOST for name in list(worlds)[:3]),
    )


def null_runs_go_on() -> Measured:
    """Equal policies, under the plan and, for 10,000 canary decisions, under none."""
    worlds = {"steady": World(), "while the mix drifts": World(drifts=True)}
    plain = {name: live(world, NULL_RUNS) for name, world in worlds.items()}
    longer = {
        name: live(world, NULL_RUNS, plan=None, most=NULL_DECISIONS)
        for name, world in worlds.items()
    }
    promoted = plain["steady"].promoted
    said = "; ".join(
        f"{name} {plain[name].share:.1%} under the plan, {longer[name].share:.1%} over "
        f"{NULL_DECISIONS:,} decisions"
        for name in worlds
    )
    return Measured(
        figures=f"{NULL_RUNS:,} runs each, rolled back: {said}; {np.isfinite(promoted).mean():.0%} "
        f"were promoted, after {np.median(promoted):,.0f} decisions at the median",
        held=all(each.share <= 0.05 for each in (*plain.values(), *longer.values())),
    )


if __name__ == "__main__":
    for case in (drops_are_rolled_back, null_runs_go_on):
        print(case(), flush=True)
