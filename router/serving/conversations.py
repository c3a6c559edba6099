"""Conversations: which model answered last in each, as far as this worker decided it.

Nothing is shared: after a restart, or at another worker, a conversation is unknown until
its next turn, its decision has no conversation among its conditions, and that is logged.
A client's connection stays with one worker, and so do its conversations.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from router.conditions import Conversation
from router.policy.conversation import CACHE_LIFE_S

MOST_CONVERSATIONS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    conversation: Conversation
    at: datetime


class Conversations:
    """The conversations whose prompts a provider may still have; the least recent go first.

    Not thread-safe: it belongs to a worker's event loop. A conversation without an id is
    none.
    """

    def __init__(self, most: int = MOST_CONVERSATIONS) -> None:
        self._most = most
        self._turns: OrderedDict[tuple[UUID, str], _Turn] = OrderedDict()

    def __len__(self) -> int:
        return len(self._turns)

    def find(self, tenant_id: UUID, conversation_id: str, *, now: datetime) -> Conversation | None:
        """Where a tenant's conversation stands; None when it is unknown or its prompt is gone."""
        turn = self._turns.get((tenant_id, conversation_id))
        return turn.conversation if turn is not None and not _gone(turn, now) else None

    def answered(
        self,
        tenant_id: UUID,
        conversation_id: str,
        *,
        model: str,
        input_tokens: int,
        now: datetime,
    ) -> None:
        """Notes that a turn of so many input tokens goes to a model, which then has them."""
        if not conversation_id:
            return
        key = tenant_id, conversation_id
        conversation = Conversation(model=model, cached_tokens=input_tokens)
        self._turns[key] = _Turn(conversation=conversation, at=now)
        self._turns.move_to_end(key)
        self._forget(now)

    def continued(
        self,
        tenant_id: UUID,
        conversation_id: str,
        *,
        model: str,
        input_tokens: int,
        now: datetime,
    ) -> None:
        """Notes that an attempt took a turn to a model, unless a later, longer turn came since."""
        turn = self.find(tenant_id, conversation_id, now=now)
        if turn is None or turn.cached_tokens <= input_tokens:
            self.answered(
                tenant_id, conversation_id, model=model, input_tokens=input_tokens, now=now
            )

    def _forget(self, now: datetime) -> None:
        """Drops what is too much, and what a provider has dropped."""
        while self._turns:
            oldest = next(iter(self._turns.values()))
            if len(self._turns) <= self._most and not _gone(oldest, now):
                return
            self._turns.popitem(last=False)


def _gone(turn: _Turn, now: datetime) -> bool:
    return (now - turn.at).total_seconds() > CACHE_LIFE_S
