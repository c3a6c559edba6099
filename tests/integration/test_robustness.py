"""Prompts that ask for compute, small: a searched gadget buys less past the guard."""

from __future__ import annotations

import numpy as np

from router.slo import Slo
from tests.kit.inflating import Search, behind
from tests.kit.shared_data import shared
from tests.promises.robustness import Flips, Subject
from training.benchmark.splits import part
from training.log.dataset import Dataset
from training.log.sources import read

QUERIES = 250


def test_a_gadget_that_was_searched_with_the_model_buys_less_past_the_guard() -> None:
    log = Dataset.from_table(read(shared("cascades")).table)
    log = part(log, np.arange(len(log.queries)) < QUERIES)
    subject = Subject.of(log, 0, judged=80, searched=8)
    plain = subject.asking(Slo(accuracy_value_usd=0.002))
    ratios = []
    for asking in (plain, plain.guarded):
        search = Search(asking=asking, put=behind, rng=np.random.default_rng(0), steps=4)
        gadget = search.universal(subject.split.test.queries[: subject.searched])
        edited = [behind(text, gadget) for text in subject.texts]
        ratios.append(Flips.of(asking, subject.texts, edited).cost_ratio)
    assert ratios[0] > 1.0
    assert ratios[1] - 1.0 < ratios[0] - 1.0
