"""Outcome logs for tests: simulated ones whose truth is known, and hostile ones."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from router.policy.arms import compute
from router.types import Floats
from tests.kit.policies import catalog
from training.log import sources
from training.log.dataset import Dataset

ARMS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("small", "single", {}),
    ("large", "single", {}),
    ("large", "self_consistency", {"samples": 3}),
)
_STRENGTH = np.array([0.2, 2.2, 3.0])
_COST_USD = np.array([1e-5, 2e-4, 6e-4])
_LATENCY_S = np.array([0.4, 1.5, 2.0])
LATENCY_SIGMA, COST_SIGMA = 0.4, 0.3

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A log with the probability (q, a) that made each score; query i is `texts[i]`."""

    rows: list[Row]
    texts: tuple[str, ...]
    probability: Floats

    @property
    def dataset(self) -> Dataset:
        """The dataset of the log."""
        return dataset(self.rows)


def text(number: int, difficulty: int) -> str:
    """A query whose difficulty shows in its digits."""
    digits = str(number % 9 + 1) * (difficulty + 1)
    return f"Case {number}: what is {digits} times {digits}?"


def simulated(queries: int = 400, *, seed: int = 1, confidence: bool = True) -> Simulated:
    """A full-information log: every query has every arm of ARMS."""
    rng = np.random.default_rng(seed)
    difficulty = rng.integers(0, 6, queries)
    texts = tuple(text(number, int(hard)) for number, hard in enumerate(difficulty))
    probability = 1.0 / (1.0 + np.exp(difficulty[:, None] - _STRENGTH))
    score = (rng.random(probability.shape) < probability).astype(float)
    cost = _COST_USD * (1 + difficulty[:, None]) * np.exp(COST_SIGMA * rng.normal(size=score.shape))
    latency = _LATENCY_S * np.exp(LATENCY_SIGMA * rng.normal(size=score.shape))
    shown = 2.0 * score - 1.0 + rng.normal(size=score.shape)
    rows = [
        row(
            f"q{query}",
            texts[query],
            arm,
            score=score[query, arm],
            cost_usd=cost[query, arm],
            latency_s=latency[query, arm],
            input_tokens=20 + 2 * int(difficulty[query]),
            output_tokens=30 * (1 + int(difficulty[query])),
            **({"confidence": shown[query, arm]} if confidence else {}),
        )
        for query in range(queries)
        for arm in range(len(ARMS))
    ]
    return Simulated(rows=rows, texts=texts, probability=probability)


def row(query_id: str, query: str, arm: int, **figures: Any) -> Row:
    """One row of a log."""
    model, strategy, params = ARMS[arm]
    return {
        "query_id": query_id,
        "query": query,
        "model": model,
        "strategy": strategy,
        "strategy_params": json.dumps(params),
        **figures,
    }


def bandit(queries: int = 900, *, seed: int = 2) -> Simulated:
    """One row per query with its propensity; the large model was rarely tried."""
    full = simulated(queries, seed=seed)
    rng = np.random.default_rng(seed)
    propensity = np.array([0.8, 0.15, 0.05])
    picked = rng.choice(len(ARMS), queries, p=propensity)
    rows = [
        {**full.rows[query * len(ARMS) + arm], "propensity": propensity[arm]}
        for query, arm in enumerate(picked)
    ]
    return Simulated(rows=rows, texts=full.texts, probability=full.probability)


def wide_rows(queries: int, *, seed: int = 1) -> list[Row]:
    """A full-information log of 24 arms: stronger models and more compute are right more often."""
    rng, arms = np.random.default_rng(seed), catalog().arms
    models = [catalog().model(arm.model) for arm in arms]
    spent = np.array([compute(arm) for arm in arms])
    strength = np.array([model.tier for model in models]) + 0.3 * np.log(spent)
    price = np.array([model.output_usd_per_mtok for model in models]) * spent / 1e4
    difficulty = rng.integers(0, 6, queries)
    probability = 1.0 / (1.0 + np.exp(difficulty[:, None] - 1.0 - strength))
    score = rng.random(probability.shape) < probability
    noise = np.exp(COST_SIGMA * rng.standard_normal(probability.shape))
    return [
        {
            "query_id": f"q{query}",
            "query": text(query, int(difficulty[query])),
            "model": arm.model,
            "strategy": arm.strategy,
            "strategy_params": json.dumps(dict(arm.params)),
            "score": float(score[query, place]),
            "cost_usd": float(price[place] * noise[query, place]),
            "latency_s": float(0.5 * spent[place] * noise[query, place]),
            "confidence": float(probability[query, place]),
        }
        for query in range(queries)
        for place, arm in enumerate(arms)
    ]


def dataset(rows: Sequence[Row]) -> Dataset:
    """The dataset of checked rows."""
    return Dataset.from_table(sources.from_batches([pa.RecordBatch.from_pylist(list(rows))]).table)


def write(path: Path, rows: Sequence[Row]) -> Path:
    """Writes the rows by the path's suffix."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(each) + "\n" for each in rows))
        return path
    names = list(dict.fromkeys(name for each in rows for name in each))
    table = pa.Table.from_pydict({name: [each.get(name) for each in rows] for name in names})
    if path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    else:
        pa.parquet.write_table(table, path)
    return path


def hostile() -> Mapping[str, list[Row]]:
    """Logs that are valid and unkind, by what is unkind about them."""
    rows = simulated(80).rows
    names = ("score", "cost_usd", "latency_s", "confidence", "output_tokens", "input_tokens")
    return {
        "one arm": [each for each in rows if each["model"] == "small"],
        "all scores 1": [{**each, "score": 1.0} for each in rows],
        "all scores 0": [{**each, "score": 0.0} for each in rows],
        "an arm without cost": [_without(each, "cost_usd", model="small") for each in rows],
        "an arm without score": [_without(each, "score", model="small") for each in rows],
        "no cost, latency or tokens": [
            {name: value for name, value in each.items() if name not in names[1:]} for each in rows
        ],
        "duplicated queries": [
            {**each, "query_id": f"{each['query_id']}-{copy}"} for copy in range(3) for each in rows
        ],
        "texts of 1 MB": [
            {**each, "query": each["query"] * (1 << 15)} if index < 6 else each
            for index, each in enumerate(rows)
        ],
        "many languages": [
            {**each, "query": f"{_LANGUAGES[index % 6]} {each['query']}"}
            for index, each in enumerate(rows)
        ],
        "NaN here and there": [
            {**each, names[index % 6]: float("nan")} for index, each in enumerate(rows)
        ],
        "constant cost and latency": [
            {**each, "cost_usd": 0.0, "latency_s": 1.0, "confidence": 0.5} for each in rows
        ],
        "fractional scores": [{**each, "score": 0.25 + 0.5 * each["score"]} for each in rows],
        "the same shape of text": [
            {**each, "query": "word " * int(each["query_id"][1:]) + "end"} for each in rows
        ],
    }


def _without(each: Row, name: str, *, model: str) -> Row:
    return {**each, name: None} if each["model"] == model else each


_LANGUAGES = (
    "Was ist die Antwort?",
    "答えは何ですか。",
    "ما هو الجواب؟",
    "Какой ответ?",
    "उत्तर क्या है? 🙂",
    "e\u0301 \u202e\u200b\ufeff",
)


def real(name: str) -> Path:
    """A recorded log; the test is skipped where the folder is not there."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("LEADLINE_SHARED_DATA", root.parent / "shared" / "data"))
    path = folder / name
    if not path.exists():
        pytest.skip(f"needs {name} in ../shared/data or LEADLINE_SHARED_DATA")
    return path
