"""Trees grown on a Dask cluster: past one machine, by one setting.

Each worker holds a share of the rows, and LightGBM's workers sum their histograms over the
network (data parallel; Ke et al. 2017). Columns are binned by the rows of whichever worker has
them, so that the trees are as good as those grown here, but not the same bytes every time. The
workers speak to one another on free ports.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import lightgbm
import numpy as np

from router.errors import ConfigurationError, Unavailable
from training.learning.growing import Forest, growing

LOCAL = "local"
LOCAL_WORKERS = 2
WAIT_S = 30
NEEDED = ("dask", "distributed", "pandas")

_NAMES = {
    "lambda_l2": "reg_lambda",
    "feature_fraction": "colsample_bytree",
    "bagging_fraction": "subsample",
    "bagging_freq": "subsample_freq",
    "min_data_in_leaf": "min_child_samples",
    "min_gain_to_split": "min_split_gain",
    "seed": "random_state",
}
"""LightGBM's own names of parameters as its estimators for Dask call them.

They set the number of threads themselves, by the workers'.
"""


_MACHINES = re.compile(r"(?m)^\[(?:machines|machine_list_filename|local_listen_port): .*\]\n")
"""Where the workers were is no part of a model, and none of a bundle reader's business."""


@contextmanager
def on_dask(address: str) -> Iterator[None]:
    """Has all trees of a block grown on the cluster at an address, or on a "local" one.

    Raises ConfigurationError without Dask, and Unavailable when no worker is there.
    """
    with _client(address) as client, growing(lambda forest: grown_on(client, forest)):
        yield


def grown_on(client: Any, forest: Forest) -> lightgbm.Booster:
    """Grows the trees on the workers of a client."""
    from lightgbm.dask import DaskLGBMRegressor  # noqa: PLC0415

    da: Any = importlib.import_module("dask.array")
    workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
    if not workers:
        raise Unavailable("the Dask cluster has no worker; start some and try again")
    shares = np.array_split(np.arange(len(forest.label)), len(workers))

    def spread(values: Any) -> Any:
        parts = [
            da.from_delayed(
                client.scatter(values[share], workers=[worker]),
                shape=values[share].shape,
                dtype=values.dtype,
            )
            for share, worker in zip(shares, workers, strict=True)
        ]
        return da.concatenate(parts)

    model = DaskLGBMRegressor(
        client=client, n_estimators=forest.trees, tree_learner="data", **_told(forest.parameters)
    )
    with warnings.catch_warnings():  # it warns of its own default, whatever it is told
        warnings.filterwarnings("ignore", "Parameter n_jobs will be ignored")
        model.fit(
            spread(forest.columns),
            spread(forest.label),
            sample_weight=spread(forest.weight),
            init_score=spread(forest.start),
            feature_name=list(forest.names),
            categorical_feature=list(forest.categorical),
        )
    text = _MACHINES.sub("", model.booster_.model_to_string())
    return lightgbm.Booster(model_str=text)


def _told(parameters: Mapping[str, Any]) -> dict[str, Any]:
    told = {_NAMES.get(name, name): value for name, value in parameters.items()}
    return {name: value for name, value in told.items() if name != "num_threads"}


@contextmanager
def _client(address: str) -> Iterator[Any]:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"{' and '.join(missing)} not installed, which --dask needs; install leadline[dask]"
        )
    distributed: Any = importlib.import_module("distributed")
    if address == LOCAL:
        with (
            distributed.LocalCluster(
                n_workers=LOCAL_WORKERS,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client
        return
    try:
        with distributed.Client(address, timeout=WAIT_S) as client:
            yield client
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"no Dask scheduler answers at {address} ({type(error).__name__}); start it, or "
            "name another with --dask"
        ) from error
