"""A trained policy as serving has it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from router.bundle.loader import load
from router.loading import bind, learned
from router.policy.policy import Policy
from router.types import Catalog
from tests.kit.bundles import KEY, NOW, TRUSTED
from tests.kit.embedding import embedder
from training.learning.policy import write_bundle
from training.learning.targets import Trained


def bound(trained: Trained) -> Policy:
    """The policy written, verified and loaded, for the models and arms of its own log."""
    with TemporaryDirectory(prefix="leadline-test-") as directory:
        place = Path(directory) / "bundle"
        write_bundle(trained, place, KEY, NOW)
        bundle = load(place, trusted=TRUSTED, probe=False)
    own = Catalog(models=bundle.manifest.models, arms=bundle.manifest.arms)
    return bind(learned(bundle, embedder()), own, 0)
