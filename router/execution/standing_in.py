"""Which arm stands in for one whose backend failed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from router.types import Arm, Model


def stand_in(
    order: Sequence[int],
    arms: Sequence[Arm],
    models: Mapping[str, Model],
    tried: Collection[int],
) -> int | None:
    """The first of the arms in `order` whose model was not tried, None without one.

    One at another endpoint comes before: it does not fail for the same reason. All are
    places in `arms`.
    """
    names = {arms[place].model for place in tried}
    endpoints = {models[name].endpoint for name in names if name in models}
    others = [place for place in order if arms[place].model not in names]
    known = [place for place in others if arms[place].model in models]
    elsewhere = [place for place in known if models[arms[place].model].endpoint not in endpoints]
    return next(iter(elsewhere or known), None)
