"""Queues and slow writing are told apart, and each takes the arms out that it makes too slow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from router.conditions import Backend
from router.policy.backends import Track
from router.policy.features import Context
from router.policy.policy import Predicted, static_policy
from router.policy.seen import Seen, seen
from router.slo import Slo
from router.types import Arm, Catalog, Floats, Model, Predictions
from tests.kit.policies import predictions
from tests.kit.slowing import Hit, Trouble, Walk, World, walk

SHORT, LONG, OTHER = "m1:single", "m1:chain_of_thought", "m0:single"
FIRST_S, SHORT_S, LONG_S = 0.3, 0.6, 3.0
SPREAD = 0.2


def two_lengths(max_latency_s: float, *, told: bool = True) -> World:
    """A model whose short answers are best for half of all queries, and its long for the rest.

    Another model does nearly as well in a second. `told` says that callers tell first tokens.
    """
    models = tuple(
        Model(name=name, input_usd_per_mtok=1.0, output_usd_per_mtok=1.0) for name in ("m0", "m1")
    )
    arms = tuple(Arm(model=key[:2], strategy=key[3:]) for key in (OTHER, SHORT, LONG))
    catalog, rng = Catalog(models=models, arms=arms), np.random.default_rng(0)
    rest_s = np.array([1.0, SHORT_S, LONG_S]) - FIRST_S
    rest_s = rest_s * np.exp(rng.normal(0.0, SPREAD, (500, 3)))
    first_s = FIRST_S * np.exp(rng.normal(0.0, SPREAD, (500, 3)))
    context = Context(values=np.empty(0), words=np.empty(0, np.intp), input_tokens=10)
    known = [
        Predicted(context=context, predictions=_expected(np.array(accuracy)))
        for accuracy in ([0.6, 0.8, 0.7], [0.6, 0.65, 0.8])
    ]
    return World(
        policy=static_policy(catalog),
        catalog=catalog,
        known=known * 250,
        latency_s=first_s + rest_s,
        slo=Slo(max_latency_s=max_latency_s, accuracy_value_usd=1.0),
        first_s=first_s if told else None,
    )


def _expected(accuracy: Floats) -> Predictions:
    median_s = np.array([1.0, SHORT_S, LONG_S])
    usual = predictions(accuracy, np.full(3, 1e-4), median_s)
    return replace(usual, latency_p95_s=1.4 * median_s, latency_p99_s=1.6 * median_s)


def troubled(hit: Hit) -> Trouble:
    """The model is hit from 60 s to 120 s."""
    return lambda model, at_s: hit if model == "m1" and 60.0 <= at_s < 120.0 else Hit()


def walked(max_latency_s: float, hit: Hit, *, told: bool = True, seconds: float = 120.0) -> Walk:
    world = two_lengths(max_latency_s, told=told)
    return walk(world, troubled(hit), per_s=8.0, seconds=seconds, seed=1)


def test_a_queue_leaves_long_answers_in_that_a_plain_ratio_would_take_out() -> None:
    queue = Hit(wait_s=2.0)
    found, plain = (walked(8.0, queue, told=told) for told in (True, False))
    assert found.share(LONG, 0.0, 60.0) == pytest.approx(0.5, abs=0.1)
    assert found.share(LONG, 75.0, 120.0) == pytest.approx(0.5, abs=0.1)
    assert found.late_share(75.0, 120.0) < 0.06
    assert plain.share(LONG, 75.0, 120.0) < 0.25


def test_a_queue_takes_short_answers_out_under_a_tight_bound() -> None:
    found = walked(2.0, Hit(wait_s=2.0), seconds=200.0)
    assert found.share(SHORT, 0.0, 60.0) > 0.95
    assert found.share(SHORT, 75.0, 120.0) < 0.1
    assert found.late_share(75.0, 120.0) < 0.06
    assert found.share(SHORT, 180.0, 200.0) > 0.95


def test_slow_writing_takes_long_answers_out_and_leaves_short_ones() -> None:
    found = walked(8.0, Hit(pace=3.5))
    assert found.share(LONG, 75.0, 120.0) < 0.1
    assert found.share(SHORT, 75.0, 120.0) > 0.45
    assert found.late_share(75.0, 120.0) < 0.06


def attempts(
    count: int, start_s: float, hit: Hit, *, seed: int, tenant: str = "a", told: bool = True
) -> list[Seen]:
    """Attempts of both lengths in turn, four a second."""
    rng, found = np.random.default_rng(seed), []
    for place in range(count):
        at_s, median_s = start_s + 0.25 * place, (SHORT_S, LONG_S)[place % 2]
        first_s = FIRST_S * np.exp(rng.normal(0.0, 0.3)) + hit.wait_s
        rest_s = hit.pace * (median_s - FIRST_S) * np.exp(rng.normal(0.0, 0.3))
        shown = seen(
            at_s - first_s - rest_s,
            at_s,
            latency_s=first_s + rest_s,
            median_s=median_s,
            first_token_s=first_s if told else None,
            tenant=tenant,
        )
        assert shown is not None
        found.append(shown)
    return found


def after(*hits: Hit, tenants: tuple[str, ...] = ("a",), told: bool = True) -> Backend:
    """What a track says of attempts as usual, and then of each tenant's."""
    track = Track()
    for tenant in tenants:
        track.saw(attempts(30, 0.0, Hit(), seed=1, tenant=tenant))
    for place, (tenant, hit) in enumerate(zip(tenants, hits, strict=True)):
        track.saw(attempts(40, 10.0, hit, seed=2 + place, tenant=tenant, told=told))
    return track.backend(20.0)


