"""Conversation: what it costs to switch models inside one, since a provider keeps prompts.

What the last model still has of the prompt is cheaper there, and lost elsewhere. So a
switch must gain more than staying saves, on this turn and on those that may follow.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from router.conditions import Conversation
from router.policy.spending import LEAST_COST_USD
from router.policy.table import ArmTable
from router.types import Floats, Predictions

LEAST_CACHED_TOKENS = 1_024
"""No shorter prompt is kept: the published minimum of OpenAI, and of most of Anthropic's models."""

CACHE_LIFE_S = 300.0
"""A prompt is kept so long after its last use: five minutes at Anthropic, 5-10 at OpenAI."""

CONTINUED = 0.5
"""How probable one more turn is after any: conversations of 2.0 turns in the mean, as in
LMSYS-Chat-1M (Zheng and others 2023), if their length is geometric."""

FURTHER_TURNS = CONTINUED / (1.0 - CONTINUED)
"""So many turns are expected after this one."""


def cached_tokens(conversation: Conversation, input_tokens: int) -> int:
    """What the last model still has of the prompt; 0 where it is too short to be kept."""
    tokens = min(conversation.cached_tokens, input_tokens)
    return tokens if tokens >= LEAST_CACHED_TOKENS else 0


def cached_saving_usd(table: ArmTable, conversation: Conversation, input_tokens: int) -> Floats:
    """What each arm costs less on this turn, since its model has the prompt, shape (a,).

    Every call of a strategy reads what is kept. The law: never negative, 0 for every model
    but the last one, and no less where more is kept or the prompt is longer.
    """
    return np.asarray(table.calls * _per_call_usd(table, conversation, input_tokens))


def staying_usd(table: ArmTable, conversation: Conversation, input_tokens: int) -> Floats:
    """What each arm of the last model is worth beyond that, so that choices do not flap, (a,).

    What one call saves, on each turn that is expected to follow: with the saving of this
    turn, a switch must gain about twice what is lost, which is also what it costs to come
    back. Obeys the law of `cached_saving_usd`.
    """
    return np.asarray(FURTHER_TURNS * _per_call_usd(table, conversation, input_tokens))


def discounted(predictions: Predictions, saving_usd: Floats) -> Predictions:
    """The predictions of arms that cost so much less (a,), but never nothing."""
    cost_usd = np.maximum(predictions.cost_usd - saving_usd, LEAST_COST_USD)
    return replace(predictions, cost_usd=np.minimum(cost_usd, predictions.cost_usd))


def _per_call_usd(table: ArmTable, conversation: Conversation, input_tokens: int) -> Floats:
    """What one call of each arm saves, shape (a,)."""
    stays = table.of_model(conversation.model)
    tokens = cached_tokens(conversation, input_tokens)
    return np.asarray(stays * table.cached_saving_usd_per_token * tokens)
