"""Names in an slo that the catalog does not have: no error, since they may come later."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from router.slo import Slo
from router.types import Catalog


def unknown_names(slo: Slo, catalog: Catalog) -> tuple[str, ...]:
    """One sentence for each name that the catalog has no enabled model, arm or region of."""
    models = {model.name for model in catalog.models if model.enabled}
    regions = {model.region for model in catalog.models if model.enabled}
    strategies = {str(arm.strategy) for arm in catalog.arms}
    keys = {arm.key for arm in catalog.arms}
    return (
        *_missing("allowed_models", slo.allowed_models, models, "enabled model"),
        *_missing("excluded_models", slo.excluded_models, models, "enabled model"),
        *_missing("allowed_regions", slo.allowed_regions, regions, "model in the region"),
        *_missing("excluded_regions", slo.excluded_regions, regions, "model in the region"),
        *_missing("allowed_strategies", slo.allowed_strategies, strategies, "arm of the strategy"),
        *_missing(
            "excluded_strategies", slo.excluded_strategies, strategies, "arm of the strategy"
        ),
        *_missing("reference_arm", (slo.reference_arm,), keys, "enabled arm"),
        *_missing("safe_arm", (slo.safe_arm,), keys, "enabled arm"),
    )


def _missing(
    field: str, names: Iterable[str], known: Collection[str], what: str
) -> tuple[str, ...]:
    return tuple(
        f"{field}: the catalog has no {what} {name!r:.120}"
        for name in names
        if name and name not in known
    )
