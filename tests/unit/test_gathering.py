"""Requests that come together are answered together, and nobody waits for those who won't come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from router.errors import LeadlineError
from router.serving.gathering import MOST_TOGETHER, PATIENT_EVERY, QUIET_TURNS, Gathering
from router.serving.routing import Waiting
from router.serving.rows import Row


class Groups:
    """Answers everybody and keeps how many came together."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def answer(self, waiting: Sequence[Waiting]) -> list[Row | LeadlineError]:
        """Rows that say how many were there."""
        self.sizes.append(len(waiting))
        return [{"policy_version": len(waiting)} for _ in waiting]


async def _turns(gathering: Gathering, count: int = 1) -> int:
    """How many turns of the loop pass until so many callers, who ask at once, are answered."""
    asked = [gathering.route(cast("Waiting", None)) for _ in range(count)]
    answers = asyncio.gather(*asked)
    turns = 0
    while not answers.done():
        await asyncio.sleep(0)
        turns += 1
    return turns


async def test_a_caller_who_is_alone_is_soon_answered_at_once() -> None:
    gathering = Gathering(Groups())
    turns = [await _turns(gathering) for _ in range(5 * PATIENT_EVERY)]
    later = turns[2 * PATIENT_EVERY :]
    patient = [each for each in later if each >= QUIET_TURNS]
    assert len(patient) == len(later) // PATIENT_EVERY
    assert max(each for each in later if each < QUIET_TURNS) < 10


async def test_growing_traffic_is_soon_answered_together() -> None:
    groups = Groups()
    gathering = Gathering(groups)
    for _ in range(3 * PATIENT_EVERY):
        await _turns(gathering)

    async def caller(asks: int) -> None:
        for _ in range(asks):
            await gathering.route(cast("Waiting", None))
            await asyncio.sleep(0)

    await asyncio.gather(*(caller(100) for _ in range(6)))
    assert sum(groups.sizes) == 3 * PATIENT_EVERY + 600
    late = groups.sizes[-60:-10]
    assert sum(late) / len(late) > 5.0


async def test_no_group_is_larger_than_the_most() -> None:
    groups = Groups()
    gathering = Gathering(groups)
    await _turns(gathering, count=5 * MOST_TOGETHER + 3)
    assert max(groups.sizes) <= MOST_TOGETHER
    assert sum(groups.sizes) == 5 * MOST_TOGETHER + 3
