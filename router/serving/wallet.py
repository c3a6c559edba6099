"""One slo's budgets as one worker holds them: how much it needs, and what a dollar counts for.

In memory alone: `budgets.py` leases and settles, and holds the lock around every call.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from router.errors import Infeasible
from router.policy.demand import Hour
from router.policy.fallback import estimate_tokens
from router.policy.pacing import LEASE_S, SHARE, ask_micro_usd, log_multiplier, spare_micro_usd
from router.policy.periods import elapsed_share, period_end, periods
from router.policy.table import ArmTable
from router.serving.habits import Habits
from router.serving.reservations import Account, cap_micro_usd, micro_usd
from router.slo import Slo
from router.store.promise_seams import BudgetRecord
from router.types import Bounds, Query

LOOK_S: Mapping[str, float] = {"hour": 1.0, "day": 5.0, "month": 30.0}
"""How often a period's budget is looked at and its spending settled."""

AHEAD = 4
IDLE_S = 30.0
FORGET_S = 3_600.0
LEAST_TOKENS = 512
NOBODY = Bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The most that the cheapest and the dearest of the slo's arms can cost."""

    cheapest_micro_usd: int
    dearest_micro_usd: int

    def and_of(self, others: Needs) -> Needs:
        """What covers both."""
        return Needs(
            cheapest_micro_usd=max(self.cheapest_micro_usd, others.cheapest_micro_usd),
            dearest_micro_usd=max(self.dearest_micro_usd, others.dearest_micro_usd),
        )


