"""Simulated models over days: what they can and cost, and what of that changes when.

The truth that no router may see: the probability of a right answer and the expected cost of
every arm for every question, from which outcomes are drawn, and by which a day's best
constant arm and its oracle are known exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.special import expit

from router.policy.scaling import SECONDS_PER_COMPUTE
from router.simulation.fleet import BY_NAME, SimulatedModel
from router.simulation.scaling import (
    BASE_OUTPUT_TOKENS,
    LATENCY_SPREAD,
    TOKENS_SPREAD,
    effort,
    gain,
)
from router.simulation.workload import Question
from router.types import Arm, Floats, Model, Strategy

CHARS_PER_TOKEN = 4.0
SINGLE = Arm(model="", strategy=Strategy.SINGLE)
SHORT, LONG = (
    Arm(model="", strategy=Strategy.CHAIN_OF_THOUGHT, params={"tokens": tokens})
    for tokens in (256, 1024)
)
MENU: Mapping[str, tuple[Arm, ...]] = {
    "sim-small": (SHORT,),
    "sim-large": (SINGLE, SHORT, LONG),
    "sim-reasoning": (SHORT,),
    "sim-new": (SINGLE, SHORT),
}
"""The arms of each model: strategies that are worth their price for some questions."""

NEW = "sim-new"
NEW_STRENGTHS = {"count_bits": 1.5, "letter_counting": 1.5, "products": -1.5, "gcd": -1.5}
_MOST_USD, _HALVINGS = 100.0, 40
APART = 4.0
"""How many times as far apart as the demo's the models are in what they are good at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What an arm's answer brought."""

    score: float
    cost_usd: float
    input_tokens: int
    output_tokens: int
    latency_s: float


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Of q questions and a arms: P(right) and expected cost, both (q, a)."""

    arms: tuple[Arm, ...]
    accuracy: Floats
    cost_usd: Floats

    def place(self, arm: str) -> int:
        """The arm's column, by its key."""
        return next(place for place, each in enumerate(self.arms) if each.key == arm)

    def constant(self, value_usd: float) -> tuple[Arm, float, float]:
        """The arm with the greatest mean value x accuracy - cost, with its means of both."""
        accuracy, cost_usd = self.accuracy.mean(axis=0), self.cost_usd.mean(axis=0)
        place = int((value_usd * accuracy - cost_usd).argmax())
        return self.arms[place], float(accuracy[place]), float(cost_usd[place])

    def oracle(self, value_usd: float) -> tuple[float, float]:
        """Mean accuracy and cost where each question has the arm that is worth most for it."""
        picked = (value_usd * self.accuracy - self.cost_usd).argmax(axis=1)
        rows = np.arange(len(picked))
        return float(self.accuracy[rows, picked].mean()), float(self.cost_usd[rows, picked].mean())

    def cheapest(self, floor: float) -> tuple[Arm, float, float]:
        """The cheapest arm whose mean accuracy is at least the floor, with its means of both.

        Where there is none, the most accurate one.
        """
        accuracy, cost_usd = self.accuracy.mean(axis=0), self.cost_usd.mean(axis=0)
        enough = np.where(accuracy >= floor, cost_usd, np.inf)
        place = int(enough.argmin()) if np.isfinite(enough).any() else int(accuracy.argmax())
        return self.arms[place], float(accuracy[place]), float(cost_usd[place])

    def cheapest_choice(self, floor: float) -> tuple[float, float]:
        """Mean accuracy and cost of the cheapest choice for each question that meets the floor.

        It maximises value x accuracy - cost at the least value that is enough, which
        bisection finds.
        """
        low, high = 0.0, _MOST_USD
        for _ in range(_HALVINGS):
            middle = (low + high) / 2.0
            low, high = (low, middle) if self.oracle(middle)[0] >= floor else (middle, high)
        return self.oracle(high)


