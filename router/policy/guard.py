"""The guard: a query is held against itself with a part left out, and the cheapest arm is taken.

Text that was put before or behind a query to make it look worth a dearer arm is missing
where that part is left out. What is put everywhere into a query, it does not stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from router.conditions import Limit, Reason
from router.errors import Infeasible
from router.policy.novelty import is_novel
from router.policy.policy import Policy
from router.policy.predictor import Predicted
from router.policy.standing import Standing, Together
from router.policy.worth import Rank, Worth
from router.types import Choice

LEFT_OUT = 0.25
"""The share of a text that is left out, at its end or at its beginning."""

LEAST_CHARS = 40
"""What is left of a shorter text tells nothing of it."""

Choose = Callable[[Together], Sequence[Choice | Infeasible]]
"""Chooses for queries that stand together, all else being the same for them."""

_WORD_CHARS = 24
_NOTE = "a part of the query makes it look worth a dearer arm"


def parts(text: str) -> tuple[str, ...]:
    """The text without its last quarter, and without its first; none of a short text.

    It is cut between words, where one ends near by.
    """
    if len(text) < LEAST_CHARS:
        return ()
    size = int(LEFT_OUT * len(text))
    return text[: _between(text, len(text) - size)], text[_between(text, size) :]


def _between(text: str, place: int) -> int:
    space = text.find(" ", place, place + _WORD_CHARS)
    return place if space < 0 else space


def viewed(policy: Policy, texts: Sequence[str]) -> list[tuple[Predicted, ...]]:
    """What a policy makes of each text's parts; nothing where it reads no texts."""
    if policy.reader is None:
        return [()] * len(texts)
    every = [parts(text) for text in texts]
    asked = [part for each in every for part in each]
    known = iter(policy.predict(asked) if asked else ())
    return [tuple(next(known) for _ in each) for each in every]


def guarded(
    choices: Sequence[Choice | Infeasible],
    together: Together,
    views: Sequence[Sequence[Predicted]],
    choose: Choose,
    aim: Worth,
) -> list[Choice | Infeasible]:
    """The choices, each given up for the cheapest one of the query's views that is feasible.

    Whether an arm is feasible and what it costs, the whole query says; a view says how
    accurate arms are. `views` has those of each query, for which `choose` chooses by `aim`,
    as for queries that are not novel. Where the safe arm is taken even of them, it stays.
    """
    found = list(choices)
    if aim.rank is Rank.SAFE:
        return found
    for asked in _rounds(views):
        places = [place for place in asked if isinstance(found[place], Choice)]
        if not places:
            continue
        seen = Together.of([_seen(together.each[place], asked[place]) for place in places])
        for place, other in zip(places, choose(seen), strict=True):
            found[place] = _cheaper(found[place], other, together.each[place])
    return found


def _rounds(views: Sequence[Sequence[Predicted]]) -> Iterator[dict[int, Predicted]]:
    """The first view of each query by its place, then the second; novel ones tell nothing."""
    for number in range(max(map(len, views), default=0)):
        yield {
            place: each[number]
            for place, each in enumerate(views)
            if number < len(each) and not is_novel(each[number].novelty)
        }


def _seen(standing: Standing, view: Predicted) -> Standing:
    """How the arms stand where the view says how accurate they are."""
    own = view.predictions
    predictions = replace(
        standing.predictions,
        accuracy=own.accuracy,
        accuracy_low=own.accuracy_low,
        accuracy_high=own.accuracy_high,
    )
    return replace(standing, predictions=predictions, novelty=view.novelty)


def _cheaper(
    choice: Choice | Infeasible, other: Choice | Infeasible, standing: Standing
) -> Choice | Infeasible:
    """The other choice where it is feasible and counts for less; else the first."""
    if isinstance(choice, Infeasible) or isinstance(other, Infeasible):
        return choice
    weighed_usd = standing.weighed_usd
    cheaper = weighed_usd[other.index] < weighed_usd[choice.index]
    if not cheaper or not choice.feasible[other.index]:
        return choice
    known = [reason for reason in choice.reasons if reason.limit is not Limit.GUARD]
    guard = Reason(limit=Limit.GUARD, binding=True, note=_NOTE)
    return replace(
        choice,
        index=other.index,
        slo_status=other.slo_status,
        reason=f"{other.reason}; guarded: {_NOTE}",
        reasons=(*known, guard),
    )
