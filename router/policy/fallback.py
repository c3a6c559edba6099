"""The static policy: decides with no model and no log, so that the first query gets an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router.policy.features import Context
from router.policy.predictor import Predicted
from router.policy.priors import LATENCY_SPREAD, calls, prior
from router.types import Arm, Catalog, Floats, Predictions

CHARS_PER_TOKEN = 4
_SPREAD = 0.25


def estimate_tokens(text: str) -> int:
    """Input tokens of a text without a tokenizer.

    One for every four characters of ASCII; of others each byte after a character's first counts
    three characters more, so that Cyrillic has a token a letter and Chinese 1.75. The double is
    no less than the UTF-8 bytes of what is not ASCII, which no tokenizer over bytes exceeds.
    """
    more = 0 if text.isascii() else len(text.encode(errors="replace")) - len(text)
    return -(-(len(text) + 3 * more) // CHARS_PER_TOKEN)


class StaticPredictor:
    """Predicts the same for every query, from compute, tier and prices alone."""

    def __init__(self, catalog: Catalog) -> None:
        self._arms = catalog.arms
        self._models = [catalog.model(arm.model) for arm in catalog.arms]
        self._priors = [
            prior(arm, model) for arm, model in zip(self._arms, self._models, strict=True)
        ]
        self._calls = np.array([calls(arm) for arm in self._arms])
        self._tokens = self._column("output_tokens")
        self._wh_per_token = np.array([each.energy_wh_per_ktok / 1_000 for each in self._models])
        self._same = self._of_any_query()

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The catalog's arms."""
        return self._arms

    def predict(self, contexts: Sequence[Context]) -> list[Predicted]:
        """Priors of each arm; the interval is wide, since nothing was measured."""
        return [
            Predicted(context=context, predictions=self._predict(context)) for context in contexts
        ]

    def _predict(self, context: Context) -> Predictions:
        tokens = context.input_tokens * self._calls + self._tokens
        return Predictions(**self._same, energy_wh=tokens * self._wh_per_token)

    def _of_any_query(self) -> dict[str, Floats]:
        """What is predicted whatever the query; all decisions share it, so nothing may write."""
        accuracy = self._column("accuracy")
        latency_s = self._column("latency_s")[:, None] * np.exp(LATENCY_SPREAD)
        same = {
            "accuracy": accuracy,
            "accuracy_low": np.maximum(accuracy - _SPREAD, 0.0),
            "accuracy_high": np.minimum(accuracy + _SPREAD, 1.0),
            "cost_usd": self._column("cost_usd"),
            "latency_p50_s": latency_s[:, 0],
            "latency_p95_s": latency_s[:, 1],
            "latency_p99_s": latency_s[:, 2],
            "output_tokens": self._tokens,
        }
        for figures in same.values():
            figures.flags.writeable = False
        return same

    def _column(self, name: str) -> Floats:
        return np.array([getattr(each, name) for each in self._priors], dtype=np.float64)
