"""Clients of the server: `Client` blocks, `AsyncClient` awaits; both say the same things."""

from router.clients.aio import AsyncClient
from router.clients.connection import Tls
from router.clients.executing import Answered, Chosen, ExecutedAttempt, Noted, Written
from router.clients.running import Attempt, Run
from router.clients.sync import Client
from router.clients.values import (
    DecisionRecord,
    DryRun,
    NextStep,
    OutcomeRecord,
    OutcomeReport,
    OutcomesSummary,
    Prediction,
    RefusedOutcome,
    RoutedDecision,
    SloWarning,
)

__all__ = [
    "Answered",
    "AsyncClient",
    "Attempt",
    "Chosen",
    "Client",
    "DecisionRecord",
    "DryRun",
    "ExecutedAttempt",
    "NextStep",
    "Noted",
    "OutcomeRecord",
    "OutcomeReport",
    "OutcomesSummary",
    "Prediction",
    "RefusedOutcome",
    "RoutedDecision",
    "Run",
    "SloWarning",
    "Tls",
    "Written",
]
