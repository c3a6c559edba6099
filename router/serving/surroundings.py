"""What holds around a query in this worker: its decision's conditions, and its marks on them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from router.conditions import PLAIN, Conditions
from router.policy.table import ArmTable
from router.serving.asked import Asked
from router.serving.backends import Board
from router.serving.budgets import Wallets
from router.serving.conversations import Conversations
from router.serving.mean_costs import MeanCosts
from router.serving.tenants import TenantDirectory
from router.slo import Slo
from router.types import Decision

_NOTHING = (None, None, None, None)


class Surroundings:
    """Gathers the conditions of decisions, in microseconds; belongs to the event loop."""

    def __init__(
        self,
        *,
        tenants: TenantDirectory,
        backends: Board,
        wallets: Wallets,
        conversations: Conversations,
    ) -> None:
        self._tenants, self._backends = tenants, backends
        self._wallets, self._conversations = wallets, conversations
        self._mean_costs = MeanCosts()

    async def ready(self, tenant_id: UUID, slo: Slo, table: ArmTable, question: Asked) -> None:
        """Sees to what a decision of this slo needs first. Raises what `Wallets.ready` does."""
        await self._wallets.ready(tenant_id, slo, table, question.query)

    def conditions(
        self, tenant_id: UUID, slo: Slo, question: Asked, policy_version: int, now: datetime
    ) -> Conditions:
        """The conditions of one decision."""
        promise = self._tenants.promise(tenant_id, slo, policy_version) if slo.has_floor else None
        held = self._wallets.held(tenant_id, slo)
        conversation = (
            self._conversations.find(tenant_id, question.conversation_id, now=now)
            if question.conversation_id
            else None
        )
        backends = self._backends.now(now.timestamp())
        mean_cost_usd = (
            self._mean_costs.now(tenant_id, slo, policy_version) if slo.has_directed else None
        )
        unusual = (promise, held, conversation, mean_cost_usd)
        if unusual == _NOTHING and not backends:
            return PLAIN
        return Conditions(
            promise=promise,
            backends=backends,
            cost_multiplier=1.0 if held is None else held.cost_multiplier,
            budget_left_usd=None if held is None else held.left_usd,
            conversation=conversation,
            mean_cost_usd=mean_cost_usd,
        )

    def reserve(self, tenant_id: UUID, decision: Decision, table: ArmTable) -> None:
        """Sets aside what a decision may cost. Raises what `Wallets.reserve` does."""
        self._wallets.reserve(tenant_id, decision, table)

    def logged(self, tenant_id: UUID, question: Asked, decision: Decision, now: datetime) -> None:
        """Takes note of a decision that is new in the log."""
        self._backends.routed(tenant_id, decision, now)
        if decision.slo.has_directed:
            self._mean_costs.decided(tenant_id, decision)
        if question.conversation_id:
            self._conversations.answered(
                tenant_id,
                question.conversation_id,
                model=decision.arm.model,
                input_tokens=decision.input_tokens,
                now=now,
            )

    def withdrawn(self, tenant_id: UUID, decision: Decision) -> None:
        """Undoes what a decision holds that was not logged after all."""
        if decision.conditions.budget_left_usd is not None:
            self._wallets.release(tenant_id, decision.decision_id)
