"""Training on Dask: the same job by one setting, as good a policy, and clear when it can't be."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from sklearn.metrics import log_loss

from router.bundle.booster_check import check
from router.errors import ConfigurationError, Unavailable
from router.types import Floats
from training.learning.distributed import NEEDED, on_dask
from training.learning.growing import Forest, growing, grown, grown_here
from training.learning.head import Head
from training.learning.recipe import WHOLE
from training.log.dataset import Indices

ROWS, COLUMNS = 4_000, 6


def forest(rows: int = ROWS) -> Forest:
    """Rows whose scores hang on two columns and a category, weighted unevenly."""
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(rows, COLUMNS))
    columns[:, 0] = rng.integers(0, 4, rows)
    odds = columns[:, 1] * 1.5 + (columns[:, 0] == 2) - (columns[:, 2] > 0.5)
    return Forest(
        columns=columns,
        label=np.clip((rng.random(rows) < 1.0 / (1.0 + np.exp(-odds))).astype(float), 1e-3, 0.999),
        weight=rng.uniform(0.5, 2.0, rows),
        start=0.2 * columns[:, 1],
        names=[f"column_{place}" for place in range(COLUMNS)],
        categorical=["column_0"],
        parameters=Head(arms=4, seed=0, recipe=WHOLE)._parameters(rows)
        | {"monotone_constraints": [0, 1, 0, 0, 0, 0]},
        trees=16,
    )


def loss(wanted: Forest, held: Indices, taught: Indices) -> float:
    """The log loss of what the taught rows teach on the rows that are held out."""
    part = {name: getattr(wanted, name)[taught] for name in ("columns", "label", "weight", "start")}
    told = {name: getattr(wanted, name) for name in ("names", "categorical", "parameters", "trees")}
    booster = grown(Forest(**part, **told))
    raw = booster.predict(wanted.columns[held], raw_score=True)
    chance: Floats = 1.0 / (1.0 + np.exp(-(np.asarray(raw) + wanted.start[held])))
    return float(log_loss(wanted.label[held] > 0.5, chance, sample_weight=wanted.weight[held]))


installed = pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED),
    reason="the extra 'dask' is not installed: lightgbm.dask needs dask, distributed and pandas",
)


@installed
def test_trees_grown_on_two_workers_are_as_good() -> None:
    wanted, rows = forest(), np.arange(ROWS)
    held, taught = rows[rows % 4 == 0], rows[rows % 4 != 0]
    here = loss(wanted, held, taught)
    with on_dask("local"):
        there = loss(wanted, held, taught)
        text = grown(wanted).model_to_string()
    assert here < 0.62
    assert there == pytest.approx(here, abs=0.01)
    assert "127.0.0.1" not in text
    check(text.encode(), wanted.names)


def test_trees_are_grown_here_unless_a_block_says_otherwise() -> None:
    asked: list[int] = []

    def counting(wanted: Forest) -> object:
        asked.append(wanted.trees)
        return grown_here(wanted)

    with growing(counting):  # type: ignore[arg-type]
        grown(forest(400))
    grown(forest(400))
    assert asked == [16]


@installed
def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.learning.distributed.WAIT_S", 0.2)
    nobody = on_dask("tcp://127.0.0.1:1")
    with pytest.raises(Unavailable, match="no Dask scheduler answers at tcp:"), nobody:
        pass


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.learning.distributed.NEEDED", ("dask", "no_such_package"))
    nobody = on_dask("local")
    with pytest.raises(ConfigurationError, match=r"no_such_package not .* install leadline.dask"):
        nobody.__enter__()
