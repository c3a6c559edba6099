"""What an attempt may spend: from a compute budget to an allowance, and the purse that holds it.

One single pass is one call of at most SINGLE_PASS_TOKENS output tokens. A compute budget of
B single passes allows B calls (a call for n samples is n), B x SINGLE_PASS_TOKENS output
tokens and what both cost at the model's prices, for all attempts of a request together:
the more, the more may be spent. Without a budget an arm may make the calls that it needs, each of
as many tokens as the model can write.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from router.execution.calls import CallMade, Failure, Usage
from router.execution.strategy import Allowance, AllowanceSpent, time_spent
from router.policy.arms import compute, most_calls
from router.types import Arm, Model

SINGLE_PASS_TOKENS = 1_024
LEAST_TOKENS = 16
"""Fewer output tokens than this hold no answer, unless fewer were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """The single passes that a request has left; infinite without a compute budget."""

    calls: float = math.inf
    output_tokens: float = math.inf

    @classmethod
    def of(cls, compute_budget: int) -> Passes:
        """What a budget from 1 to 100 buys, 0 for no budget."""
        if not compute_budget:
            return cls()
        return cls(calls=compute_budget, output_tokens=compute_budget * SINGLE_PASS_TOKENS)

    def less(self, calls: int, output_tokens: int) -> Passes:
        """What is left after an attempt."""
        return Passes(
            calls=max(self.calls - calls, 0),
            output_tokens=max(self.output_tokens - output_tokens, 0),
        )

    def cover(self, arm: Arm) -> bool:
        """Whether the arm's compute is left."""
        return min(self.calls, self.output_tokens / SINGLE_PASS_TOKENS) >= compute(arm)


def allowance(
    arm: Arm,
    model: Model,
    passes: Passes,
    *,
    input_tokens: int,
    seconds: float,
    samples: int = 1,
) -> Allowance:
    """What one attempt may spend that is to bring so many answers."""
    own = samples * max(most_calls(arm), math.ceil(compute(arm)))
    calls = min(passes.calls, own)
    tokens = min(passes.output_tokens, own * model.max_output_tokens)
    usage = Usage(input_tokens=math.ceil(input_tokens * calls), output_tokens=math.ceil(tokens))
    bounded = math.isfinite(passes.calls)
    return Allowance(
        calls=calls,
        output_tokens=tokens,
        seconds=seconds,
        usd=usage.cost_usd(model) if bounded and input_tokens else math.inf,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What is set aside for calls that are under way."""

    calls: int
    output_tokens: float


class Purse:
    """An allowance as it is spent by calls side by side; belongs to one event loop."""

    def __init__(self, given: Allowance, clock: Callable[[], float] = monotonic) -> None:
        self._given, self._clock, self._began_s = given, clock, clock()
        self._calls, self._held_tokens = 0, 0.0
        self.made: list[CallMade] = []
        self.usage, self.cost_usd = Usage(), 0.0

    @property
    def calls(self) -> int:
        """Calls made or under way, a call for n samples as n."""
        return self._calls

    @property
    def seconds(self) -> float:
        """How long ago it was opened."""
        return self._clock() - self._began_s

    @property
    def failure(self) -> Failure | None:
        """How the last call failed, None where it did not or there was none."""
        return self.made[-1].failure if self.made else None

    def left(self) -> Allowance:
        """What is neither spent nor set aside."""
        spent = self.usage.output_tokens + self._held_tokens
        return Allowance(
            calls=max(self._given.calls - self._calls, 0),
            output_tokens=max(self._given.output_tokens - spent, 0),
            seconds=max(self._given.seconds - self.seconds, 0.0),
            usd=max(self._given.usd - self.cost_usd, 0.0),
        )

    def hold(self, samples: int, most_tokens: int | None) -> tuple[Hold, int | None]:
        """Sets aside for as many of the samples as there is room for, and their output tokens.

        Returns with it the most tokens of each, None where nothing bounds them. A call that
        does not say how long it may be gets an even share. Raises AllowanceSpent.
        """
        left = self.left()
        samples = int(min(samples, left.calls))
        if left.seconds <= 0:
            raise time_spent()
        if samples < 1 or left.usd <= 0:
            raise AllowanceSpent
        most = math.inf if most_tokens is None else most_tokens
        if math.isfinite(left.output_tokens):
            even = math.isinf(most) and math.isfinite(left.calls)
            most = min(most, left.output_tokens // (left.calls if even else samples))
        if most < min(LEAST_TOKENS, math.inf if most_tokens is None else most_tokens):
            raise AllowanceSpent
        bounded = math.isfinite(most)
        held = Hold(calls=samples, output_tokens=samples * most if bounded else 0.0)
        self._calls += samples
        self._held_tokens += held.output_tokens
        return held, int(most) if bounded else None

    def settle(self, held: Hold) -> None:
        """Gives back what was set aside, once what was used of it is paid."""
        self._held_tokens -= held.output_tokens

    def pay(self, made: CallMade) -> None:
        """Takes what a call cost."""
        self.made.append(made)
        self.usage += made.usage
        self.cost_usd += made.cost_usd
