"""What a worker may spend of every slo's budgets: leased ahead, reserved per attempt, settled.

One worker keeps the book of an attempt, the one that reserved it: it hears what the attempt
cost from its own caller, or reads it where all outcomes arrive. So nothing is counted twice,
whichever worker or replica was told. A worker that dies leaves its lease leased.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from router.errors import Unavailable
from router.policy.table import ArmTable
from router.serving.clock import Clock, utc_now
from router.serving.hearing import Hearing
from router.serving.reservations import Key, Reservation, Reservations, micro_usd
from router.serving.settling import Settling
from router.serving.telemetry import Logger, Metrics
from router.serving.threads import Threads
from router.serving.wallet import Wallet
from router.slo import Slo
from router.store.costs import Costs
from router.store.promise_seams import Budgets
from router.types import Decision, Query

TURN_S = 1.0
MOST_FILLS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a decision's conditions say of budgets: their price, and what may be spent now."""

    cost_multiplier: float
    left_usd: float


class Wallets:
    """Every slo's budgets in this worker.

    All but `ready` answer in microseconds and belong to the event loop; `turn` is for the
    thread of its own. An slo without budgets is never looked up. Each slo keeps its own: what
    a tenant may spend in all is the sum over its slos, and none borrows from another.
    """

    def __init__(
        self,
        budgets: Budgets,
        costs: Costs,
        threads: Threads,
        metrics: Metrics,
        log: Logger,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._threads, self._log, self._clock = threads, log, clock
        self._lock = threading.Lock()
        self._settling = Settling(budgets, costs, self._lock, metrics, log)
        self._wallets: dict[tuple[UUID, str], Wallet] = {}
        self._reservations = Reservations()
        self._hearing = Hearing(costs, self._reservations, self._lock, log)
        self._filling: dict[tuple[UUID, str], asyncio.Task[None]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="budgets", daemon=True)

    async def ready(
        self, tenant_id: UUID, slo: Slo, table: ArmTable, query: Query, *, decisions: int = 1
    ) -> None:
        """Sees to it that so many decisions can be paid for, before they are made.

        Does nothing for an slo without budgets. Raises Unavailable when too little is held and
        Postgres, which alone may lease more, is away; without it what is held is spent.
        """
        if not slo.has_budgets:
            return
        now = self._clock()
        with self._lock:
            wallet = self._found(tenant_id, slo, now)
            needs = wallet.expect(table, query, decisions, now.timestamp())
            if needs is None or not wallet.short():
                return
            broke, hopeless = wallet.broke(), wallet.hopeless()
        if not hopeless and not wallet.away:
            filling = self._fill_soon(wallet)
            if broke:
                await self._filled_up(wallet, filling)
        if wallet.away and wallet.usable_micro_usd < needs.cheapest_micro_usd:
            raise Unavailable(
                f"what this worker holds of the budgets of slo {slo.name!r:.80} is spent, and "
                "more can't be leased while Postgres is away; try again"
            )

    def held(self, tenant_id: UUID, slo: Slo) -> Held | None:
        """What holds for the next decision of this slo; None where it has no budgets."""
        if not slo.has_budgets:
            return None
        now = self._clock()
        with self._lock:
            wallet = self._found(tenant_id, slo, now)
            if not wallet.accounts:
                return None
            return Held(
                cost_multiplier=wallet.cost_multiplier, left_usd=wallet.usable_micro_usd / 1e6
            )

    def reserve(self, tenant_id: UUID, decision: Decision, table: ArmTable) -> bool:
        """Reserves the most that the decision's arm can cost, before the next one is made.

        False where its conditions name no budget, or it has reserved already. Raises
        Infeasible (BUDGET_EXHAUSTED) when what was held is gone meanwhile.
        """
        if decision.conditions.budget_left_usd is None:
            return False
        index = decision.choice.index
        return self.reserve_next(
            tenant_id,
            decision.slo,
            decision.decision_id,
            0,
            expected_usd=float(decision.predictions.cost_usd[index]),
            most_usd=float(table.most_usd(decision.input_tokens)[index]),
        )

    def reserve_next(
        self,
        tenant_id: UUID,
        slo: Slo,
        decision_id: UUID,
        attempt: int,
        *,
        expected_usd: float,
        most_usd: float,
    ) -> bool:
        """As `reserve`, for an attempt that Continue names; False for an slo without budgets."""
        if not slo.has_budgets:
            return False
        key, now = (tenant_id, decision_id, attempt), self._clock()
        most = micro_usd(most_usd)
        with self._lock:
            wallet = self._found(tenant_id, slo, now)
            again = self._reservations.get(key)
            if again is not None:
                again.times += 1
                return False
            self._reservations.open(
                Reservation(
                    key=key,
                    slo=slo,
                    accounts=tuple(wallet.accounts.values()),
                    most_micro_usd=most,
                    expected_micro_usd=min(micro_usd(expected_usd), most),
                    since_s=now.timestamp(),
                )
            )
            wallet.reserved(most)
        return True

    def release(self, tenant_id: UUID, decision_id: UUID, attempt: int = 0) -> None:
        """Undoes one call of `reserve`, for a decision that was not logged after all."""
        with self._lock:
            reservation = self._reservations.get((tenant_id, decision_id, attempt))
            if reservation is None:
                return
            reservation.times -= 1
            if not reservation.times and reservation.cost_micro_usd is None:
                reservation.book(0)
                self._reservations.close(reservation)

    def spent(self, tenant_id: UUID, decision_id: UUID, attempt: int, cost_usd: float) -> None:
        """Counts what an attempt cost in place of its reservation; again: the difference.

        One that another worker reserved is that worker's to count. What comes after TIMEOUT_S
        counts in the periods of now; what a caller tried by itself, once the log tells that
        Continue did not name it to another worker.
        """
        key, now = (tenant_id, decision_id, attempt), self._clock()
        with self._lock:
            reservation = self._reservations.get(key) or self._unreserved(key, now)
            if reservation is not None and not reservation.unnamed:
                reservation.told(micro_usd(cost_usd), now.timestamp())

    def _unreserved(self, key: Key, now: datetime) -> Reservation | None:
        """What has ended, or was never reserved: opened, where its decision is this worker's."""
        ended = self._reservations.ended(key)
        known = ended or self._reservations.first(key)
        if known is None:
            return None
        accounts = tuple(self._found(key[0], known.slo, now).accounts.values())
        opens = self._reservations.open_unnamed if ended is None else self._reservations.reopen
        return opens(key, known, accounts, now.timestamp())

    def turn(self, now: datetime) -> None:
        """Settles, gives back, leases ahead, moves the prices and rolls over; blocks.

        The first wallet that finds Postgres away ends the turn for all.
        """
        for place, wallet in tuple(self._wallets.items()):
            try:
                self._settling.turn(wallet, now)
            except Unavailable as error:
                self._lost(wallet, error)
                break
            except Exception as error:  # noqa: BLE001 (others' budgets go on)
                self._lost(wallet, error)
            if wallet.forgettable(now.timestamp()):
                self._wallets.pop(place, None)
        self._hearing.turn(now.timestamp())

    def start(self) -> None:
        """Begins to take turns."""
        self._thread.start()

    def close(self) -> None:
        """Stops; settles and gives back what is free. What is reserved stays leased."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        for wallet in tuple(self._wallets.values()):
            with self._lock:
                wallet.stop()
        self.turn(self._clock())

    def _found(self, tenant_id: UUID, slo: Slo, now: datetime) -> Wallet:
        place = (tenant_id, slo.name)
        wallet = self._wallets.get(place)
        if wallet is None:
            wallet = self._wallets[place] = Wallet(tenant_id, slo, now)
        wallet.adopt(slo, now)
        return wallet

    def _fill_soon(self, wallet: Wallet) -> asyncio.Task[None]:
        """Leases in a thread, once for all that wait."""
        place = (wallet.tenant_id, wallet.slo.name)
        filling = self._filling.get(place)
        if filling is None or filling.done():
            filling = asyncio.ensure_future(self._fill(wallet))
            self._filling[place] = filling
            filling.add_done_callback(lambda done: self._filled(place, done))
        return filling

    async def _filled_up(self, wallet: Wallet, filling: asyncio.Task[None]) -> None:
        """Waits for the lease, and for further ones where it was asked for before all had come."""
        for _ in range(MOST_FILLS):
            await asyncio.shield(filling)
            with self._lock:
                if not wallet.broke() or wallet.stuck() or wallet.away:
                    return
            filling = self._fill_soon(wallet)

    def _filled(self, place: tuple[UUID, str], done: asyncio.Task[None]) -> None:
        if self._filling.get(place) is done:
            del self._filling[place]

    async def _fill(self, wallet: Wallet) -> None:
        try:
            await self._threads.run(self._settling.lease, wallet, self._clock().timestamp())
        except Exception as error:  # noqa: BLE001 (nobody may wait for this task)
            self._lost(wallet, error)

    def _lost(self, wallet: Wallet, error: Exception) -> None:
        if not wallet.away:
            kind = type(error).__name__
            self._log.warning(
                "budgets not leased", slo=wallet.slo.name, kind=kind, error=str(error)
            )
        wallet.away = True

    def _follow(self) -> None:
        while not self._stopping.wait(TURN_S):
            try:
                self.turn(self._clock())
            except Exception as error:  # noqa: BLE001 (the thread must live)
                self._log.error("budgets failed", kind=type(error).__name__, exc_info=True)
