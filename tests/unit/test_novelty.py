"""Novelty: a share that keeps its promise on queries like those of training, and grows beyond."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.bundle.loader import load
from router.loading import bind, learned
from router.policy.novelty import NOVEL, Novelty, NoveltyArrays, is_novel
from router.policy.policy import Policy, static_policy
from router.policy.words import BUCKETS
from router.types import Catalog, Floats, Mask
from tests.kit import logs
from tests.kit.bundles import KEY, NOW, TRUSTED
from tests.kit.embedding import embedder, encoded
from tests.kit.shared_data import shared
from training.learning.contexts import Contexts, Projection
from training.learning.novelty import MOST_REFERENCES, reference
from training.learning.policy import learn, write_bundle
from training.learning.signals import SignalModel
from training.learning.targets import Trained
from training.log.dataset import Dataset
from training.log.sources import read
from training.log.splits import folds, holdout

STRANGE = (
    "Warum ist der Himmel am Abend rot und am Mittag blau?",
    "Сколько будет семь умножить на восемь, если потом вычесть двенадцать?",
    "一个篮子里有二十四个苹果,小明拿走了三分之一,还剩下多少个?",
    "qX7)zk PV2m@@ w0Lr# jjT^ 9fBn&& Hx4 ((yQs vvK1 !dRz mW3%c",
)


def _remote(model: SignalModel, contexts: Contexts) -> Floats:
    """The parts of remoteness (q, 2), some queries at a time."""
    step = 256
    parts = [
        model.remoteness(contexts.take(slice(start, start + step)))
        for start in range(0, len(contexts), step)
    ]
    return np.concatenate(parts)


def _learnt(dataset: Dataset, which: Mask, contexts: Contexts) -> SignalModel:
    """Signals learnt from the rows of the queries of a mask."""
    rows = dataset.rows.take(which[dataset.rows.query])
    return SignalModel(arms=len(dataset.arms), seed=0).fit(contexts, rows)


def _out_of_fold(dataset: Dataset, train: Mask, contexts: Contexts) -> NoveltyArrays:
    """The reference from the queries of a mask, each remote of what the other folds taught."""
    fold, found = folds(dataset.queries, 5), np.full((len(contexts), 2), np.nan)
    for number in range(5):
        mine = train & (fold == number)
        found[mine] = _remote(
            _learnt(dataset, train & (fold != number), contexts), contexts.take(mine)
        )
    return reference(found)


def _shares(arrays: NoveltyArrays, parts: Floats) -> Floats:
    below = np.searchsorted(arrays.reference, arrays.remoteness(parts))
    return np.asarray(below / (len(arrays.reference) + 1))


@cache
def trained() -> Trained:
    return learn(logs.simulated(260).dataset, embedder=embedder())


def bound(directory: Path, *, without: str = "none") -> Policy:
    write_bundle(trained(), directory, KEY, NOW)
    bundle = load(directory, trusted=TRUSTED, probe=False)
    kept = learned(bundle, embedder())
    arrays = {name: array for name, array in kept.arrays.items() if not name.startswith(without)}
    catalog = Catalog(models=bundle.manifest.models, arms=bundle.manifest.arms)
    return bind(replace(kept, arrays=arrays), catalog, 1)


def test_held_out_queries_are_as_novel_as_the_share_says() -> None:
    dataset = _one_arm("cascades", 900)
    training = holdout(dataset.queries, 0.5, 3)
    found = encoded(dataset)
    contexts = Projection().fit(found, np.flatnonzero(training)).transform(found)
    arrays = _out_of_fold(dataset, training, contexts)
    model = _learnt(dataset, training, contexts)
    shares = _shares(arrays, _remote(model, contexts.take(~training)))
    for level, least, most in ((0.5, 0.35, 0.55), (0.9, 0.04, 0.12), (NOVEL, 0.0, 0.02)):
        assert least <= (shares >= level).mean() <= most


def _one_arm(name: str, queries: int) -> Dataset:
    """Some queries of a real log, each with one arm's row."""
    table = read(shared(name)).table
    first = table.filter(pc.equal(table["model"], table["model"][0]))
    drawn = np.random.default_rng(0).permutation(len(first))[:queries]
    return Dataset.from_table(first.take(np.sort(drawn)))


def test_other_languages_and_random_characters_are_novel(tmp_path: Path) -> None:
    policy = bound(tmp_path / "bundle")
    assert all(is_novel(each.novelty) for each in policy.predict(STRANGE))
    fresh = [logs.text(number, number % 6) for number in range(1_000, 1_200)]
    flagged = [is_novel(each.novelty) for each in policy.predict(fresh)]
    assert np.mean(flagged) < 0.03


