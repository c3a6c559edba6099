"""Five simulated models in the spirit of the published price list, and their 24 arms.

The published price is the input price; output costs four times that. A model has the
arms of one menu whose compute it scales to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from router.policy.scaling import PRICES
from router.simulation.scaling import accuracy, effort, hardness
from router.simulation.workload import Question
from router.types import Arm, Capability, Catalog, Model, Strategy

OUTPUT_PRICE_RATIO = 4

MENU: tuple[tuple[Strategy, Mapping[str, int]], ...] = (
    (Strategy.SINGLE, {}),
    (Strategy.CHAIN_OF_THOUGHT, {"tokens": 256}),
    (Strategy.CHAIN_OF_THOUGHT, {"tokens": 1024}),
    (Strategy.CHAIN_OF_THOUGHT, {"tokens": 4096}),
    (Strategy.SELF_CONSISTENCY, {"samples": 5}),
    (Strategy.SELF_CONSISTENCY, {"samples": 10}),
    (Strategy.REFINEMENT, {"rounds": 2}),
    (Strategy.REFINEMENT, {"rounds": 3}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedModel:
    """A model as the simulation knows it.

    `ability` is on the logit scale, 0 for the one that the published rows are for;
    `strengths` adds to it by task. `speed` multiplies the published latency.
    """

    model: Model
    ability: float
    speed: float
    compute_max: float
    strengths: Mapping[str, float] = field(default_factory=dict)

    def logit(self, question: Question) -> float:
        """Ability at the question's task less the question's hardness."""
        ability = self.ability + self.strengths.get(question.task, 0.0)
        return ability - hardness(question.difficulty, question.text)

    def arms(self) -> tuple[Arm, ...]:
        """The arms of the menu whose compute the model scales to."""
        menu = (Arm(model=self.model.name, strategy=name, params=params) for name, params in MENU)
        return tuple(arm for arm in menu if effort(arm).compute <= self.compute_max)


def _model(
    name: str,
    *,
    like: str,
    ability: float,
    speed: float,
    energy_wh_per_ktok: float,
    strong: tuple[str, ...] = (),
    weak: tuple[str, ...] = (),
) -> SimulatedModel:
    price = next(price for price in PRICES if price.model == like)
    return SimulatedModel(
        model=Model(
            name=name,
            input_usd_per_mtok=price.usd_per_mtok,
            output_usd_per_mtok=OUTPUT_PRICE_RATIO * price.usd_per_mtok,
            max_output_tokens=8_192,
            capabilities=frozenset({Capability.JSON}),
            energy_wh_per_ktok=energy_wh_per_ktok,
            region="simulated",
            endpoint_model=name,
        ),
        ability=ability,
        speed=speed,
        compute_max=price.compute_max,
        strengths=dict.fromkeys(strong, 0.5) | dict.fromkeys(weak, -0.5),
    )


REFERENCE = "sim-medium"

FLEET = (
    _model(
        "sim-tiny",
        like="Mixtral 8x22B",
        ability=-1.2,
        speed=0.4,
        energy_wh_per_ktok=0.1,
        strong=("spell_backward", "letter_counting"),
        weak=("products", "gcd"),
    ),
    _model(
        "sim-small",
        like="Llama 3.1 405B",
        ability=-0.5,
        speed=0.7,
        energy_wh_per_ktok=0.3,
        strong=("chain_sum", "number_sorting"),
        weak=("lcm", "simple_equations"),
    ),
    _model(REFERENCE, like="Gemini 1.5 Pro", ability=0.0, speed=1.0, energy_wh_per_ktok=0.5),
    _model(
        "sim-large",
        like="Claude 3.5 Sonnet",
        ability=0.5,
        speed=1.2,
        energy_wh_per_ktok=0.7,
        strong=("simple_equations", "basic_arithmetic"),
        weak=("count_bits", "spell_backward"),
    ),
    _model(
        "sim-reasoning",
        like="o1",
        ability=1.6,
        speed=2.5,
        energy_wh_per_ktok=2.0,
        strong=("gcd", "lcm", "products"),
        weak=("letter_counting", "number_sorting", "spell_backward"),
    ),
)

BY_NAME: Mapping[str, SimulatedModel] = {item.model.name: item for item in FLEET}


def catalog(endpoint: str = "") -> Catalog:
    """The simulated models at `endpoint` (the provider's base URL) and their arms."""
    models = tuple(
        replace(item.model, tier=tier, endpoint=endpoint) for tier, item in enumerate(FLEET)
    )
    return Catalog(models=models, arms=tuple(arm for item in FLEET for arm in item.arms()))


def expected_accuracy(arm: Arm, question: Question) -> float:
    """The true probability that the arm answers the question right; no router may see it."""
    return accuracy(BY_NAME[arm.model].logit(question), arm)
