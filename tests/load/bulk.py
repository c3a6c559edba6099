"""Measures deciding in bulk: one process, one core, 24 arms, the policy that serving has.

The last line is JSON: decisions per second of the library and of the whole command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from router import offline
from router.bundle.embedder import load_embedder
from router.bundle.loader import load
from router.commands import lines
from router.loading import bind, learned
from router.policy.policy import Policy
from router.slo import Slo
from router.types import Catalog
from tests.kit.bundles import KEY, NOW, TRUSTED
from tests.kit.logs import dataset, wide_rows
from tests.kit.policies import catalog
from tests.kit.serving_bundles import bundle
from training.learning.head import MOST_TREES
from training.learning.policy import learn, write_bundle
from training.learning.signals import LANDMARKS

QUERIES = 20_000
TURNS = 5
_PART = 1_024
_QUERY = (
    "A train leaves the station at 3 pm at 60 miles an hour, and {} minutes later another at "
    "90 miles an hour from the same place; when does the second one catch the first?"
)
_LEADLINE = Path(sys.executable).parent / "leadline"
_ONE_CORE = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Decisions per second by the library, medians over turns, and by the whole command."""

    library_per_s: float
    command_per_s: float


def measure() -> Figures:
    """Runs both in processes of their own, on one core."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        place = Path(name)
        made = bundle(catalog(), trees=MOST_TREES, landmarks=LANDMARKS)
        (place / "policy.tar").write_bytes(made)
        lines = [
            json.dumps({"query_id": str(number), "query": _QUERY.format(number)})
            for number in range(QUERIES)
        ]
        (place / "queries.jsonl").write_text("\n".join(lines) + "\n")
        library = _run(place, "-m", "tests.load.bulk", str(place))
        started = time.perf_counter()
        command = (str(_LEADLINE), "decide", "--policy", str(place / "policy.tar"))
        files = ("--queries", str(place / "queries.jsonl"), "--out", str(place / "out.jsonl"))
        trusted = ("--trusted-key", KEY.public_key.hex(), "--slo", '{"accuracy_value_usd": 0.01}')
        _run(place, *command, *files, *trusted)
        seconds = time.perf_counter() - started
        assert (place / "out.jsonl").read_bytes().count(b"\n") == QUERIES
    return Figures(library_per_s=float(library), command_per_s=QUERIES / seconds)


def _run(place: Path, *arguments: str) -> str:
    command = ("taskset", "-c", "0", sys.executable, *arguments)
    told = os.environ | _ONE_CORE | {"LEADLINE_STATE_DIR": str(place / "state")}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=told)
    return done.stdout


def _library(place: Path) -> float:
    """Decisions per second of `Policy.decide_many`, in this process."""
    policy = offline.Policy.load(place / "policy.tar", trusted_keys=[KEY.public_key.hex()])
    asked = list(lines.asked((place / "queries.jsonl").read_bytes().splitlines()))
    part = QUERIES // TURNS
    rates = []
    for turn in range(TURNS):
        started = time.perf_counter()
        for some in lines.parts(asked[turn * part : (turn + 1) * part], _PART):
            for _, _, decision in policy.decide_many(some, [Slo(accuracy_value_usd=0.01)]):
                assert not isinstance(decision, Exception)
        rates.append(part / (time.perf_counter() - started))
    return median(rates)


def growth() -> float:
    """The time to predict after eight times as large a log, over that of the smaller."""
    small, large = (_trained(queries) for queries in (500, 4_000))
    texts = [_QUERY.format(number) for number in range(16)]
    ratios = []
    for _ in range(40 * TURNS):
        one, other = _seconds(small, texts), _seconds(large, texts)
        ratios.append(other / one)
    return median(ratios)


def _trained(queries: int) -> Policy:
    with tempfile.TemporaryDirectory() as name:
        made = learn(dataset(wide_rows(queries)), embedder=load_embedder())
        write_bundle(made, Path(name) / "bundle", KEY, NOW)
        bundle = load(Path(name) / "bundle", trusted=TRUSTED, probe=False)
    catalog = Catalog(models=bundle.manifest.models, arms=bundle.manifest.arms)
    return bind(learned(bundle, load_embedder()), catalog, 1)


def _seconds(policy: Policy, texts: list[str]) -> float:
    started = time.perf_counter()
    policy.predict(texts)
    return time.perf_counter() - started


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(_library(Path(sys.argv[1])))
    else:
        print(json.dumps(asdict(measure())))
