"""From a verified bundle to a policy: the last checks before it may decide."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from router.bundle.embedder import check_embedder
from router.bundle.loader import LoadedBundle, load_archive
from router.errors import BundleRefused
from router.policy.embedding import Embedder
from router.policy.features import FeatureSpec
from router.policy.policy import Learned, Policy, Reader
from router.types import Catalog

_TRIAL = "What is 17 + 25?"


def registered(
    archive: bytes, digest: str, trusted: Mapping[str, bytes], embedder: Embedder
) -> Learned:
    """What a registered policy's archive teaches, tried in a child process; blocks.

    `digest` is the hex SHA-256 that it was registered under, `trusted` holds raw public keys
    by key id. Raises BundleRefused with the reason.
    """
    bundle = load_archive(archive, trusted=trusted)
    if bundle.digest != digest:
        raise BundleRefused("the bundle is not the one that was registered")
    return learned(bundle, embedder)


def learned(bundle: LoadedBundle, embedder: Embedder) -> Learned:
    """What the bundle teaches, read with this embedder.

    Raises BundleRefused when it was trained with another embedder or other features.
    """
    manifest, arrays = bundle.manifest, bundle.arrays
    check_embedder(manifest, embedder)
    for name in ("feature_mean", "feature_components", "feature_bounds"):
        if name not in arrays:
            raise BundleRefused(f"the bundle lacks the array {name}; train the policy anew")
    features = FeatureSpec(
        embedder=manifest.embedder.name,
        embedder_digest=manifest.embedder.digest,
        mean=arrays["feature_mean"],
        components=arrays["feature_components"],
        bounds=arrays["feature_bounds"],
    )
    if features.names != manifest.feature_names or features.digest != manifest.features_digest:
        raise BundleRefused(
            f"the policy was trained with features {manifest.features_digest[:12]}, and this "
            f"version makes {features.digest[:12]}; train the policy anew"
        )
    return Learned(
        booster=bundle.booster,
        trained_arms=manifest.arms,
        arrays=arrays,
        reader=Reader(features=features, embedder=embedder),
    )


def bind(what: Learned, catalog: Catalog, version: int) -> Policy:
    """The policy for the catalog's arms, after a trial prediction.

    Raises BundleRefused when an array is missing or has a shape that cannot predict.
    """
    try:
        policy = what.bind(catalog, version)
        predictions = policy.predict([_TRIAL])[0].predictions
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise BundleRefused(
            f"the bundle's arrays do not fit together ({type(error).__name__}: {error!s:.120}); "
            "train the policy anew"
        ) from error
    figures = np.stack((predictions.accuracy, predictions.cost_usd))
    if figures.shape != (2, len(catalog.arms)) or not np.isfinite(figures).all():
        raise BundleRefused(
            "the policy predicts no accuracy or no cost for some arms; train it anew"
        )
    return policy