def test_novelty_is_the_same_one_by_one_and_together(tmp_path: Path) -> None:
    policy = bound(tmp_path / "bundle")
    texts = [*STRANGE, "", logs.text(7, 3), logs.text(5_000, 2)]
    together = [each.novelty for each in policy.predict(texts)]
    assert together == [policy.predict([text])[0].novelty for text in texts]
    assert all(share is not None and 0.0 <= share < 1.0 for share in together)


def test_a_bundle_from_before_there_was_novelty_says_none_and_predicts_the_same(
    tmp_path: Path,
) -> None:
    old, new = bound(tmp_path / "old", without="novelty_"), bound(tmp_path / "new")
    [before], [after] = old.predict([STRANGE[0]]), new.predict([STRANGE[0]])
    assert before.novelty is None
    assert np.array_equal(before.predictions.accuracy, after.predictions.accuracy)
    catalog = Catalog(models=trained().models, arms=trained().arms)
    assert static_policy(catalog).predict([STRANGE[0]])[0].novelty is None
    assert not is_novel(None)


def test_no_training_query_is_its_own_neighbour() -> None:
    """A small log's landmarks are its queries: each lies on its own, but not out of fold."""
    dataset = logs.simulated(80).dataset
    found, every = encoded(dataset), np.ones(80, bool)
    contexts = Projection().fit(found, np.flatnonzero(every)).transform(found)
    inside = _remote(_learnt(dataset, every, contexts), contexts)
    assert inside[:, 0] == pytest.approx(np.zeros(80), abs=1e-9)
    arrays = _out_of_fold(dataset, every, contexts)
    assert arrays.center[0] > 1e-3
    assert np.median(_shares(arrays, inside)) < 0.2


some_parts = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=2, max_size=60
).map(lambda each: np.array(each, np.float64) / 4.0)


@given(some_parts, st.floats(0.0, 1.0))
def test_of_queries_alike_no_more_reach_a_novelty_than_it_allows(
    parts: Floats, level: float
) -> None:
    """The conformal law: each of r + 1 in turn against the others, whatever they are."""
    whole = reference(parts)
    remote = whole.remoteness(parts)
    reached = [
        np.searchsorted(np.sort(np.delete(remote, place)), remote[place]) / len(remote)
        for place in range(len(remote))
    ]
    assert np.mean(np.array(reached) >= level) <= 1.0 - level + 1e-9 or level == 0.0


@given(some_parts, st.floats(0.0, 1.0), st.integers(0, 30))
def test_a_text_that_is_farther_or_of_rarer_words_is_no_less_novel(
    parts: Floats, nearer: float, bucket: int
) -> None:
    rarity = np.concatenate((np.arange(1.0, 32.0), [0.0]))
    novelty = Novelty(reference(parts), rarity)
    near, far = np.array([[0.1, nearer]]), np.array([[0.1, nearer / 2.0]])
    usual, rarer, unseen = (np.array([each]) for each in (bucket, min(bucket + 1, 30), 31))
    [least] = novelty(near, [usual])
    assert novelty(far, [usual])[0] >= least
    assert novelty(near, [unseen])[0] >= novelty(near, [rarer])[0] >= least


def test_a_large_log_keeps_so_many_references_and_their_tail() -> None:
    parts = np.random.default_rng(0).normal(size=(20_000, 2))
    whole = reference(parts)
    assert len(whole.reference) == MOST_REFERENCES
    exact = np.sort(whole.remoteness(parts))
    assert whole.reference[-1] == exact[-1]
    at = np.searchsorted(whole.reference, exact[19_900]) / (MOST_REFERENCES + 1)
    assert at == pytest.approx(0.995, abs=5e-4)


def test_few_training_queries_cannot_say_that_any_is_novel() -> None:
    few = Novelty(reference(np.random.default_rng(0).normal(size=(100, 2))), np.ones(4))
    [share] = few(np.array([[1e-200]]), [np.arange(4)])
    assert share == 100 / 101
    assert not is_novel(share)


def test_queries_that_took_no_part_are_no_reference() -> None:
    parts = np.random.default_rng(0).normal(size=(50, 2))
    gaps = np.vstack((parts, np.full((7, 2), np.nan)))
    assert np.array_equal(reference(gaps).reference, reference(parts).reference)


def test_novelty_costs_less_than_twenty_microseconds() -> None:
    rng = np.random.default_rng(0)
    novelty = Novelty(reference(rng.normal(size=(4_096, 2))), rng.random(BUCKETS))
    near, words = rng.random((1, 1_024)), [np.sort(rng.integers(0, BUCKETS, 150))]
    spent_s = []
    for _ in range(30):
        start = time.process_time()
        for _ in range(100):
            novelty(near, words)
        spent_s.append((time.process_time() - start) / 100)
    assert min(spent_s) < 20e-6
