"""Strategies over HTTP: on the simulated provider they reach what is published of them."""

from __future__ import annotations

import numpy as np

from router.policy.scaling import MATH
from router.simulation.fleet import REFERENCE
from router.simulation.scaling import BASE_OUTPUT_TOKENS
from router.types import Arm
from tests.kit.simulated import answered

QUESTIONS = 40


def test_every_published_strategy_comes_out_near_its_row() -> None:
    rows = [row for row in MATH if row.compute <= 20]
    arms = [Arm(model=REFERENCE, strategy=row.strategy, params=row.params) for row in rows]
    _, ran = answered(arms, QUESTIONS)
    for row, arm in zip(rows, arms, strict=True):
        score = np.array([each.score for each in ran[arm.key]])
        tokens = np.mean([each.output_tokens for each in ran[arm.key]])
        assert abs(score.mean() - row.math_accuracy) < 4 * (0.25 / QUESTIONS) ** 0.5
        assert abs(tokens / BASE_OUTPUT_TOKENS / row.compute - 1) < 0.1
        assert all(each.confidence is not None for each in ran[arm.key])


def test_agreement_and_confidence_tell_right_answers_from_wrong_ones() -> None:
    strategies = {"single": {}, "self_consistency": {"samples": 5, "adaptive": True}}
    arms = [
        Arm(model=REFERENCE, strategy=name, params=params) for name, params in strategies.items()
    ]
    _, ran = answered(arms, 3 * QUESTIONS)
    for arm in arms:
        score = [each.score for each in ran[arm.key]]
        assert np.corrcoef(score, [each.confidence or 0.0 for each in ran[arm.key]])[0, 1] > 0.1