class Wallet:
    """The accounts of an slo's current periods, and those that close when their attempts end.

    `turn` is held by whoever leases or settles. `coming` counts decisions that were let
    through and have not reserved yet.
    """

    def __init__(self, tenant_id: UUID, slo: Slo, now: datetime) -> None:
        self.tenant_id, self.slo = tenant_id, slo
        self.accounts: dict[str, Account] = {}
        self.closing: list[Account] = []
        self.habits = Habits()
        self.turn = threading.Lock()
        self.needs = Needs(cheapest_micro_usd=0, dearest_micro_usd=0)
        self.coming = 0
        self.away = False
        self._known: dict[int, Needs | None] = {}
        self._table: ArmTable | None = None
        self._at = self._until = now
        self._used_s = self._rated_s = now.timestamp()
        self._reserved_micro_usd = 0
        self._per_s_micro_usd = 0.0
        self._take_on(slo, now)

    def adopt(self, slo: Slo, now: datetime) -> None:
        """Takes on a newer version of the slo, and the periods of now."""
        if slo.version > self.slo.version or now >= self._until:
            self._take_on(max(slo, self.slo, key=lambda each: each.version), now)

    def _take_on(self, slo: Slo, now: datetime) -> None:
        if slo.version != self.slo.version:
            self._known.clear()
        self._at = max(now, self._at)
        before, starts = self.accounts, periods(self._at)
        self.slo, self._until = slo, starts["hour"] + timedelta(hours=1)
        self.accounts = {
            period: self._account(before.get(period), period, starts[period], cap_micro_usd(budget))
            for period, budget in slo.budgets_usd.items()
        }
        kept = [id(account) for account in self.accounts.values()]
        self.closing += [account for account in before.values() if id(account) not in kept]

    def _account(
        self, before: Account | None, period: str, starts_at: datetime, cap: int
    ) -> Account:
        if before is not None and before.starts_at == starts_at:
            return before.under(cap)
        account = Account(
            period=period,
            starts_at=starts_at,
            cap_micro_usd=cap,
            left_micro_usd=cap,
            demand=self.habits.demand(period, starts_at),
        )
        if before is not None:
            account.pace = before.pace.next_period(cap, account.demand)
        return account

    def is_current(self, account: Account) -> bool:
        """Whether decisions of now reserve in it."""
        return self.accounts.get(account.period) is account

    @property
    def usable_micro_usd(self) -> int:
        """What the next attempt may cost: the least of the periods."""
        return min((each.usable_micro_usd for each in self.accounts.values()), default=0)

    @property
    def cost_multiplier(self) -> float:
        """What a dollar counts for under all periods' budgets."""
        return math.exp(self._log_multiplier)

    @property
    def _log_multiplier(self) -> float:
        return log_multiplier(each.pace for each in self.accounts.values())

    def expect(self, table: ArmTable, query: Query, decisions: int, now_s: float) -> Needs | None:
        """Notes that such decisions are to come; None where no arm may be run anyway."""
        if table is not self._table:
            self._table = table
            self._known.clear()
        tokens = max(query.input_tokens, 2 * estimate_tokens(query.text), LEAST_TOKENS)
        size = tokens.bit_length()
        if size not in self._known:
            self._known[size] = _needs(table, self.slo, 1 << size)
        needs = self._known[size]
        if needs is not None:
            self.needs = needs.and_of(self.needs) if self.coming else needs
            self._used_s = now_s
            self.coming += decisions
        return needs

    def reserved(self, most_micro_usd: int) -> None:
        """Notes what a decision has reserved."""
        self.coming = max(self.coming - 1, 0)
        self._reserved_micro_usd += most_micro_usd

    def rate(self, now_s: float) -> None:
        """Notes how fast attempts reserve; what was let through before counts no more."""
        passed_s = now_s - self._rated_s
        if passed_s <= 0.0:
            return
        recent = self._reserved_micro_usd / passed_s
        self._per_s_micro_usd += -math.expm1(-passed_s / LEASE_S) * (recent - self._per_s_micro_usd)
        self._reserved_micro_usd, self._rated_s, self.coming = 0, now_s, 0
        if not self.used(now_s):
            self._per_s_micro_usd = 0.0

    def short(self) -> bool:
        """Whether it holds too little for what comes to be free in its choice."""
        return any(
            account.usable_micro_usd < self._wanted(account, 1)
            for account in self.accounts.values()
        )

    def broke(self) -> bool:
        """Whether it holds too little for all that comes, whatever is chosen."""
        return self.usable_micro_usd < self.needs.cheapest_micro_usd * max(self.coming, 1)

    def hopeless(self) -> bool:
        """Whether a lease would not help, since of some period's budget nothing is left."""
        return any(
            not account.left_micro_usd and not self._covers(account)
            for account in self.accounts.values()
        )

    def stuck(self) -> bool:
        """Whether some period's budget, of which nothing is left, is too little for all."""
        coming_micro_usd = self.needs.cheapest_micro_usd * max(self.coming, 1)
        return any(
            not account.left_micro_usd and account.usable_micro_usd < coming_micro_usd
            for account in self.accounts.values()
        )

    def _covers(self, account: Account) -> bool:
        return account.usable_micro_usd >= self.needs.cheapest_micro_usd

    def ask(self, account: Account) -> int:
        """How much to lease now."""
        return ask_micro_usd(
            account.purse,
            left_micro_usd=account.left_micro_usd,
            per_s_micro_usd=self._per_s_micro_usd,
            need_micro_usd=self._wanted(account, AHEAD),
        )

    def spare(self, account: Account, now_s: float) -> int:
        """How much to give back now: all of what closes, and of an idle slo's."""
        if not self.is_current(account):
            return account.purse.free_micro_usd
        return spare_micro_usd(
            account.purse,
            left_micro_usd=account.left_micro_usd,
            per_s_micro_usd=self._per_s_micro_usd,
            need_micro_usd=self._wanted(account, AHEAD) if self.used(now_s) else 0,
        )

    def _wanted(self, account: Account, ahead: int) -> int:
        """What all that comes needs at the least, and some of the dearest while much is left."""
        free = min(ahead * self.needs.dearest_micro_usd, account.left_micro_usd // SHARE)
        return max(self.needs.cheapest_micro_usd * max(self.coming, 1), free)

    def used(self, now_s: float) -> bool:
        """Whether decisions were made of late."""
        return now_s - self._used_s <= IDLE_S

    def forgettable(self, now_s: float) -> bool:
        """Whether it holds nothing, and has not been used for so long that its prices are old."""
        held = any(each.open_count or not each.settled for each in self.accounts.values())
        return now_s - self._used_s > FORGET_S and not held and not self.closing

    def due(self, now_s: float) -> list[Account]:
        """The accounts that are to be looked at now: all, where more must be leased and can't."""
        every = [*self.accounts.values(), *self.closing]
        hurried = self.away or (self.used(now_s) and self.broke())
        return [each for each in every if hurried or now_s - each.looked_s >= LOOK_S[each.period]]

    def stop(self) -> None:
        """Lets the next turn give back all that is free."""
        self._used_s, self._per_s_micro_usd = -math.inf, 0.0
        for account in (*self.accounts.values(), *self.closing):
            account.looked_s = -math.inf

    def learn(self, hours: Iterable[Hour], records: Sequence[BudgetRecord], now: datetime) -> None:
        """Takes in past hours, and goes on where others are in what it has not looked at yet."""
        self.habits.take(hours, now)
        for account in self.accounts.values():
            name = self.slo.name, account.period
            past = [each for each in records if (each.slo_name, each.period) == name]
            account.demand = self.habits.demand(account.period, account.starts_at)
            account.pace = self.habits.usual(account.pace, account.period, account.starts_at, past)
            if account.looked_s == -math.inf:
                self._join(account, past, now)

    def _join(self, account: Account, past: Iterable[BudgetRecord], now: datetime) -> None:
        """Begins with the price that the spending of all so far asks for."""
        spent = sum(each.spent_micro_usd for each in past if each.starts_at == account.starts_at)
        until = period_end(account.period, account.starts_at)
        elapsed = elapsed_share(account.period, now)
        pace = replace(
            account.pace,
            elapsed=elapsed,
            began=0.0 if spent else elapsed,
            spent_micro_usd=spent,
            unpriced_micro_usd=self.habits.unpriced(spent, account.starts_at, until),
        )
        account.pace = pace.at_once(account.cap_micro_usd, account.demand)

    def look(self, due: Iterable[Account], records: Iterable[BudgetRecord], now: datetime) -> None:
        """Looks at what all workers have leased and spent, and moves the prices."""
        self.away, before = False, self._log_multiplier
        known = {
            (each.period, each.starts_at): each
            for each in records
            if each.slo_name == self.slo.name
        }
        for account in due:
            account.looked_s = now.timestamp()
            record = known.get((account.period, account.starts_at))
            leased = 0 if record is None else record.leased_micro_usd
            account.left_micro_usd = max(account.cap_micro_usd - leased, 0)
            account.spent_micro_usd = 0 if record is None else record.spent_micro_usd
            if self.is_current(account):
                account.pace = account.pace.look(
                    budget_micro_usd=account.cap_micro_usd,
                    spent_micro_usd=account.known_micro_usd,
                    elapsed=elapsed_share(account.period, now),
                    demand=account.demand,
                    log_multiplier=before,
                )

    def tidy(self) -> None:
        """Forgets periods that are over and settled."""
        self.closing = [each for each in self.closing if each.open_count or not each.settled]


def _needs(table: ArmTable, slo: Slo, input_tokens: int) -> Needs | None:
    try:
        allowed = table.eligible(Query(text="", input_tokens=0), slo, NOBODY)
    except Infeasible:
        return None
    most_usd = table.most_usd(input_tokens)[allowed]
    return Needs(
        cheapest_micro_usd=micro_usd(float(most_usd.min())),
        dearest_micro_usd=micro_usd(float(most_usd.max())),
    )