@dataclass(frozen=True, kw_only=True)
class Market:
    """The models of some day."""

    models: tuple[SimulatedModel, ...]

    @classmethod
    def opened(cls) -> Self:
        """The models of the first day."""
        return cls(models=tuple(_specialist(name) for name in MENU if name != NEW))

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Every arm, model by model."""
        return tuple(
            Arm(model=each.model.name, strategy=arm.strategy, params=arm.params)
            for each in self.models
            for arm in MENU[each.model.name]
        )

    @property
    def catalog(self) -> tuple[Model, ...]:
        """The models as their provider describes them."""
        return tuple(each.model for each in self.models)

    def joined(self, ability: float = 0.5) -> Market:
        """With a new model: the price of a large one, and better."""
        like = BY_NAME["sim-large"]
        model = replace(like.model, name=NEW, endpoint_model=NEW)
        new = replace(like, model=model, ability=ability, strengths=dict(NEW_STRENGTHS))
        return replace(self, models=(*self.models, new))

    def priced(self, name: str, times: float) -> Market:
        """With another price of a model."""
        return self._changed(
            name,
            lambda each: replace(
                each,
                model=replace(
                    each.model,
                    input_usd_per_mtok=times * each.model.input_usd_per_mtok,
                    output_usd_per_mtok=times * each.model.output_usd_per_mtok,
                ),
            ),
        )

    def worse(self, name: str, by: float) -> Market:
        """With a model of less ability, which nobody is told."""
        return self._changed(name, lambda each: replace(each, ability=each.ability - by))

    def _changed(self, name: str, change: Callable[[SimulatedModel], SimulatedModel]) -> Market:
        models = [change(each) if each.model.name == name else each for each in self.models]
        return replace(self, models=tuple(models))

    def truth(self, questions: Sequence[Question]) -> Truth:
        """What is true of every arm and question."""
        input_tokens = np.array([_input_tokens(each) for each in questions])
        accuracy, cost = [], []
        logits = {
            each.model.name: np.array([each.logit(question) for question in questions])
            for each in self.models
        }
        for arm in self.arms:
            model = self.model(arm.model).model
            accuracy.append(expit(logits[arm.model] + gain(effort(arm))))
            cost.append(_cost_usd(model, input_tokens, _output_tokens(arm)))
        return Truth(
            arms=self.arms,
            accuracy=np.column_stack(accuracy),
            cost_usd=np.column_stack(cost),
        )

    def answered(
        self, question: Question, arm: Arm, right: float, rng: np.random.Generator
    ) -> Answered:
        """An answer that is right with that probability."""
        simulated, spent = self.model(arm.model), effort(arm)
        spread = np.exp(rng.normal(0.0, TOKENS_SPREAD) - TOKENS_SPREAD**2 / 2.0)
        given = _input_tokens(question)
        taken = max(1, round(_output_tokens(arm) * spread))
        seconds = simulated.speed * SECONDS_PER_COMPUTE * spent.call_compute
        return Answered(
            score=float(rng.random() < right),
            cost_usd=float(_cost_usd(simulated.model, np.array(given), taken)),
            input_tokens=given,
            output_tokens=taken,
            latency_s=float(seconds * np.exp(rng.normal(0.0, LATENCY_SPREAD))),
        )

    def model(self, name: str) -> SimulatedModel:
        """The model of that name."""
        return next(each for each in self.models if each.model.name == name)


def _specialist(name: str) -> SimulatedModel:
    """A model of the fleet whose strengths and weaknesses by task are greater."""
    known = BY_NAME[name]
    return replace(known, strengths={task: APART * by for task, by in known.strengths.items()})


def _input_tokens(question: Question) -> int:
    return max(1, round(len(question.text) / CHARS_PER_TOKEN))


def _output_tokens(arm: Arm) -> float:
    return BASE_OUTPUT_TOKENS * effort(arm).call_compute


def _cost_usd(model: Model, given: Floats, taken: float) -> Floats:
    usd = given * model.input_usd_per_mtok + taken * model.output_usd_per_mtok
    return np.asarray(usd / 1e6)
