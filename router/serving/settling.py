"""Leases and settles one worker's wallets in Postgres; whatever is here blocks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime

from router.errors import Unavailable
from router.serving.habits import asked_since
from router.serving.reservations import Account
from router.serving.telemetry import Logger, Metrics
from router.serving.wallet import Wallet
from router.store.costs import Costs
from router.store.promise_seams import Budgets


class Settling:
    """The thread's side of wallets, whose `lock` is held for microseconds, never over I/O.

    What a purse gives up is taken out before Postgres is told, and what it gets is put in
    afterwards: a call that fails on the way is not repeated, and its lease stays leased.
    """

    def __init__(
        self,
        budgets: Budgets,
        costs: Costs,
        lock: threading.Lock,
        metrics: Metrics,
        log: Logger,
    ) -> None:
        self._budgets, self._costs, self._lock = budgets, costs, lock
        self._metrics, self._log = metrics, log

    def lease(self, wallet: Wallet, now_s: float) -> None:
        """Leases what the wallet needs now; what closes gives back first what it holds."""
        with wallet.turn:
            for account in tuple(wallet.closing):
                self._settle(wallet, account, now_s)
            for account in tuple(wallet.accounts.values()):
                self._lease(wallet, account)

    def turn(self, wallet: Wallet, now: datetime) -> None:
        """One wallet's turn. The read comes first: what follows is lost where it fails."""
        now_s = now.timestamp()
        if wallet.used(now_s):
            self._learn(wallet, now)
        with wallet.turn:
            with self._lock:
                wallet.adopt(wallet.slo, now)
                wallet.rate(now_s)
                due = wallet.due(now_s)
            if due:
                self._look(wallet, due, now)
            for account in due:
                self._settle(wallet, account, now_s)
            for account in tuple(wallet.accounts.values()) if wallet.used(now_s) else ():
                self._lease(wallet, account)
            with self._lock:
                wallet.tidy()

    def _learn(self, wallet: Wallet, now: datetime) -> None:
        """Reads the hours that are missing; without them, demand is expected as before."""
        tenant_id, name = wallet.tenant_id, wallet.slo.name
        since = wallet.habits.missing(now)
        if since is None:
            return
        try:
            hours = self._costs.hours(tenant_id, name, since, now)
            records = self._budgets.spent(tenant_id, asked_since(wallet.accounts, now))
        except Unavailable as error:
            self._log.warning("demand not read", slo=name, error=str(error))
            return
        with self._lock:
            wallet.adopt(wallet.slo, now)
            wallet.learn(hours, records, now)

    def _look(self, wallet: Wallet, due: Sequence[Account], now: datetime) -> None:
        since = min(account.starts_at for account in due)
        records = self._budgets.spent(wallet.tenant_id, since)
        with self._lock:
            wallet.look(due, records, now)
        for account in wallet.accounts.values():
            self._metrics.budget(
                str(wallet.tenant_id),
                wallet.slo.name,
                account.period,
                spent=account.spent_share,
                price=account.pace.mu,
            )

    def _settle(self, wallet: Wallet, account: Account, now_s: float) -> None:
        """Takes out first and tells then: a settlement that fails is never repeated."""
        with self._lock:
            spent, back = account.settlement(wallet.spare(account, now_s))
        if spent or back:
            self._budgets.settle(
                wallet.tenant_id,
                wallet.slo.name,
                account.period,
                account.starts_at,
                spent_micro_usd=spent,
                give_back_micro_usd=back,
            )

    def _lease(self, wallet: Wallet, account: Account) -> None:
        with self._lock:
            asked, cap = wallet.ask(account), account.cap_micro_usd
        if not asked:
            return
        granted = self._budgets.lease(
            wallet.tenant_id,
            wallet.slo.name,
            account.period,
            account.starts_at,
            cap_micro_usd=cap,
            ask_micro_usd=asked,
        )
        with self._lock:
            account.leased(asked, granted)
