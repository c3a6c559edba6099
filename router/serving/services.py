"""Every service of a worker, wired out of its room."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from router.execution.backends import Backends, Guards
from router.execution.caller import Trying
from router.execution.executor import Executor
from router.execution.keys import Keys
from router.execution.strategies import strategy
from router.execution.verifiers import Verifiers
from router.serving.admin_servicers import CatalogServicer, PoliciesServicer, SlosServicer
from router.serving.certificates_servicer import CertificatesServicer
from router.serving.clock import utc_now
from router.serving.continuing import Continuing
from router.serving.conversations import Conversations
from router.serving.deciding import Deciding
from router.serving.decisions import Decisions
from router.serving.door import Door
from router.serving.edge import Rpc
from router.serving.execution_servicer import ExecutionServicer
from router.serving.foretelling import by_certificates
from router.serving.outcomes import Outcomes
from router.serving.rehearsing import MOST_IN_A_WORKER, PAUSE_S, Rehearsals, Rehearsing
from router.serving.router_servicer import RouterServicer
from router.serving.routing import Routing
from router.serving.standing_in import StandingIn
from router.serving.surroundings import Surroundings
from router.serving.telemetry import logger
from router.settings import Settings

if TYPE_CHECKING:
    from router.serving.server import Room


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The methods of gRPC, and what else answers with them: the gateway among others."""

    rpcs: list[Rpc]
    executor: Executor
    deciding: Deciding
    outcomes: Outcomes


def services(room: Room) -> Services:
    """Wires them; nothing is called yet, but what calls the catalog's models is loaded."""
    decisions = _decisions(room)
    deciding = _deciding(room, decisions)
    router = RouterServicer(
        current=deciding.current,
        door=deciding.door,
        continuing=deciding.continuing,
        outcomes=deciding.outcomes,
        decisions=decisions,
    )
    executor = executor_of(room.settings)
    executor.backends.prepare(room.reloader.current.state.catalog.models)
    rpcs = [
        *router.rpcs(),
        *ExecutionServicer(executor, deciding).rpcs(),
        *_administration(room),
    ]
    return Services(rpcs=rpcs, executor=executor, deciding=deciding, outcomes=deciding.outcomes)


def executor_of(settings: Settings) -> Executor:
    """The executor as the settings want it; keys come from this process's environment."""
    guards = Guards(
        concurrency=settings.backend_concurrency, hedge_after_s=settings.backend_hedge_after_s
    )
    verifiers = Verifiers(code=settings.verifier_code, webhooks=settings.verifier_webhooks)
    return Executor(
        backends=Backends(Keys(dict(os.environ), settings.backend_keys_dir), guards),
        strategies=partial(strategy, verifiers=verifiers),
        trying=Trying(timeout_s=settings.backend_timeout_s),
        deadline_s=settings.execution_timeout_s,
    )


def _decisions(room: Room) -> Decisions:
    stores = room.stores
    return Decisions(
        stores.outbox, stores.log, room.threads, stores.decision_key, stores.neighbours
    )


def _deciding(room: Room, decisions: Decisions) -> Deciding:
    """What decides for callers, by gRPC and in this process."""
    conversations = Conversations()
    routing = _routing(room, conversations)
    continuing = _continuing(room, decisions, routing, conversations)
    outbox, wallets = room.stores.outbox, room.wallets
    return Deciding(
        current=room.reloader.current,
        door=Door(routing, room.tenants),
        continuing=continuing,
        standing_in=StandingIn(
            current=room.reloader.current,
            outbox=outbox,
            decisions=decisions,
            continuing=continuing,
            wallets=wallets,
        ),
        outcomes=Outcomes(outbox, decisions, watch=room.backends.report, wallets=wallets),
        wallets=wallets,
        log=logger(),
    )


def _routing(room: Room, conversations: Conversations) -> Routing:
    return Routing(
        current=room.reloader.current,
        outbox=room.stores.outbox,
        key=room.stores.decision_key,
        metrics=room.metrics,
        max_query_bytes=room.settings.max_query_bytes,
        exploration_rate=room.settings.exploration_rate,
        surroundings=Surroundings(
            tenants=room.tenants,
            backends=room.backends,
            wallets=room.wallets,
            conversations=conversations,
        ),
    )


def _continuing(
    room: Room, decisions: Decisions, routing: Routing, conversations: Conversations
) -> Continuing:
    return Continuing(
        current=room.reloader.current,
        outbox=room.stores.outbox,
        decisions=decisions,
        tenants=room.tenants,
        routing=routing,
        wallets=room.wallets,
        watch=room.backends.report,
        conversations=conversations,
    )


def _administration(room: Room) -> list[Rpc]:
    stores, current = room.stores, room.reloader.current
    policies = PoliciesServicer(
        stores.registry,
        stores.admin_registry,
        room.bundles.learned,
        room.threads,
        room.verifying,
    )
    rehearsals = Rehearsals(
        Rehearsing(
            stores.past,
            by_certificates(stores.promises),
            most=MOST_IN_A_WORKER,
            pause_s=PAUSE_S,
        ),
        current,
        room.rehearsing,
        utc_now,
    )
    slos = SlosServicer(stores.slos, stores.catalog, room.tenants, room.threads, rehearsals)
    return [
        *slos.rpcs(),
        *CertificatesServicer(stores.promises, room.threads).rpcs(),
        *CatalogServicer(stores.catalog, stores.admin_catalog, room.threads).rpcs(),
        *policies.rpcs(),
    ]
