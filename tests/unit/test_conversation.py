"""Conversations: the price of switching models, no flapping, and what a worker knows of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.conditions import Conversation
from router.policy.conversation import (
    CACHE_LIFE_S,
    FURTHER_TURNS,
    LEAST_CACHED_TOKENS,
    cached_saving_usd,
    discounted,
    staying_usd,
)
from router.policy.table import ArmTable
from router.serving.conversations import Conversations
from router.types import Arm, Catalog, Floats, Model
from tests.kit.policies import predictions

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TENANT, OTHER = UUID(int=1), UUID(int=2)
LARGE = Model(
    name="large", input_usd_per_mtok=4.0, output_usd_per_mtok=16.0, cached_input_usd_per_mtok=1.0
)
MODELS = (
    LARGE,
    replace(LARGE, name="small", input_usd_per_mtok=1.0, cached_input_usd_per_mtok=0.1),
    replace(LARGE, name="forgetful", cached_input_usd_per_mtok=None),
)
ARMS = tuple(
    Arm(model=model.name, strategy=strategy, params=params)
    for model in MODELS
    for strategy, params in (
        ("single", {}),
        ("self_consistency", {"samples": 5, "base": "single"}),
        ("refinement", {"rounds": 2}),
    )
)
TABLE = ArmTable(Catalog(models=MODELS, arms=ARMS))

some_tokens = st.integers(0, 100_000)
some_conversations = st.builds(
    Conversation,
    model=st.sampled_from(["large", "small", "forgetful", "retired"]),
    cached_tokens=some_tokens,
)
some_values = st.lists(st.floats(-1.0, 1.0), min_size=len(ARMS), max_size=len(ARMS)).map(np.array)


def pick(values: Floats, conversation: Conversation, input_tokens: int) -> int:
    """The arm that is worth most, once staying counts."""
    known = TABLE, conversation, input_tokens
    return int(np.argmax(values + cached_saving_usd(*known) + staying_usd(*known)))


def test_every_call_that_stays_pays_the_cached_price_for_what_is_kept() -> None:
    conversation = Conversation(model="large", cached_tokens=2_000)
    saving = cached_saving_usd(TABLE, conversation, 3_000)
    one_call = 2_000 * (4.0 - 1.0) / 1e6
    assert saving[0] == pytest.approx(one_call)
    assert saving[1] == pytest.approx(5 * one_call)
    assert saving[2] == pytest.approx(TABLE.calls[2] * one_call)
    assert not saving[3:].any()


@given(some_conversations, some_tokens)
def test_only_the_last_model_saves_and_never_less_than_nothing(
    conversation: Conversation, input_tokens: int
) -> None:
    for found in (cached_saving_usd, staying_usd):
        saving = found(TABLE, conversation, input_tokens)
        assert (saving >= 0.0).all()
        elsewhere = [arm.model != conversation.model for arm in ARMS]
        assert not saving[elsewhere].any()
        assert not saving[6:].any(), "a model without a cached price saves nothing"


@given(some_conversations, some_tokens, some_tokens, some_tokens)
def test_more_that_is_kept_never_saves_less(
    conversation: Conversation, more: int, input_tokens: int, longer: int
) -> None:
    kept = replace(conversation, cached_tokens=conversation.cached_tokens + more)
    for found in (cached_saving_usd, staying_usd):
        least = found(TABLE, conversation, input_tokens)
        assert (found(TABLE, kept, input_tokens) >= least).all()
        assert (found(TABLE, conversation, input_tokens + longer) >= least).all()


@given(some_values, some_conversations, some_tokens, some_tokens)
def test_more_that_is_kept_never_makes_a_conversation_leave(
    values: Floats, conversation: Conversation, more: int, input_tokens: int
) -> None:
    kept = replace(conversation, cached_tokens=conversation.cached_tokens + more)
    if ARMS[pick(values, conversation, input_tokens)].model == conversation.model:
        assert ARMS[pick(values, kept, input_tokens)].model == conversation.model


@given(some_values, some_conversations, some_tokens)
def test_a_switch_gains_more_than_staying_saves_over_the_expected_rest(
    values: Floats, conversation: Conversation, input_tokens: int
) -> None:
    values = values * 0.5
    picked = pick(values, conversation, input_tokens)
    saving = cached_saving_usd(TABLE, conversation, input_tokens)
    stays = np.array([arm.model == conversation.model for arm in ARMS])
    if stays.any() and not stays[picked]:
        rest = saving + FURTHER_TURNS * saving / TABLE.calls
        assert (values[picked] - values[stays] >= rest[stays] - 1e-12).all()


def test_a_prompt_too_short_to_be_kept_saves_nothing() -> None:
    short = Conversation(model="large", cached_tokens=LEAST_CACHED_TOKENS - 1)
    assert not cached_saving_usd(TABLE, short, 5_000).any()
    enough = replace(short, cached_tokens=LEAST_CACHED_TOKENS)
    assert cached_saving_usd(TABLE, enough, 5_000).any()
    assert not cached_saving_usd(TABLE, enough, LEAST_CACHED_TOKENS - 1).any()


@given(some_values.map(np.abs), some_conversations, some_tokens)
def test_a_discount_never_raises_a_cost_nor_makes_it_nothing(
    cost_usd: Floats, conversation: Conversation, input_tokens: int
) -> None:
    before = predictions(np.full(len(ARMS), 0.5), cost_usd + 1e-6, np.ones(len(ARMS)))
    after = discounted(before, cached_saving_usd(TABLE, conversation, input_tokens))
    assert (after.cost_usd <= before.cost_usd).all()
    assert (after.cost_usd > 0.0).all()


def _walk(*, keeps: bool, seed: int) -> tuple[int, float]:
    """Switches in, and what is gained by, many conversations whose turns favour either model.

    Predictions err as much as turns differ; a model has the prompt that it was sent last.
    """
    rng, switches, gained_usd = np.random.default_rng(seed), 0, 0.0
    per_token = TABLE.cached_saving_usd_per_token[[0, 3]]
    for _ in range(500):
        kept, at, tokens = np.zeros(2), None, 1_500
        while at is None or rng.random() < 0.5:
            worth = rng.normal(0.0, 5e-3, 2)
            seen = worth + rng.normal(0.0, 5e-3, 2)
            if keeps and at is not None:
                values = np.full(len(ARMS), -1.0)
                values[[0, 3]] = seen
                last = Conversation(model=MODELS[at].name, cached_tokens=int(kept[at]))
                now = pick(values, last, tokens) // 3
            else:
                now = int(seen.argmax())
            switches += at is not None and now != at
            gained_usd += worth[now] + kept[now] * per_token[now]
            kept[now], at, tokens = tokens, now, tokens + 500
    return switches, gained_usd


def test_conversations_flap_less_and_gain_by_it() -> None:
    for seed in range(3):
        (few, more_usd), (many, less_usd) = (_walk(keeps=each, seed=seed) for each in (True, False))
        assert few < 0.7 * many
        assert more_usd > less_usd


def test_a_worker_knows_the_last_turn_until_the_prompt_is_gone() -> None:
    known = Conversations()
    for model, tokens in (("small", 900), ("large", 1_700)):
        known.answered(TENANT, "c", model=model, input_tokens=tokens, now=NOW)
    expected = Conversation(model="large", cached_tokens=1_700)
    assert known.find(TENANT, "c", now=NOW + timedelta(seconds=CACHE_LIFE_S)) == expected
    assert known.find(TENANT, "c", now=NOW + timedelta(seconds=CACHE_LIFE_S + 1)) is None


def test_conversations_of_other_tenants_and_without_an_id_are_unknown() -> None:
    known = Conversations()
    known.answered(TENANT, "c", model="large", input_tokens=2_000, now=NOW)
    known.answered(TENANT, "", model="large", input_tokens=2_000, now=NOW)
    assert known.find(OTHER, "c", now=NOW) is None
    assert known.find(TENANT, "", now=NOW) is None
    assert len(known) == 1


def test_a_worker_keeps_the_recent_conversations_and_forgets_those_that_are_gone() -> None:
    known = Conversations(most=3)
    for second in range(5):
        at = NOW + timedelta(seconds=second)
        known.answered(TENANT, f"c{second}", model="large", input_tokens=2_000, now=at)
        known.answered(TENANT, "c0", model="small", input_tokens=2_000, now=at)
    assert [bool(known.find(TENANT, f"c{each}", now=NOW)) for each in range(5)] == [
        *(True, False, False, True, True)
    ]
    known.answered(TENANT, "late", model="small", input_tokens=9, now=NOW + timedelta(hours=1))
    assert len(known) == 1
