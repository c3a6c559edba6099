"""Whether the policy that is served agrees with the one that was judged in its stead.

The figures on held-out queries are those of a policy that has not seen them; the one that
is registered has. Both should foretell much the same of any query.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from router.bundle.loader import load
from router.bundle.signing import SigningKey
from router.loading import bind, learned
from router.policy.embedding import Embedder
from router.policy.policy import Policy
from router.types import Catalog, Floats
from training.run.stage_results import Taught

MOST_TEXTS = 500
MOST_APART = 0.15
"""Policies whose mean predicted accuracies differ by more for some arm do not agree."""


def agreement(
    judged: Taught, policy: Taught, texts: Sequence[str], embedder: Embedder, key: SigningKey
) -> Mapping[str, Any] | None:
    """How far the predicted accuracies of the two are apart, on up to 500 held-out texts.

    `mean` is over queries and arms, `worst_arm` that whose mean moved most. None where no
    text was held out.
    """
    if not texts:
        return None
    drawn = sorted(texts, key=_place)[:MOST_TEXTS]
    one, other = (_bound(each, embedder, key) for each in (judged, policy))
    shared = sorted({arm.key for arm in one.arms} & {arm.key for arm in other.arms})
    apart = _accuracy(other, drawn, shared) - _accuracy(one, drawn, shared)
    moved = np.abs(apart.mean(axis=0))
    return {
        "texts": len(drawn),
        "mean": float(np.abs(apart).mean()),
        "worst_arm": shared[int(moved.argmax())],
        "worst_arm_moved": float(moved.max()),
        "agrees": bool(moved.max() <= MOST_APART),
    }


def _place(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()


def _bound(taught: Taught, embedder: Embedder, key: SigningKey) -> Policy:
    bundle = load(taught.bundle, trusted={key.key_id: key.public_key}, probe=False)
    own = Catalog(models=bundle.manifest.models, arms=bundle.manifest.arms)
    return bind(learned(bundle, embedder), own, 0)


def _accuracy(policy: Policy, texts: Sequence[str], arms: Sequence[str]) -> Floats:
    """Predicted accuracy (t, a) of the arms by these keys."""
    place = {arm.key: number for number, arm in enumerate(policy.arms)}
    columns = [place[key] for key in arms]
    found = [each.predictions.accuracy[columns] for each in policy.predict(texts)]
    return np.stack(found)
