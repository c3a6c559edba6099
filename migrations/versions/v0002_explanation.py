"""Adds what moved a choice to decisions, where the caller asked for it.

A nullable column without a default rewrites no row, in any partition.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """May run twice; gives up after a second when a partition is in use for longer."""
    op.execute("set local role leadline_owner")
    op.execute("alter table decisions add column if not exists explanation jsonb")
    op.execute("reset role")