@pytest.mark.parametrize("hit", [Hit(wait_s=2.0), Hit(pace=4.0), Hit(wait_s=2.0, pace=4.0)])
def test_the_wait_and_the_pace_are_what_they_are(hit: Hit) -> None:
    found = after(hit)
    assert found.slowdown == pytest.approx(hit.pace, rel=0.25)
    assert found.first_token_s == pytest.approx(FIRST_S + hit.wait_s, rel=0.2)
    assert found.usual_first_token_s == pytest.approx(FIRST_S, rel=0.2)


def test_a_model_as_usual_has_no_load_whatever_its_first_tokens_take() -> None:
    assert after(Hit()) == Backend()


LIES = [Hit(wait_s=60.0), Hit(pace=30.0), Hit(wait_s=60.0, pace=30.0)]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("honest", [1, 2])
def test_one_tenant_s_lies_of_first_tokens_move_nothing(lie: Hit, honest: int) -> None:
    usual = (Hit(),) * honest
    assert after(*usual, lie, tenants=("a", "b", "c")[: honest + 1]) == Backend()


@pytest.mark.parametrize("honest", [1, 2])
def test_nor_do_they_where_the_others_tell_none(honest: int) -> None:
    track = Track()
    for tenant in ("a", "b", "c")[: honest + 1]:
        track.saw(attempts(30, 0.0, Hit(), seed=1, tenant=tenant, told=tenant == "a"))
    for tenant in ("b", "c")[:honest]:
        track.saw(attempts(40, 10.0, Hit(), seed=2, tenant=tenant, told=False))
    track.saw(attempts(40, 10.0, Hit(wait_s=60.0), seed=3, tenant="a"))
    assert track.backend(20.0) == Backend()


def test_one_tenant_s_lies_of_long_answers_move_nothing_where_the_others_are_short() -> None:
    track = Track()
    for start_s, pace, seed in ((0.0, 1.0, 1), (10.0, 30.0, 2)):
        for tenant in ("a", "b"):
            usual = attempts(80, start_s, Hit(wait_s=5.0), seed=seed, tenant=tenant)
            track.saw(longer([each for each in usual if each.median_s == SHORT_S], 5.0))
        lies = attempts(40, start_s, Hit(pace=pace), seed=3, tenant="c")
        track.saw(each for each in lies if each.median_s == LONG_S)
    assert track.backend(30.0) == Backend()


def longer(several: list[Seen], more_s: float) -> list[Seen]:
    """The same of prompts that are known to take so much longer to read."""
    return [
        replace(
            each,
            median_s=median_s + more_s,
            log_ratio=ratio + np.log(median_s / (median_s + more_s)),
        )
        for each in several
        for median_s, ratio in [(each.median_s or 0.0, each.log_ratio or 0.0)]
    ]


def test_tenants_of_longer_prompts_wait_as_long_in_a_queue_as_others() -> None:
    track, prompts_s = Track(), {"a": 0.0, "b": 3.0}
    for seed, start_s, wait_s in ((1, 0.0, 0.0), (2, 10.0, 2.0)):
        for tenant, more_s in prompts_s.items():
            hit = Hit(wait_s=wait_s + more_s)
            track.saw(longer(attempts(40, start_s, hit, seed=seed, tenant=tenant), more_s))
    found = track.backend(20.0)
    assert found.slowdown == pytest.approx(1.0, abs=0.2)
    assert found.first_token_s - found.usual_first_token_s == pytest.approx(2.0, rel=0.25)
