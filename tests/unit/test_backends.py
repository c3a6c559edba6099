"""A backend that slows down or fails is avoided, and comes back by probes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.conditions import Backend
from router.policy.backends import (
    FIRST_PROBE_S,
    FORGOTTEN_S,
    LONGEST_PROBE_S,
    MOST_KEPT,
    Track,
)
from router.policy.features import Context
from router.policy.policy import Predicted, static_policy
from router.policy.seen import Seen, seen
from router.serving.exchange import Ending, Exchange, News, Probe, Sighting
from router.slo import Slo
from router.types import Arm, Catalog, Model
from tests.kit.policies import predictions
from tests.kit.slowing import World, walk


def shown(at_s: float, factor: float = 1.0, *, failed: bool = False) -> Seen:
    """An attempt of a second that has just ended."""
    ratio = None if failed else math.log(factor)
    return Seen(ended_s=at_s, started_s=at_s - 1.0, failed=failed, log_ratio=ratio)


def noisy(factor: float, count: int, seed: int, first_s: float = 0.0) -> list[Seen]:
    """Attempts four times a second, as widely spread as real latencies."""
    rng = np.random.default_rng(seed)
    factors = factor * np.exp(rng.normal(0.0, 0.4, count))
    return [shown(first_s + 0.25 * place, each) for place, each in enumerate(factors)]


def three_models(max_latency_s: float = 4.0) -> World:
    """Models of which each dearer one is better and slower; a median of a second for the best."""
    models = tuple(
        Model(name=f"m{tier}", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0, tier=tier)
        for tier in range(3)
    )
    arms = tuple(Arm(model=model.name, strategy="single") for model in models)
    catalog, rng = Catalog(models=models, arms=arms), np.random.default_rng(0)
    accuracy, cost_usd = np.array([0.6, 0.7, 0.8]), np.array([1e-4, 2e-4, 4e-4])
    median_s = np.array([0.3, 0.5, 1.0])
    expected = predictions(accuracy, cost_usd, median_s)
    context = Context(values=np.empty(0), words=np.empty(0, np.intp), input_tokens=10)
    return World(
        policy=static_policy(catalog),
        catalog=catalog,
        known=[Predicted(context=context, predictions=expected)] * 500,
        latency_s=median_s * np.exp(rng.normal(0.0, 0.5, (500, 3))),
        slo=Slo(max_latency_s=max_latency_s, accuracy_value_usd=1.0),
    )


@pytest.mark.parametrize("factor", [4.0, math.inf], ids=["slow", "failing"])
def test_the_bound_is_met_again_within_30_s_and_traffic_is_back_within_60(factor: float) -> None:
    def trouble(model: str, at_s: float) -> float:
        return factor if model == "m2" and 40.0 <= at_s < 140.0 else 1.0

    walked = walk(three_models(), trouble, per_s=8.0, seconds=240.0, seed=1)
    assert walked.traffic("m2", 0.0, 40.0) > 0.95
    assert walked.late_share(41.0, 44.0) > 0.15
    assert walked.late_share(70.0, 140.0) < 0.06
    assert 0 < walked.traffic("m2", 70.0, 140.0) < 0.05
    assert walked.traffic("m2", 200.0, 240.0) > 0.95
    assert walked.late_share(200.0, 240.0) < 0.06


def test_backends_that_do_as_predicted_are_not_named_and_not_probed() -> None:
    walked = walk(three_models(), lambda _model, _at_s: 1.0, per_s=8.0, seconds=60.0, seed=2)
    assert walked.probe.sum() == 0
    assert walked.traffic("m2", 0.0, 60.0) > 0.98


@pytest.mark.parametrize("factor", [0.6, 2.0, 4.0, 10.0])
def test_the_slowdown_is_the_ratio_to_what_was_predicted(factor: float) -> None:
    track = Track()
    track.saw(noisy(factor, 200, seed=3))
    assert track.load.slowdown == pytest.approx(factor, rel=0.25)


LIES = (math.log(500.0), math.log(1e-3))


@given(st.sampled_from((*LIES, 0.0)), st.permutations("abc"), st.sampled_from([1, 4]))
def test_one_lying_tenant_among_three_moves_nothing(
    lie: float, tenants: list[str], times: int
) -> None:
    honest, liar = tenants[:2], tenants[2]
    truth = [replace(each, tenant=honest[n % 2]) for n, each in enumerate(noisy(1.0, 60, seed=8))]
    lies = [
        Seen(ended_s=each.ended_s, started_s=0.0, log_ratio=lie, tenant=liar)
        for each in truth
        for _ in range(times)
    ]
    track = Track()
    for place in range(0, 60, 5):
        track.saw([*truth[place : place + 5], *lies[place * times : (place + 5) * times]])
        assert track.load.slowdown == 1.0


def test_a_tenant_alone_and_most_of_three_are_believed() -> None:
    alone, three = Track(), Track()
    slow = noisy(4.0, 90, seed=9)
    alone.saw(replace(each, tenant="a") for each in slow[:12])
    assert alone.load.slowdown == pytest.approx(4.0, rel=0.3)
    three.saw(replace(each, tenant="abc"[n % 3]) for n, each in enumerate(slow) if n % 3)
    three.saw(replace(each, tenant="a", log_ratio=0.0) for n, each in enumerate(slow) if not n % 3)
    assert three.load.slowdown == pytest.approx(4.0, rel=0.35)


def test_of_two_tenants_that_disagree_the_one_that_is_nearer_to_normal_is_believed() -> None:
    track, slow = Track(), noisy(6.0, 60, seed=10)
    track.saw(
        replace(each, tenant="ab"[n % 2], log_ratio=each.log_ratio if n % 2 else 0.0)
        for n, each in enumerate(slow)
    )
    assert track.load.slowdown == 1.0


def test_many_tenants_of_few_attempts_each_are_heard_together() -> None:
    track = Track()
    track.saw(replace(each, tenant=str(n)) for n, each in enumerate(noisy(4.0, 60, seed=11)))
    assert track.load.slowdown == pytest.approx(4.0, rel=0.3)


def test_a_tenant_that_reports_most_drives_out_nothing_that_others_saw() -> None:
    track = Track()
    track.saw(replace(each, tenant="quiet") for each in noisy(1.0, 8, seed=12))
    track.saw(replace(shown(2.0 + n / 1e3, 500.0), tenant="loud") for n in range(1_000))
    assert track.load.slowdown == 1.0


def test_few_attempts_or_single_wild_ones_say_nothing() -> None:
    track = Track()
    track.saw([shown(0.0, 30.0), shown(1.0, 30.0)])
    assert track.load.slowdown == 1.0
    track.saw(noisy(1.0, 40, seed=4))
    track.saw(shown(10.0 + place, 1_000.0) for place in range(5))
    assert track.load.slowdown == 1.0


@given(st.permutations(range(30)), st.integers(1, 7))
def test_reports_may_come_in_any_order_and_in_any_parts(order: list[int], parts: int) -> None:
    attempts, ordered, mixed = noisy(4.0, 30, seed=5), Track(), Track()
    ordered.saw(attempts)
    for part in range(parts):
        mixed.saw(attempts[place] for place in order[part::parts])
    assert mixed.load == ordered.load


@given(st.lists(st.tuples(st.floats(0.0, 1e6), st.booleans(), st.floats(1e-6, 1e6)), max_size=90))
def test_whatever_is_seen_the_backend_is_within_its_range(
    several: list[tuple[float, bool, float]],
) -> None:
    track = Track()
    track.saw(shown(at_s, factor, failed=failed) for at_s, failed, factor in several)
    backend = track.backend(1e6)
    assert 0.5 <= backend.slowdown <= 32.0
    assert len(track._kept) <= MOST_KEPT


def test_a_failing_backend_is_out_until_two_probes_in_turn_do_well() -> None:
    track = Track()
    track.saw([shown(10.0), *(shown(11.0 + place, failed=True) for place in range(4))])
    assert not track.backend(15.0).available
    track.probed(20.0)
    track.saw([shown(21.5)])
    assert not track.backend(22.0).available
    track.saw([shown(23.5, failed=True), shown(25.5)])
    assert not track.backend(26.0).available
    track.saw([shown(27.5)])
    assert track.backend(28.0) == Backend()
    assert track.due_s == math.inf


def test_one_tenant_that_fails_where_another_does_well_takes_the_model_from_nobody() -> None:
    wrong_key = [
        Seen(ended_s=10.0 + place, started_s=9.0, failed=True, tenant="a") for place in range(20)
    ]
    well = [Seen(ended_s=10.5 + place, started_s=10.0, tenant="b") for place in range(19)]
    track = Track()
    track.saw([*wrong_key, *well])
    assert track.backend(31.0).available
    track.saw(
        Seen(ended_s=40.0 + place, started_s=39.0, failed=True, tenant="a") for place in (0, 1)
    )
    assert not track.backend(42.0).available


def test_what_began_before_the_circuit_opened_does_not_close_it() -> None:
    track = Track()
    track.saw(shown(10.0 + place, failed=True) for place in range(4))
    track.saw(Seen(ended_s=15.0 + place, started_s=9.0) for place in range(3))
    assert not track.backend(20.0).available


def test_probes_are_rarer_while_they_find_trouble_and_frequent_once_they_do_not() -> None:
    track, at_s, pauses = Track(), 100.0, []
    track.saw(noisy(4.0, 60, seed=6, first_s=80.0))
    for _ in range(6):
        due_s = track.due_s
        pauses.append(due_s - at_s)
        track.probed(due_s)
        at_s = due_s
        track.saw([Seen(ended_s=at_s + 1.0, started_s=at_s, log_ratio=math.log(4.0))])
    assert pauses[1:] == sorted(pauses[1:])
    assert pauses[-1] == LONGEST_PROBE_S
    track.probed(track.due_s)
    began_s = track.due_s - LONGEST_PROBE_S
    track.saw([Seen(ended_s=began_s + 1.0, started_s=began_s, log_ratio=0.0)])
    assert track.due_s == began_s + 1.0 + FIRST_PROBE_S


def test_without_any_news_for_long_a_model_counts_as_normal() -> None:
    track = Track()
    track.saw(noisy(4.0, 60, seed=7))
    assert track.backend(20.0 + FORGOTTEN_S / 2).slowdown > 2.0
    assert track.backend(20.0 + FORGOTTEN_S) == Backend()
    track.saw([shown(20.0 + FORGOTTEN_S)])
    assert track.backend(20.0 + FORGOTTEN_S) == Backend()


def test_a_score_alone_tells_nothing_of_the_backend_and_a_failure_nothing_of_its_speed() -> None:
    assert seen(0.0, 5.0) is None
    failed = seen(0.0, 5.0, latency_s=0.1, median_s=1.0, failed=True)
    assert failed == Seen(ended_s=0.1, started_s=0.0, failed=True, median_s=1.0)
    unknown = seen(0.0, 5.0, latency_s=2.0)
    assert unknown == Seen(ended_s=2.0, started_s=0.0)


def news(place: int) -> list[News]:
    """Three pieces of news."""
    probe = Probe(model="m", at_s=float(place), decision_id=UUID(int=place))
    ending = Ending(decision_id=UUID(int=place), told_s=float(place), latency_s=None)
    told = seen(0.0, 9.0, latency_s=2.0, median_s=1.0, first_token_s=0.5, output_tokens=5)
    assert told is not None
    return [probe, ending, Sighting(model="m", seen=replace(told, tenant=str(place)))]


def test_workers_hear_each_piece_of_news_of_the_others_once(tmp_path: Path) -> None:
    first, second, third = (Exchange(tmp_path, worker, 3) for worker in range(3))
    first.tell(news(1))
    third.tell(news(2))
    assert second.hear() == [*news(1), *news(2)]
    assert second.hear() == []
    assert first.hear() == news(2)
    first.tell(news(3))
    assert second.hear() == news(3)


def test_news_of_a_worker_that_was_started_anew_is_heard(tmp_path: Path) -> None:
    listening = Exchange(tmp_path, 1, 2)
    Exchange(tmp_path, 0, 2).tell([*news(1), *news(2)])
    assert len(listening.hear()) == 6
    Exchange(tmp_path, 0, 2).tell(news(3))
    assert listening.hear() == news(3)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"life":"a","told":[[1,"m"]]}', b"\xff"])
def test_a_damaged_file_of_a_neighbour_is_no_news(tmp_path: Path, text: bytes) -> None:
    listening = Exchange(tmp_path, 1, 2)
    (tmp_path / "backends-0.json").write_bytes(text)
    assert listening.hear() == []
    Exchange(tmp_path, 0, 2).tell(news(1))
    assert listening.hear() == news(1)
