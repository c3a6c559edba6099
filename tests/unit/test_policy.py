"""A learned policy: the same for a query alone and among others."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bundle.embedder import load_embedder
from router.bundle.loader import load_archive
from router.loading import bind, learned
from router.policy.policy import Policy
from router.types import Arm, Catalog, Predictions
from tests.kit.bundles import TRUSTED
from tests.kit.policies import catalog
from tests.kit.serving_bundles import bundle


@cache
def policy() -> Policy:
    loaded = load_archive(bundle(catalog(), trees=40, leaves=15), trusted=TRUSTED, probe=False)
    return bind(learned(loaded, load_embedder()), catalog(), 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=300), min_size=1, max_size=17))
def test_queries_together_are_predicted_as_one_by_one_bit_for_bit(texts: list[str]) -> None:
    for text, together in zip(texts, policy().predict(texts), strict=True):
        alone = policy().predict([text])[0]
        assert np.array_equal(together.context.values, alone.context.values)
        for name in Predictions.__slots__:
            one, other = getattr(together.predictions, name), getattr(alone.predictions, name)
            assert np.array_equal(one, other, equal_nan=True), name


def test_an_arm_that_was_not_trained_on_gets_a_prediction() -> None:
    known = catalog()
    new = Arm(model="m3", strategy="tree_of_thoughts", params={"depth": 3, "width": 5})
    wider = Catalog(models=known.models, arms=(*known.arms, new))
    loaded = load_archive(bundle(known), trusted=TRUSTED, probe=False)
    found = bind(learned(loaded, load_embedder()), wider, 1).predict(["2 + 2?"])[0].predictions
    assert all(np.isfinite(getattr(found, name)[-1]) for name in Predictions.__slots__)
    assert found.cost_usd[-1] > 0


def test_a_catalog_without_arms_binds() -> None:
    loaded = load_archive(bundle(catalog()), trusted=TRUSTED, probe=False)
    bound = bind(learned(loaded, load_embedder()), Catalog(models=(), arms=()), 1)
    assert bound.predict(["2 + 2?"])[0].predictions.accuracy.shape == (0,)
