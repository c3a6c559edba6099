"""Every error that Leadline raises on purpose.

    LeadlineError
    ├── InvalidInput            bad value from outside; names the field
    │   └── BadRows             rows of an outcome log that were refused, by number
    ├── Unauthenticated         no key, or not one of ours
    ├── PermissionDenied        a key without the role that the call needs
    ├── NotFound                unknown here, or another tenant's (the two are not told apart)
    ├── Conflict                the same request_id with another body, or a stale version
    ├── Infeasible              no arm meets the slo, and the slo says reject
    ├── OutboxFull              the outbox has reached its bound, or the disk is full
    ├── Unavailable             a part that we need is away; trying again is safe
    ├── BackendFailed           no backend answered (execution.backend)
    ├── AllowanceSpent          what an attempt may spend is spent (execution.strategy)
    ├── BundleRefused           a policy bundle that we will not serve
    ├── MigrationNeeded         the database is not at this version's schema
    └── ConfigurationError      settings that contradict each other, a port in use

The class docstring is the default message. `reason` is one of the closed set in
`protos/router/v1/errors.proto`; `serving/status.py` maps classes to gRPC codes and
`cli.py` prints the message in one line.
"""

from __future__ import annotations

from collections.abc import Sequence


class LeadlineError(Exception):
    """Leadline failed."""

    reason = "INTERNAL"

    def __init__(self, message: str | None = None, *, reason: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])
        if reason is not None:
            self.reason = reason

    @property
    def message(self) -> str:
        """The sentence that says what is wrong and what to do."""
        return str(self.args[0])


class InvalidInput(LeadlineError):
    """The input is not valid."""

    reason = "INVALID_FIELD"

    def __init__(
        self, message: str | None = None, *, field: str = "", reason: str | None = None
    ) -> None:
        super().__init__(f"{field}: {message}" if field and message else message, reason=reason)
        self.field = field


class BadRows(InvalidInput):
    """Rows of the outcome log were refused."""

    reason = "BAD_ROWS"

    def __init__(self, rows: Sequence[tuple[int, str]], *, total: int) -> None:
        """`rows` holds (row number from 1, why) of every refused row; `total` counts all rows."""
        shown = "; ".join(f"row {number}: {why}" for number, why in rows[:10])
        more = f"; and {len(rows) - 10} more" if len(rows) > 10 else ""
        super().__init__(
            f"{len(rows)} of {total} rows are refused: {shown}{more}. "
            "Mend them, or leave them out with --skip-bad-rows."
        )
        self.rows = tuple(rows)
        self.total = total


class Unauthenticated(LeadlineError):
    """Send an API key as metadata 'authorization: Bearer ll_...'."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(LeadlineError):
    """The key's role may not make the call."""

    reason = "ROLE_MISSING"


class NotFound(LeadlineError):
    """There is no such thing here."""

    reason = "NOT_FOUND"


class Conflict(LeadlineError):
    """Another write came first; read again and retry."""

    reason = "CONFLICT"


class Infeasible(LeadlineError):
    """No arm meets the slo; relax it or set on_infeasible to best_effort."""

    reason = "SLO_INFEASIBLE"


class OutboxFull(LeadlineError):
    """The outbox is full; bring Postgres back, or raise LEADLINE_OUTBOX_MAX_BYTES."""

    reason = "OUTBOX_FULL"


class Unavailable(LeadlineError):
    """A part that this call needs is away; try again."""

    reason = "UNAVAILABLE"


class BundleRefused(LeadlineError):
    """The policy bundle was refused; the policy in service goes on."""

    reason = "BUNDLE_REFUSED"


class MigrationNeeded(LeadlineError):
    """The database is not at this version's schema; run 'leadline db upgrade'."""

    reason = "MIGRATION_NEEDED"


class ConfigurationError(LeadlineError):
    """The settings do not work together."""

    reason = "CONFIGURATION"
